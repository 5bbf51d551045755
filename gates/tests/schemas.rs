//! Schemas and names that strangers write: bounded in every unit that costs, and checked in steps that are counted.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use cantrip_gates::{
    ArgumentCheck, Exposure, GateError, GateName, GateSpec, HostPatterns, Reach, SchemaRoom, WardError, Wards, limits,
    steps, suggest,
};
use serde_json::{Map, Value, json};

fn spec(properties: &Value) -> GateSpec {
    GateSpec {
        name: GateName::parse("strange").expect("a name"),
        description: "a gate that a stranger declared".into(),
        parameters: json!({"type": "object", "properties": properties}),
        positional: Vec::new(),
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral: false,
    }
}

fn compiled(properties: &Value) -> ArgumentCheck {
    ArgumentCheck::new(&spec(properties)).expect("a schema")
}

fn refused(properties: &Value, why: &str) {
    let error = ArgumentCheck::new(&spec(properties)).expect_err(why);
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(source.contains(why), "{why}: {source}");
    assert!(source.len() < 4_000, "{} bytes of message", source.len());
}

fn many(count: usize, each: impl Fn(usize) -> Value) -> Value {
    Value::Object((0..count).map(|at| (format!("p{at}"), each(at))).collect())
}

#[test]
fn a_schema_is_bounded_in_every_unit() {
    refused(&json!({"a": {"description": "x".repeat(limits::SCHEMA_BYTES_MAX)}}), "more than 262144 bytes");
    refused(&json!({"a": {"enum": vec![0; limits::SCHEMA_BYTES_MAX / 4]}}), "more than 262144 bytes");
    refused(&many(limits::SCHEMA_NODES_MAX, |_| json!(true)), "more than 4096 schemas");
    refused(&json!({"a": {"anyOf": vec![json!({}); limits::SCHEMA_NODES_MAX]}}), "more than 4096 schemas");
    refused(&many(limits::SCHEMA_PATTERNS_MAX + 1, |_| json!({"pattern": "a"})), "more than 64 patterns");
    refused(&many(60, |_| json!({"pattern": "[01]{1500}"})), "all patterns together take more than 1048576 bytes");
    refused(&json!({"a": {"pattern": "(a{1000}){1000}"}}), "bytes when it is compiled");
    refused(&json!({"a": {"pattern": format!("({}", "a".repeat(100_000))}}), "");
    refused(&json!({"x".repeat(100_000): {"typ": 1}}), "unknown keyword");
    let mut deep = json!({});
    for _ in 0..60 {
        deep = json!({"items": deep});
    }
    refused(&json!({"a": deep}), "nested deeper than 32");
    compiled(&many(1_000, |_| json!({"type": "string"})));
}

#[test]
fn the_schemas_of_a_circle_are_bounded_together() {
    for properties in [
        many(limits::SCHEMA_NODES_MAX - 10, |_| json!(true)),
        json!({"a": {"description": "x".repeat(limits::SCHEMA_BYTES_MAX - 1_000)}}),
        many(limits::SCHEMA_PATTERNS_MAX, |_| json!({"pattern": "a"})),
        many(6, |_| json!({"pattern": "[01]{1500}"})),
    ] {
        let mut room = SchemaRoom::default();
        let spec = spec(&properties);
        let taken = (0..100).take_while(|_| ArgumentCheck::among(&spec, &mut room).is_ok()).count();
        assert!((1..=limits::SCHEMAS_OF_A_CIRCLE).contains(&taken), "{taken} of them");
        ArgumentCheck::new(&spec).expect("alone it has room");
    }
}

#[test]
fn a_check_takes_a_bounded_number_of_steps() {
    let late = |wrong: Value, count: usize, right: Value| [vec![wrong; count], vec![right]].concat();
    let items = json!({"items": {"anyOf": late(json!({"const": 1}), 60, json!({"type": "string"}))}});
    let values = late(json!("y".repeat(100)), 2_000, json!("y".repeat(99)));
    let costly = [
        (json!({"a": {"allOf": vec![items; 60]}}), json!({"a": vec!["x"; 20_000]})),
        (json!({"a": {"pattern": "1[01]{1000}2"}}), json!({"a": "10".repeat(1_000_000)})),
        (json!({"a": {"items": {"enum": values}}}), json!({"a": vec!["y".repeat(99); 50_000]})),
    ];
    for (properties, value) in costly {
        let check = compiled(&properties);
        let (result, taken) = steps::taken_by(|| check.check(&value));
        assert!(matches!(&result, Err(GateError::Invalid(why)) if why.contains("send less at once")), "{result:?}");
        let most = u64::try_from(limits::CHECK_STEPS_MAX).expect("a number");
        assert!(taken <= 2 * most, "{taken} steps");
    }
}

