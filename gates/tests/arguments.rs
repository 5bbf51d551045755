//! Arguments: what fits, what does not, and what an entity is told.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]
#![expect(clippy::needless_pass_by_value, reason = "`json!` makes values, and a case is one line")]

mod support;

use cantrip_gates::{
    ArgumentCheck, CallContext, Exposure, FunctionGate, Gate, GateError, GateName, GateSpec, Reach, Root, SpecError,
    builtin,
};
use serde_json::{Value, json};
use support::{call, check_error, run};

fn spec(parameters: Value, positional: &[&str]) -> GateSpec {
    GateSpec {
        name: GateName::parse("g").expect("a name"),
        description: String::new(),
        parameters,
        positional: positional.iter().map(ToString::to_string).collect(),
        reach: Reach::Read,
        exposure: Exposure::default(),
        ephemeral: false,
    }
}

/// Checks a value against the schema of one property `x`; `""` means that it fits.
fn check(schema: Value, value: Value, expected: &str) {
    let spec = spec(json!({"type": "object", "properties": {"x": schema}}), &["x"]);
    let check = ArgumentCheck::new(&spec).expect("a usable schema");
    let told = check.check(&json!({"x": value})).map_or_else(|error| error.to_string(), |()| String::new());
    assert_eq!(told, expected);
}

#[test]
fn types_are_named_with_what_came() {
    check(json!({"type": "string"}), json!("a"), "");
    check(json!({"type": "string"}), json!(5), "g: argument `x`: expected string, got the number 5");
    check(json!({"type": "integer"}), json!(5.0), "");
    check(json!({"type": "integer"}), json!(5.5), "g: argument `x`: expected integer, got the number 5.5");
    check(json!({"type": "number"}), json!(5), "");
    check(json!({"type": ["string", "null"]}), json!(null), "");
    check(
        json!({"type": ["string", "null"]}),
        json!([]),
        "g: argument `x`: expected string or null, got an array of 0",
    );
    check(json!({"type": "boolean"}), json!("true"), "g: argument `x`: expected boolean, got the string \"true\"");
    check(json!({}), json!({"any": 1}), "");
    check(json!(true), json!(1), "");
    check(json!(false), json!(1), "g: argument `x`: expected nothing, got the number 1");
}

#[test]
fn bounds_are_kept() {
    check(json!({"minimum": 1}), json!(0), "g: argument `x`: expected at least 1, got the number 0");
    check(json!({"minimum": 1}), json!(1), "");
    check(json!({"maximum": 1}), json!(2), "g: argument `x`: expected at most 1, got the number 2");
    check(json!({"maximum": 1}), json!(1), "");
    check(json!({"exclusiveMinimum": 1}), json!(1), "g: argument `x`: expected more than 1, got the number 1");
    check(json!({"exclusiveMaximum": 1}), json!(1), "g: argument `x`: expected less than 1, got the number 1");
    check(json!({"minLength": 2}), json!("é"), "g: argument `x`: expected at least 2 characters, got the string \"é\"");
    check(json!({"maxLength": 1}), json!("é"), "");
    check(
        json!({"maxLength": 1}),
        json!("éé"),
        "g: argument `x`: expected at most 1 characters, got the string \"éé\"",
    );
    check(json!({"minItems": 1}), json!([]), "g: argument `x`: expected at least 1 items, got an array of 0");
    check(json!({"maxItems": 1}), json!([1, 2]), "g: argument `x`: expected at most 1 items, got an array of 2");
    check(json!({"pattern": "^a+$"}), json!("aa"), "");
    check(json!({"pattern": "^a+$"}), json!("b"), "g: argument `x`: expected a match of `^a+$`, got the string \"b\"");
    check(json!({"enum": ["a", 1]}), json!(1.0), "");
    check(json!({"enum": ["a", 1]}), json!("b"), "g: argument `x`: expected one of \"a\", 1, got the string \"b\"");
    check(json!({"const": "a"}), json!("b"), "g: argument `x`: expected one of \"a\", got the string \"b\"");
}

