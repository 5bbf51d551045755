//! However cantrips compose across nodes, nothing widens: of no sequence of children, here and elsewhere, is a ward wider than
//! any ancestor's or any host's.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

use cantrip_runtime::domain::cantrip::{Folding, Identity};
use cantrip_runtime::domain::circle::{Circle, CircleDraft};
use cantrip_runtime::domain::delegation::{Grant, Proposal, Work};
use cantrip_runtime::domain::ids::{CastId, EntityId, LoomId};
use cantrip_runtime::domain::model::Sampling;
use cantrip_runtime::domain::remote::ByHost;
use cantrip_runtime::domain::remote::{CantripOrder, Ceiling, ModelOrder, Order};
use cantrip_runtime::{Exposure, GateSpec, Wards, builtin};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NUMBERS: [&str; 12] = [
    "max_turns",
    "max_depth",
    "max_tokens",
    "max_gate_calls",
    "max_children",
    "max_concurrent_children",
    "max_batch_size",
    "max_eval_ms",
    "timeout_ms",
    "max_memory_bytes",
    "max_fuel",
    "max_output_bytes",
];

fn wards() -> impl Strategy<Value = Wards> {
    let numbers = proptest::collection::btree_map(proptest::sample::select(NUMBERS.to_vec()), 1_u64..200_000, 0..6);
    let flags =
        proptest::collection::btree_set(proptest::sample::select(vec!["require_done_tool", "no_trifecta"]), 0..2);
    let names = proptest::option::of(proptest::collection::btree_set(
        proptest::sample::select(vec!["echo", "done", "call_entity", "read_file"]),
        0..4,
    ));
    let hosts = proptest::option::of(proptest::collection::vec(
        proptest::sample::select(vec!["a.example", "*.a.example", "b.example"]),
        0..3,
    ));
    (numbers, flags, names, hosts).prop_map(|(numbers, flags, names, hosts)| {
        let mut map: Map<String, Value> =
            numbers.into_iter().map(|(name, number)| (name.to_owned(), json!(number))).collect();
        map.extend(flags.into_iter().map(|flag| (flag.to_owned(), json!(true))));
        if let Some(names) = names {
            map.insert("child_gates".to_owned(), json!(names));
        }
        if let Some(hosts) = hosts {
            map.insert("allow_hosts".to_owned(), json!(hosts));
        }
        Wards::from_value(&Value::Object(map)).unwrap()
    })
}

fn gates() -> Vec<GateSpec> {
    [builtin::done(), builtin::echo()]
        .iter()
        .map(|gate| gate.spec().clone())
        .chain([builtin::call_entity_spec(), builtin::call_entity_batch_spec()])
        .collect()
}

fn circle(wards: Wards) -> Option<Circle> {
    let draft = CircleDraft { gates: gates(), wards, ..CircleDraft::default() };
    Circle::new(draft, &[], false).ok()
}

fn is_within(narrow: &Wards, wide: &Wards) -> bool {
    // In a meet-semilattice the smaller of two is what their meet is.
    narrow.meet(wide) == *narrow
}

fn order(wards: Wards) -> Order {
    Order {
        cast: CastId::from_parts(1, [0; 10]),
        loom: LoomId::from_parts(1, [0; 16]),
        entity: EntityId::from_parts(1, [0; 16]),
        minted: None,
        by_host: ByHost::Nothing,
        parent: None,
        spawned_by: None,
        depth: 1,
        cantrip: CantripOrder {
            identity: Identity::new(None, Sampling::default(), None),
            medium: None,
            guest: None,
            gates: Vec::new(),
            wards,
            folding: Folding::default(),
            model: ModelOrder::AtHost(Some("m".to_owned())),
        },
        intent: "x".to_owned(),
        trace: None,
        deadline: None,
        lease: None,
        again: false,
        keep: false,
        fork: None,
        seen: Exposure::default(),
        credentials: std::sync::Arc::default(),
        origins: Vec::new(),
    }
}

proptest! {
    #[test]
    fn nothing_widens_on_its_way(
        root in wards(),
        hops in proptest::collection::vec((wards(), proptest::option::of(wards())), 1..8),
    ) {
        let Some(mut parent) = circle(root.meet(&Wards { max_turns: Some(100), ..Wards::default() })) else { return Ok(()) };
        let mut above = vec![root, parent.wards().to_wards()];
        let (gates, nodes, none) = (gates(), ["far@host:1".parse().unwrap()], Vec::new());
        for (proposed, ceiling) in hops {
            let node = ceiling.as_ref().map(|_| json!("far"));
            let mut proposal = json!({ "intent": "go", "gates": [], "wards": serde_json::to_value(&proposed).unwrap() });
            if let Some(node) = node {
                proposal["node"] = node;
            }
            let proposal = Proposal::parse(&proposal).unwrap();
            let grant = Grant { circle: &parent, equipped: &gates, code_media: &none, models: &none, nodes: &nodes };
            let Ok(plan) = proposal.plan(grant) else { return Ok(()) };
            let (wards, host) = match (plan.work, ceiling) {
                (Work::Here { circle, .. }, None) => (circle.declared().clone(), None),
                (Work::There(there), Some(host)) => {
                    let ceiling = Ceiling {
                        rule: "peers.near".to_owned(),
                        cast: true,
                        wards: host.clone(),
                        models: ["m".to_owned()].into(),
                        ..Ceiling::default()
                    };
                    (ceiling.grant(&order(there.wards)).unwrap().wards, Some(host))
                }
                _ => panic!("the place of a child is not where it was proposed"),
            };
            above.push(proposed);
            above.extend(host);
            for wide in &above {
                prop_assert!(is_within(&wards, wide), "{wards:?} is wider than {wide:?}");
            }
            if wards.max_depth == Some(0) {
                return Ok(());
            }
            let Some(next) = circle(wards) else { return Ok(()) };
            prop_assert!(next.wards().max_depth < parent.wards().max_depth, "every ring ends");
            above.push(next.wards().to_wards());
            parent = next;
        }
    }
}

#[test]
fn nobody_is_cast_deeper_than_a_bound_whatever_the_wards_say() {
    let ceiling =
        Ceiling { rule: "peers.near".to_owned(), cast: true, models: ["m".to_owned()].into(), ..Ceiling::default() };
    let at = |depth: u32| ceiling.grant(&Order { depth, ..order(Wards::default()) });
    assert!(at(64).is_ok());
    let refused = at(65).unwrap_err().to_string();
    assert!(refused.contains("at depth 65; the limit is 64"), "{refused}");
}
