//! The ward algebra: composing wards in any order only ever tightens.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;

use cantrip_gates::{HostPatterns, ResolvedWards, WardError, Wards};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::json;

fn number() -> impl Strategy<Value = Option<u64>> {
    option::of(prop_oneof![0_u64..5, Just(u64::MAX), any::<u64>()])
}

fn names() -> impl Strategy<Value = Option<BTreeSet<String>>> {
    let name = prop::sample::select(vec!["done", "echo", "read_file", "search"]);
    option::of(btree_set(name.prop_map(str::to_owned), 0..4))
}

fn hosts() -> impl Strategy<Value = HostPatterns> {
    let pattern = prop::sample::select(vec![
        "*",
        "*:443",
        "a.net",
        "a.net:80",
        "a.net:443",
        "*.a.net",
        "*.a.net:80",
        "b.a.net",
        "*.b.a.net",
        "c.b.a.net:80",
        "d.org",
        "*.org",
        "127.0.0.1",
        "[::1]:80",
    ]);
    vec(pattern, 0..6).prop_map(|patterns| HostPatterns::parse(patterns).expect("patterns"))
}

fn wards() -> impl Strategy<Value = Wards> {
    let numbers = vec(number(), 12);
    let rest = (any::<bool>(), any::<bool>(), names(), names(), option::of(hosts()));
    (numbers, rest).prop_map(|(numbers, (require_done_tool, no_trifecta, child_media, child_gates, allow_hosts))| {
        let mut numbers = numbers.into_iter();
        let mut next = || numbers.next().flatten();
        Wards {
            max_turns: next(),
            max_depth: next(),
            max_tokens: next(),
            max_gate_calls: next(),
            max_children: next(),
            max_concurrent_children: next(),
            max_batch_size: next(),
            max_eval_ms: next(),
            timeout_ms: next(),
            max_memory_bytes: next(),
            max_fuel: next(),
            max_output_bytes: next(),
            require_done_tool,
            no_trifecta,
            child_media,
            child_gates,
            allow_hosts,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn ward_1_meet_is_idempotent(a in wards()) {
        prop_assert_eq!(a.meet(&a), a);
    }

    #[test]
    fn ward_1_meet_is_commutative(a in wards(), b in wards()) {
        prop_assert_eq!(a.meet(&b), b.meet(&a));
    }

    #[test]
    fn ward_1_meet_is_associative(a in wards(), b in wards(), c in wards()) {
        prop_assert_eq!(a.meet(&b).meet(&c), a.meet(&b.meet(&c)));
    }

    #[test]
    fn ward_1_meet_only_tightens(a in wards(), b in wards()) {
        let both = a.meet(&b);
        prop_assert!(both.is_within(&a), "{} is wider than {}", both, a);
        prop_assert!(both.is_within(&b), "{} is wider than {}", both, b);
    }

    #[test]
    fn ward_1_meet_takes_no_more_than_it_must(a in wards(), b in wards(), c in wards()) {
        prop_assert!(!c.is_within(&a) || !c.is_within(&b) || c.is_within(&a.meet(&b)));
    }

    #[test]
    fn ward_1_order_and_meet_agree(a in wards(), b in wards()) {
        prop_assert_eq!(a.is_within(&b), a.meet(&b) == a);
        prop_assert!(a.is_within(&Wards::default()));
    }

    #[test]
    fn ward_2_defaults_never_widen(parent in wards(), proposal in wards()) {
        let enforced = parent.resolved();
        let child = enforced.to_wards().meet(&proposal).resolved();
        prop_assert!(child.to_wards().is_within(&enforced.to_wards()));
        prop_assert_eq!(enforced.to_wards().resolved().to_wards(), enforced.to_wards());
    }

    #[test]
    fn what_is_printed_reads_back(a in wards()) {
        prop_assert_eq!(Wards::from_value(&a.to_json()), Ok(a.clone()));
        let list = a.iter().map(|(name, value)| json!({name: value.to_json()}));
        prop_assert_eq!(Wards::from_list(list), Ok(a.clone()));
        let text = serde_json::to_string(&a).expect("json");
        prop_assert_eq!(serde_json::from_str::<Wards>(&text).expect("wards"), a);
    }

    #[test]
    fn a_list_means_the_meet_of_its_entries(a in wards(), b in wards()) {
        prop_assert_eq!(Wards::from_list([a.to_json(), b.to_json()]), Ok(a.meet(&b)));
    }

    #[test]
    fn unknown_names_are_errors(name in "[a-z_]{1,20}", number in any::<u64>()) {
        prop_assume!(!Wards::NAMES.contains(&name.as_str()));
        let mut object = serde_json::Map::new();
        object.insert(name.clone(), number.into());
        let error = Wards::from_value(&object.into()).expect_err("unknown");
        let names_it = matches!(&error, WardError::Unknown { name: named } if *named == name);
        prop_assert!(names_it, "{error}");
    }

    #[test]
    fn meeting_host_patterns_allows_what_both_allow(a in hosts(), b in hosts()) {
        let both = a.intersect(&b);
        for host in ["a.net", "x.a.net", "b.a.net", "c.b.a.net", "d.org", "x.d.org", "127.0.0.1", "::1", "else.where"] {
            for port in [80, 443, 8080] {
                prop_assert_eq!(
                    both.matches(host, port),
                    a.matches(host, port) && b.matches(host, port),
                    "{}:{} in {} and {} is {}", host, port, a, b, both
                );
            }
        }
        prop_assert!(both.is_within(&a) && both.is_within(&b));
    }

    #[test]
    fn host_patterns_read_back(a in hosts()) {
        prop_assert_eq!(HostPatterns::parse(a.iter()).expect("patterns"), a);
    }
}

#[test]
fn ward_1_numbers_take_the_smaller_and_flags_are_joined() {
    let parent = Wards { max_turns: Some(5), no_trifecta: true, ..Wards::default() };
    let child = Wards { max_turns: Some(20), max_depth: Some(1), require_done_tool: true, ..Wards::default() };
    let both = parent.meet(&child);
    assert_eq!((both.max_turns, both.max_depth), (Some(5), Some(1)));
    assert!(both.require_done_tool && both.no_trifecta);
    assert!(!child.is_within(&parent) && !parent.is_within(&child));
}

#[test]
fn circle_2_three_wards_guarantee_an_end() {
    let read = |value| Wards::from_value(&value).expect("wards");
    for value in [json!({"max_turns": 1}), json!({"max_tokens": 1}), json!({"timeout_ms": 1})] {
        assert!(read(value).truncates());
    }
    assert!(!read(json!({"max_depth": 1, "max_gate_calls": 1, "require_done_tool": true})).truncates());
}

#[test]
fn the_defaults_are_as_documented() {
    let resolved = Wards::default().resolved();
    let expected = json!({
        "max_depth": 1, "max_gate_calls": 10_000, "max_children": 1_000, "max_concurrent_children": 8,
        "max_batch_size": 50, "max_eval_ms": 30_000, "max_memory_bytes": 67_108_864_u64, "max_output_bytes": 50_000,
    });
    assert_eq!(resolved.to_wards().to_json(), expected);
    assert_eq!(resolved.max_depth, ResolvedWards::MAX_DEPTH_DEFAULT);
    let own = Wards { max_depth: Some(0), max_eval_ms: Some(60_000), ..Wards::default() }.resolved();
    assert_eq!((own.max_depth, own.max_eval_ms), (0, 60_000));
}

#[test]
fn a_file_error_points_at_the_name_or_the_value() {
    #[derive(serde::Deserialize, Debug)]
    struct File {
        #[expect(dead_code, reason = "only whether it can be read matters here")]
        wards: Wards,
    }
    let pointed_at = |text: &str| {
        let error = toml::from_str::<File>(text).expect_err("refused");
        text.get(error.span().expect("a place")).expect("inside the text").to_owned()
    };
    assert_eq!(pointed_at("[wards]\nmax_depth = 1\nmax_turn = 3\n"), "max_turn");
    assert_eq!(pointed_at("[wards]\nmax_depth = 1\nmax_turns = \"many\"\n"), "\"many\"");
    assert_eq!(pointed_at("wards = [{ max_turns = 1 }, { max_turn = 3 }]\n"), "max_turn");
}