#[test]
fn nested_values_are_found_by_path() {
    let items = json!({"type": "array", "items": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"], "additionalProperties": false}});
    check(items.clone(), json!([{"word": "a"}]), "");
    check(
        items.clone(),
        json!([{"word": "a"}, {"word": 1}]),
        "g: argument `x[1].word`: expected string, got the number 1",
    );
    check(items.clone(), json!([{}]), "g: argument `x[0]`: missing required `word`");
    check(items, json!([{"word": "a", "wrod": 1}]), "g: argument `x[0]`: unknown key `wrod`; did you mean `word`?");
    check(
        json!({"additionalProperties": {"type": "string"}}),
        json!({"a": 1}),
        "g: argument `x.a`: expected string, got the number 1",
    );
    check(json!({"anyOf": [{"type": "string"}, {"type": "object"}]}), json!({}), "");
    check(
        json!({"anyOf": [{"type": "string"}, {"type": "object"}]}),
        json!(1),
        "g: argument `x`: expected string or object, got the number 1",
    );
    check(
        json!({"oneOf": [{"minimum": 0}, {"maximum": 10}]}),
        json!(5),
        "g: argument `x`: expected only one of its alternatives, got the number 5",
    );
    check(json!({"oneOf": [{"minimum": 0}, {"maximum": 10}]}), json!(11), "");
    check(
        json!({"allOf": [{"minimum": 0}, {"maximum": 10}]}),
        json!(11),
        "g: argument `x`: expected at most 10, got the number 11",
    );
}

#[test]
fn missing_and_unknown_arguments_are_named() {
    let told = |gate: &GateSpec, arguments: Value| {
        ArgumentCheck::new(gate).expect("usable").check(&arguments).expect_err("does not fit").to_string()
    };
    let done = builtin::spec_of("done").expect("built in");
    assert_eq!(told(&done, json!({})), "done: missing required argument `answer`");
    let read = builtin::spec_of("read_file").expect("built in");
    assert_eq!(
        told(&read, json!({"pth": "a"})),
        "read_file: unknown argument `pth`; did you mean `path`?; it takes path, offset, limit"
    );
    assert_eq!(told(&read, json!("a")), "read_file: expected object of arguments, got the string \"a\"");
}

#[test]
fn a_schema_that_is_not_understood_is_refused_at_construction() {
    let refused = |parameters: Value| ArgumentCheck::new(&spec(parameters, &[])).expect_err("refused");
    let error = refused(json!({"type": "object", "propertis": {}}));
    assert!(
        matches!(&error, SpecError::Schema { source, .. } if source.at == "/propertis" && source.what.contains("did you mean `properties`?"))
    );
    for parameters in [
        json!({"type": "string"}),
        json!({}),
        json!([]),
        json!({"type": "object", "properties": {"x": {"type": "strin"}}}),
        json!({"type": "object", "properties": {"x": {"pattern": "("}}}),
        json!({"type": "object", "properties": {"x": {"$ref": "#"}}}),
        json!({"type": "object", "required": "x"}),
        json!({"type": "object", "properties": {"x": {"minLength": -1}}}),
        json!({"type": "object", "properties": {"x": {"anyOf": []}}}),
    ] {
        refused(parameters);
    }
    let missing = ArgumentCheck::new(&spec(json!({"type": "object"}), &["x"])).expect_err("refused");
    assert!(matches!(missing, SpecError::Positional { .. }));
    let mut deep = json!({});
    for _ in 0..60 {
        deep = json!({"items": deep});
    }
    refused(json!({"type": "object", "properties": {"x": deep}}));
}

/// Maps a positional call of a built-in gate.
fn named(gate: &str, values: Value, expected: Value) {
    let spec = builtin::spec_of(gate).expect("built in");
    let values = values.as_array().expect("a list").clone();
    assert_eq!(ArgumentCheck::from_positional(&spec, values).expect("it maps"), expected, "for {gate}");
}

#[test]
fn positional_values_become_named_arguments() {
    named("read_file", json!(["a.txt"]), json!({"path": "a.txt"}));
    named("read_file", json!(["a.txt", 5, 10]), json!({"path": "a.txt", "offset": 5, "limit": 10}));
    named("read_file", json!(["a.txt", null, 10]), json!({"path": "a.txt", "limit": 10}));
    named("read_file", json!([{"path": "a.txt"}]), json!({"path": "a.txt"}));
    named("read_file", json!([{"pth": "a.txt"}]), json!({"pth": "a.txt"}));
    named("read_file", json!(["a.txt", {"limit": 10}]), json!({"path": "a.txt", "limit": 10}));
    named("read_file", json!([]), json!({}));
    named("list_dir", json!([]), json!({}));
    named("list_dir", json!([null]), json!({}));
    named("search", json!(["x", {"glob": "*.rs"}]), json!({"pattern": "x", "glob": "*.rs"}));
    named("search", json!(["x", "src", {"glob": "*.rs"}]), json!({"pattern": "x", "path": "src", "glob": "*.rs"}));
    named(
        "call_entity",
        json!([{"intent": "a", "wards": [{"max_turns": 1}]}]),
        json!({"intent": "a", "wards": [{"max_turns": 1}]}),
    );
    named("call_entity", json!(["a"]), json!({"intent": "a"}));
    named("call_entity", json!(["a", {"gates": []}]), json!({"intent": "a", "gates": []}));
    named("call_entity_batch", json!([[{"intent": "a"}]]), json!({"requests": [{"intent": "a"}]}));
    named("call_entity_batch", json!([{"requests": []}]), json!({"requests": []}));
}

#[test]
fn done_takes_any_value_as_the_answer() {
    named("done", json!(["text"]), json!({"answer": "text"}));
    named("done", json!([{"a": 1}]), json!({"answer": {"a": 1}}));
    named("done", json!([{"answer": 5}]), json!({"answer": 5}));
    named("done", json!([{"answer": 5, "more": 1}]), json!({"answer": {"answer": 5, "more": 1}}));
    named("done", json!([{}]), json!({"answer": {}}));
    named("done", json!([null]), json!({"answer": null}));
    named("done", json!([[1, 2]]), json!({"answer": [1, 2]}));
    named("done", json!([]), json!({}));
}

#[test]
fn too_many_values_are_refused() {
    let spec = builtin::spec_of("echo").expect("built in");
    let result = ArgumentCheck::from_positional(&spec, vec![json!("a"), json!("b")]);
    check_error(result, "invalid", "echo: 2 arguments came, but it takes at most 1 (text)");
}

#[test]
fn circle_8_done_returns_its_argument() {
    assert_eq!(call(&builtin::done(), json!({"answer": {"a": [1]}})), Ok(json!({"a": [1]})));
    assert_eq!(call(&builtin::done(), json!({"answer": null})), Ok(Value::Null));
    check_error(call(&builtin::done(), json!({})), "invalid", "missing required");
}

#[test]
fn circle_4_echo_returns_its_text() {
    assert_eq!(call(&builtin::echo(), json!({"text": "hi"})), Ok(json!("hi")));
}

#[test]
fn gates_stay_safe_when_nobody_checked() {
    let root = Root::open(std::path::Path::new(env!("CARGO_MANIFEST_DIR"))).expect("a root");
    let policy = cantrip_gates::HttpPolicy {
        hosts: cantrip_gates::HostPatterns::parse(["a.b"]).expect("hosts"),
        ..Default::default()
    };
    let gates = [
        builtin::done(),
        builtin::echo(),
        builtin::read_file(root.clone()),
        builtin::list_dir(root.clone()),
        builtin::search(root.clone()),
        builtin::write_file(root),
        builtin::http_fetch(policy).expect("a policy"),
    ];
    for gate in gates {
        for arguments in [json!(null), json!("x"), json!([1]), json!({"path": 1, "url": 1, "pattern": 1, "content": 1})]
        {
            let result = run(gate.call(arguments.clone(), &CallContext::default()));
            let told = format!("{}: {arguments}", gate.spec().name);
            let echoes = gate.spec().name.as_str() == "echo";
            assert!(echoes || matches!(result, Err(GateError::Invalid(_))), "{told} gave {result:?}");
        }
    }
}

#[test]
fn every_built_in_gate_has_a_usable_declaration() {
    for name in builtin::NAMES {
        let spec = builtin::spec_of(name).expect("declared");
        assert_eq!(spec.name.as_str(), *name);
        assert!(!spec.description.is_empty());
        ArgumentCheck::new(&spec).expect("usable");
    }
    assert!(builtin::spec_of("nothing").is_none());
    let of = |name| builtin::spec_of(name).expect("declared");
    assert_eq!(
        (of("http_fetch").reach, of("write_file").reach, of("call_entity").reach),
        (Reach::External, Reach::Write, Reach::Write)
    );
    assert!(of("read_file").exposure.private && of("search").exposure.private && of("list_dir").exposure.private);
    assert!(of("http_fetch").exposure.outbound && of("http_fetch").exposure.untrusted);
}

#[test]
fn circle_5_a_function_gate_answers_with_what_its_function_returns() {
    let gate = FunctionGate::new(spec(json!({"type": "object"}), &[]), |arguments: Value| async move {
        match arguments.get("fail") {
            Some(_) => Err(GateError::Failed("something went wrong".into())),
            None => Ok(json!("fine")),
        }
    });
    let gate: std::sync::Arc<dyn Gate> = std::sync::Arc::new(gate);
    assert_eq!(call(&gate, json!({})), Ok(json!("fine")));
    check_error(call(&gate, json!({"fail": 1})), "failed", "something went wrong");
    assert!(format!("{gate:?}").contains('g'));
}