/// The properties of a schema, and a value of so many parts that fits it.
type Case = (Value, fn(usize) -> Value);

#[test]
fn arguments_are_checked_in_proportion_to_their_size() {
    let each = json!({"type": "object", "additionalProperties": {"type": ["string", "number"], "maxLength": 100_000}});
    let cases: Vec<Case> = vec![
        (json!({"a": {"items": {"type": "string", "pattern": "^[a-z]+$"}}}), |count| json!({"a": vec!["word"; count]})),
        (
            json!({"a": each}),
            |count| json!({"a": (0..count).map(|at| (format!("k{at}"), json!(at))).collect::<Map<_, _>>()}),
        ),
        (json!({"a": {"type": "string", "pattern": "^(a|b|ab)*$"}}), |count| json!({"a": "ab".repeat(count)})),
        (many(1_000, |_| json!({"type": "integer"})), |count| many(count / 10, |at| json!(at))),
    ];
    for (properties, made) in cases {
        let check = compiled(&properties);
        let steps_of = |count: usize| {
            let value = made(count);
            let (result, taken) = steps::taken_by(|| check.check(&value));
            result.expect("it fits");
            taken
        };
        let (one, two) = (steps_of(4_000), steps_of(8_000));
        assert!(one > 0 && two * 2 <= one * 5, "{one} and {two} steps");
    }
}

#[test]
fn an_error_quotes_little_of_what_came() {
    let long = "x".repeat(1_000_000);
    let check =
        compiled(&json!({"a": {"additionalProperties": {"type": "integer"}}, "b": {"enum": ["y".repeat(10_000)]}}));
    let strict = ArgumentCheck::new(&GateSpec {
        parameters: json!({"type": "object", "properties": many(2_000, |_| json!(true)), "additionalProperties": false}),
        ..spec(&json!({}))
    })
    .expect("a schema");
    for (check, value) in [
        (&check, json!({"a": {&long: "x"}})),
        (&check, json!({"b": &long})),
        (&strict, json!({&long: 1})),
        (&strict, json!({"p1x": 1})),
    ] {
        let error = check.check(&value).expect_err("it does not fit");
        assert!(error.message().len() < 4_000, "{} bytes", error.message().len());
    }
    let error = strict.named(vec![json!(1)]).expect_err("too many");
    assert!(error.message().len() < 4_000);
    assert!(Wards::from_value(&json!({&long: 1})).expect_err("unknown").to_string().len() < 1_000);
}

#[test]
fn a_suggestion_compares_a_bounded_number_of_words() {
    let words: Vec<String> = (0..100_000).map(|at| format!("word_number_{at}")).collect();
    let of = |count: usize| {
        steps::taken_by(|| suggest::nearest("word_numbre", words.iter().take(count).map(String::as_str))).1
    };
    assert!(of(500) > 0);
    assert_eq!(of(limits::SUGGESTION_CANDIDATES_MAX), of(100_000));
    let one = "a".repeat(1_000_000);
    assert_eq!(suggest::nearest(&one, ["a"]), None);
}

#[test]
fn a_host_pattern_has_a_bounded_length() {
    for text in ["a".repeat(2_000), "é".repeat(1_000_000), format!("*.{}", "a.".repeat(100_000))] {
        let error = HostPatterns::parse([&text]).expect_err("too long").to_string();
        assert!(error.len() < 400, "{} bytes", error.len());
    }
}

#[test]
fn lists_of_hosts_are_read_in_proportion_to_their_length() {
    let cases: Vec<fn(usize) -> String> =
        vec![|at| format!("h{at}.example.com"), |at| format!("*.h{at}.example.com:{}", at + 1), |at| {
            format!("{}com", "a.".repeat(at % 100))
        }];
    for made in cases {
        let steps_of = |count: usize| {
            let list: Vec<String> = (0..count).map(made).collect();
            steps::taken_by(|| HostPatterns::parse(&list).expect("patterns")).1
        };
        let (one, two) = (steps_of(500), steps_of(1_000));
        assert!(one > 0 && two * 2 <= one * 5, "{one} and {two} steps");
    }
}

#[test]
fn wards_hold_a_bounded_number_of_names_in_all_their_lists() {
    let list = |count: usize| json!({"allow_hosts": (0..count).map(|at| format!("h{at}.net")).collect::<Vec<_>>()});
    let entries: Vec<Value> = (0..5).map(|_| list(250)).collect();
    assert!(matches!(Wards::from_value(&Value::Array(entries)), Err(WardError::TooMany(1_250))));
    Wards::from_value(&json!([list(250), list(250)])).expect("within the bound");
}
