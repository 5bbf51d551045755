//! What the built JavaScript medium promises its host, on wasmtime's default stack.
//!
//! `cargo test` compiles the module once per run. `cargo test timings -- --nocapture` prints what an entity costs.

use std::fmt::Write as _;
use std::sync::{LazyLock, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use wasmtime::{
    Caller, Config, Engine, Extern, InstanceAllocationStrategy, InstancePre, Linker, Memory, Module,
    PoolingAllocationConfig, Store, StoreLimits, StoreLimitsBuilder, TypedFunc,
};

const WASM: &[u8] = include_bytes!("../../javascript/javascript.wasm");
const HEAP_BYTES_MAX: i64 = 32 * 1024 * 1024;
const GATES: [&str; 7] = ["read_file", "done", "echo", "fail", "cantrip.new", "cantrip.cast", "cantrip.cast_batch"];

type Gate = fn(name: &str, arguments: &Value) -> Result<Value, Value>;

struct Host {
    gate: Gate,
    calls: Vec<(String, Value)>,
    held: Vec<u8>,
    output: Vec<(i32, String)>,
    polls: u64,
    stop_at_poll: u64,
    clock_ns: i64,
    limits: StoreLimits,
}

fn bytes(caller: &mut Caller<'_, Host>, start: u32, len: u32) -> Vec<u8> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory).expect("a memory");
    memory.data(&caller)[start as usize..][..len as usize].to_vec()
}

static READY: LazyLock<InstancePre<Host>> = LazyLock::new(|| {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_core_instances(200).total_memories(200).max_memory_size(256 << 20);
    let mut config = Config::new();
    // Three quarters of what the runtime gives: how much of it compiled code takes differs a little between machines.
    config.max_wasm_stack(768 * 1024);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config).expect("an engine");
    let module = Module::new(&engine, WASM).expect("a module");
    let mut linker: Linker<Host> = Linker::new(&engine);
    linker
        .func_wrap("cantrip", "gate_call", |mut caller: Caller<'_, Host>, at: u32, len: u32, from: u32, size: u32| {
            let name = String::from_utf8(bytes(&mut caller, at, len)).expect("a name");
            let arguments: Value = serde_json::from_slice(&bytes(&mut caller, from, size)).expect("JSON");
            let answer = (caller.data().gate)(&name, &arguments);
            caller.data_mut().calls.push((name, arguments));
            let is_error = i64::from(answer.is_err());
            let held = answer.unwrap_or_else(|error| error).to_string().into_bytes();
            let len = i64::try_from(held.len()).expect("a length");
            caller.data_mut().held = held;
            len << 1 | is_error
        })
        .expect("an import");
    linker
        .func_wrap("cantrip", "gate_take", |mut caller: Caller<'_, Host>, into: u32| {
            let held = std::mem::take(&mut caller.data_mut().held);
            let memory = caller.get_export("memory").and_then(Extern::into_memory).expect("a memory");
            memory.write(&mut caller, into as usize, &held).expect("room");
        })
        .expect("an import");
    linker
        .func_wrap("cantrip", "output", |mut caller: Caller<'_, Host>, stream: i32, from: u32, len: u32| {
            let text = String::from_utf8(bytes(&mut caller, from, len)).expect("UTF-8");
            caller.data_mut().output.push((stream, text));
        })
        .expect("an import");
    linker
        .func_wrap("cantrip", "interrupted", |mut caller: Caller<'_, Host>| {
            let host = caller.data_mut();
            host.polls += 1;
            i32::from(host.polls >= host.stop_at_poll)
        })
        .expect("an import");
    linker
        .func_wrap("cantrip", "clock_ns", |mut caller: Caller<'_, Host>| {
            let host = caller.data_mut();
            host.clock_ns += 1_000_000;
            host.clock_ns
        })
        .expect("an import");
    linker.instantiate_pre(&module).expect("imports")
});

fn standard_gate(name: &str, arguments: &Value) -> Result<Value, Value> {
    match name {
        "done" => Err(json!({"kind": "stop", "message": "done"})),
        "fail" => Err(json!({"kind": "denied", "message": "outside of the root: /etc/passwd"})),
        "read_file" => Ok(json!("text of a file\nwith ünïcode 😀")),
        _ => Ok(arguments.clone()),
    }
}

struct Session {
    store: Store<Host>,
    memory: Memory,
    buffer: TypedFunc<u32, u32>,
    configure: TypedFunc<(u32, u32, i64), i32>,
    evaluate: TypedFunc<(u32, u32, i64), i64>,
}

impl Session {
    fn new() -> Self {
        Self::with(standard_gate, HEAP_BYTES_MAX)
    }

    fn with(gate: Gate, heap_bytes_max: i64) -> Self {
        let mut session = Self::unconfigured(gate, heap_bytes_max);
        assert_eq!(session.configure(&GATES, heap_bytes_max), 7);
        session
    }

    fn unconfigured(gate: Gate, heap_bytes_max: i64) -> Self {
        let limits =
            StoreLimitsBuilder::new().memory_size(usize::try_from(heap_bytes_max).expect("a size") + (3 << 20)).build();
        let host = Host {
            gate,
            calls: Vec::new(),
            held: Vec::new(),
            output: Vec::new(),
            polls: 0,
            stop_at_poll: u64::MAX,
            clock_ns: 1_700_000_000_000_000_000,
            limits,
        };
        let mut store = Store::new(READY.module().engine(), host);
        store.limiter(|host| &mut host.limits);
        let instance = READY.instantiate(&mut store).expect("an instance");
        Self {
            memory: instance.get_memory(&mut store, "memory").expect("a memory"),
            buffer: instance.get_typed_func(&mut store, "buffer").expect("buffer"),
            configure: instance.get_typed_func(&mut store, "configure").expect("configure"),
            evaluate: instance.get_typed_func(&mut store, "evaluate").expect("evaluate"),
            store,
        }
    }

    fn configure(&mut self, gates: &[&str], heap_bytes_max: i64) -> i32 {
        let (at, len) = self.put(json!(gates).to_string().as_bytes());
        self.configure.call(&mut self.store, (at, len, heap_bytes_max)).expect("no trap")
    }

    fn put(&mut self, bytes: &[u8]) -> (u32, u32) {
        let len = u32::try_from(bytes.len()).expect("a length");
        let at = self.buffer.call(&mut self.store, len).expect("no trap");
        assert_ne!(at, 0, "no buffer");
        self.memory.write(&mut self.store, at as usize, bytes).expect("room");
        (at, len)
    }

    fn try_seeded(&mut self, source: &str, seed: i64) -> wasmtime::Result<Value> {
        let (at, len) = self.put(source.as_bytes());
        let packed = self.evaluate.call(&mut self.store, (at, len, seed))?.cast_unsigned();
        let (at, len) = ((packed >> 32) as usize, (packed & 0xffff_ffff) as usize);
        Ok(serde_json::from_slice(&self.memory.data(&self.store)[at..at + len]).expect("an outcome"))
    }

    fn eval(&mut self, source: &str) -> Value {
        let shown: String = source.chars().take(200).collect();
        self.try_seeded(source, 7).unwrap_or_else(|trap| panic!("`{shown}` trapped: {trap:?}"))
    }

    /// The completion value, which must be there.
    fn value(&mut self, source: &str) -> Value {
        let outcome = self.eval(source);
        assert_eq!(outcome["ok"], json!(true), "{source}: {outcome}");
        outcome["value"].clone()
    }

    fn text(&mut self, source: &str) -> String {
        let outcome = self.eval(source);
        assert_eq!(outcome["ok"], json!(true), "{source}: {outcome}");
        outcome["text"].as_str().expect("a text").to_owned()
    }

    /// `Name: message` of the error, which must be there.
    fn error(&mut self, source: &str) -> String {
        let outcome = self.eval(source);
        let error = &outcome["error"];
        assert!(error.is_object(), "{source}: {outcome}");
        format!("{}: {}", error["name"].as_str().expect("a name"), error["message"].as_str().expect("a message"))
    }

    fn stopped(&mut self, source: &str) -> String {
        let outcome = self.eval(source);
        assert_eq!(outcome["ok"], json!(false), "{source}: {outcome}");
        outcome["stopped"].as_str().unwrap_or_else(|| panic!("{source}: {outcome}")).to_owned()
    }

    fn output(&mut self) -> String {
        self.store.data_mut().output.drain(..).fold(String::new(), |mut all, (stream, text)| {
            write!(all, "{stream}:{text}").expect("a string");
            all
        })
    }
}

fn check(source: &str, expected: Value) {
    assert_eq!(Session::new().value(source), expected, "{source}");
}

fn check_text(source: &str, expected: &str) {
    assert_eq!(Session::new().text(source), expected, "{source}");
}

fn check_error(source: &str, expected: &str) {
    assert_eq!(Session::new().error(source), expected, "{source}");
}

// ---- Values and globals -------------------------------------------------------------------------------------------

#[test]
fn completion_values_come_back_as_json_type_and_text() {
    let mut session = Session::new();
    for (source, value, kind, text) in [
        ("1 + 1", json!(2), "number", "2"),
        ("'a\\nb'", json!("a\nb"), "string", "\"a\\nb\""),
        (
            "({ a: [1, 2], b: { c: null } })",
            json!({"a": [1, 2], "b": {"c": null}}),
            "object",
            "{ a: [1, 2], b: { c: null } }",
        ),
        ("[1, 'two', [3]]", json!([1, "two", [3]]), "array", "[1, \"two\", [3]]"),
        ("undefined", json!(null), "undefined", "undefined"),
        ("null", json!(null), "null", "null"),
        ("true", json!(true), "boolean", "true"),
        ("12n", json!(null), "bigint", "12n"),
        ("Symbol('s')", json!(null), "symbol", "Symbol(s)"),
        ("NaN", json!(null), "number", "NaN"),
        ("-0", json!(0), "number", "-0"),
        ("(function f() {})", json!(null), "function", "[Function: f]"),
        ("var x = 1", json!(null), "undefined", "undefined"),
        ("if (true) { 5 }", json!(5), "number", "5"),
        ("'\\ud800'", json!("\u{fffd}"), "string", "\"\\ud800\""),
    ] {
        let outcome = session.eval(source);
        assert_eq!(outcome["ok"], json!(true), "{source}: {outcome}");
        assert_eq!(outcome["value"], value, "{source}");
        assert_eq!(outcome["type"], json!(kind), "{source}");
        assert_eq!(outcome["text"], json!(text), "{source}");
    }
}

#[test]
fn globals_of_every_kind_survive_to_the_next_evaluation() {
    let mut session = Session::new();
    session.value("var a = 1; let b = 2; const c = 3; function d() { return ++b } class E { f = 5 }; implicit = 6");
    assert_eq!(session.value("[a, b, c, d(), new E().f, implicit]"), json!([1, 2, 3, 3, 5, 6]));
    session.value("a = 10; b = 20; { let hidden = 1 }");
    assert_eq!(session.value("[a, b, typeof hidden]"), json!([10, 20, "undefined"]));
    assert_eq!(session.value("globalThis.a + (0, eval)('b') + new Function('return c')()"), json!(33));
}

#[test]
fn globals_survive_when_the_script_awaits() {
    let mut session = Session::new();
    session.value(
        "const c = await Promise.resolve(3); let b = 2; var a = await 1; function d() { return a + b + c } class E {}",
    );
    assert_eq!(session.value("[a, b, c, d(), typeof E]"), json!([1, 2, 3, 6, "function"]));
    assert_eq!(session.error("c = 4"), "TypeError: 'c' is read-only");
    assert_eq!(session.value("await (async () => 5)()"), json!(5));
    assert_eq!(session.value("let t = 0; for await (const x of [1, Promise.resolve(2)]) t += x; t"), json!(3));
    assert_eq!(session.value("var await_ = 1; await_ + 1"), json!(2));
    assert_eq!(session.value("var await = 4; await + 1"), json!(5));
}

#[test]
fn a_promise_as_completion_value_is_awaited() {
    check("Promise.resolve({ a: 1 })", json!({"a": 1}));
    check("(async () => { await null; return read_file('a') })()", json!("text of a file\nwith ünïcode 😀"));
    check(
        "let log = []; Promise.resolve().then(() => log.push('job')); log.push('script'); await null; log",
        json!(["script", "job"]),
    );
    check_error("Promise.reject(new RangeError('late'))", "RangeError: late");
    check_error("(async () => { throw new Error('inside') })()", "Error: inside");
    check_error("await (async () => { throw new Error('inside') })()", "Error: inside");
    check_error("await new Promise(() => {})", "Error: the script awaits a promise that nothing will settle");
    check_text("new Promise(() => {})", "Promise { <pending> }");
    check_text("[Promise.resolve(1)]", "[Promise { 1 }]");
}

#[test]
fn a_rejection_that_nobody_handles_is_told() {
    let mut session = Session::new();
    assert_eq!(session.value("(async () => { throw new Error('lost') })(); 1"), json!(1));
    assert!(session.output().starts_with("2:Uncaught (in promise) Error: lost"));
    assert_eq!(session.value("(async () => { throw new Error('found') })().catch(() => {}); 1"), json!(1));
    assert_eq!(session.output(), "");
    session.error("Promise.reject(new Error('told already'))");
    assert_eq!(session.output(), "");
}

#[test]
fn a_second_declaration_is_refused_with_a_hint() {
    let mut session = Session::new();
    session.value("let x = 1");
    assert_eq!(
        session.error("const x = 2"),
        "SyntaxError: redeclaration of 'x': an earlier turn declared it; assign to it without let, const or class, or choose another name"
    );
    assert_eq!(session.value("x = 2; x"), json!(2));
    assert!(session.error("let done = 1").starts_with("SyntaxError: redeclaration of 'done'"));
    assert_eq!(session.value("var y = 1; var y = 2; y"), json!(2));
}

#[test]
fn a_declaration_that_failed_can_be_made_again() {
    let mut session = Session::new();
    assert_eq!(
        session.error("const text = fail('a'); function show() { return text }"),
        "GateError: outside of the root: /etc/passwd"
    );
    assert_eq!(session.value("const text = read_file('b'); show().length"), json!(30));
    assert_eq!(session.error("let a = 1, b = a.b.c"), "TypeError: cannot read property 'c' of undefined");
    assert_eq!(session.value("let b = 2; a + b"), json!(3));
    assert_eq!(session.stopped("const late = done()"), "done");
    assert_eq!(session.value("const late = 3; late"), json!(3));
    assert_eq!(session.error("const awaited = await fail()"), "GateError: outside of the root: /etc/passwd");
    assert_eq!(session.value("const awaited = await 4; awaited"), json!(4));
}

#[test]
fn errors_come_with_name_message_and_a_stack_of_the_code_alone() {
    let mut session = Session::new();
    let outcome = session.eval("function inner() { null.x }\nfunction outer() { inner() }\nouter()");
    assert_eq!(outcome["error"]["name"], json!("TypeError"));
    let stack = outcome["error"]["stack"].as_str().expect("a stack");
    assert!(stack.contains("at inner (<code>:1") && stack.contains("at outer (<code>:2"), "{stack}");
    let outcome = session.eval("fail('x')");
    assert_eq!(outcome["error"]["kind"], json!("denied"));
    assert_eq!(outcome["error"]["gate"], json!("fail"));
    let stack = outcome["error"]["stack"].as_str().expect("a stack");
    assert!(!stack.contains("cantrip:"), "{stack}");
    check_error("throw 'plain'", "Thrown: plain");
    check_error("throw { code: 3 }", "Thrown: { code: 3 }");
    check_error("throw null", "Thrown: null");
    check_error("let = = 1", "SyntaxError: unexpected token in expression: '='");
    check_error("throw new Error('outer', { cause: 'inner' })", "Error: outer");
    check_error("class Mine extends Error { name = 'Mine' }; throw new Mine('own')", "Mine: own");
    check_error("throw new Proxy({}, { getPrototypeOf() { throw 1 } })", "Thrown: (something that cannot be shown)");
}

#[test]
fn what_is_missing_is_a_plain_reference_error() {
    for name in ["require", "fetch", "process", "Deno", "window", "os", "std", "scriptArgs", "WebAssembly", "crypto"] {
        check_error(&format!("{name}('fs')"), &format!("ReferenceError: {name} is not defined"));
    }
    assert!(Session::new().error("setTimeout(() => {}, 1)").contains("no timers in this medium"));
    assert!(Session::new().error("await new Promise((r) => setTimeout(r, 10))").contains("no timers in this medium"));
    assert!(Session::new().error("await import('fs')").starts_with("ReferenceError: could not load module"));
}

// ---- Gates --------------------------------------------------------------------------------------------------------

#[test]
fn gates_take_and_give_json() {
    let mut session = Session::new();
    assert_eq!(session.value("read_file('a.txt')"), json!("text of a file\nwith ünïcode 😀"));
    assert_eq!(session.value("await read_file('a.txt', undefined)"), json!("text of a file\nwith ünïcode 😀"));
    assert_eq!(
        session.value("echo('x', 1.5, null, [true, { a: undefined, b: [undefined] }], { d: new Date(0) })"),
        json!(["x", 1.5, null, [true, {"b": [null]}], {"d": "1970-01-01T00:00:00.000Z"}])
    );
    assert_eq!(session.value("echo()"), json!([]));
    assert_eq!(session.value("echo(undefined, 'a\\u0000\\ud83d\\ude00\"')"), json!([null, "a\u{0}😀\""]));
    assert_eq!(
        session.value(r"echo('\ud800', '\\ud800', { '\udfff\\': 1 }, ['a\udc00😀'])"),
        json!(["\u{fffd}", "\\ud800", {"\u{fffd}\\": 1}, ["a\u{fffd}😀"]])
    );
    assert_eq!(session.value("echo({ toJSON() { return echo('nested') } })"), json!([["nested"]]));
    let calls = &session.store.data().calls;
    assert_eq!(calls[0], ("read_file".to_owned(), json!(["a.txt"])));
    assert_eq!(calls[1], ("read_file".to_owned(), json!(["a.txt"])));
}

#[test]
fn a_large_answer_arrives_whole() {
    fn large(_: &str, _: &Value) -> Result<Value, Value> {
        Ok(json!("x".repeat(5_000_000)))
    }
    let mut session = Session::with(large, HEAP_BYTES_MAX);
    assert_eq!(session.value("let t = read_file('a'); t.length"), json!(5_000_000));
    let mut session = Session::with(large, 4 * 1024 * 1024);
    assert_eq!(session.error("read_file('a')"), "InternalError: out of memory");
    assert_eq!(session.value("1 + 1"), json!(2));
}

#[test]
fn dotted_gates_are_under_a_frozen_object() {
    let mut session = Session::new();
    assert_eq!(session.value("cantrip.new({ intent: 'a' })"), json!([{"intent": "a"}]));
    assert_eq!(session.value("cantrip.cast_batch([1]); Object.keys(cantrip)"), json!(["new", "cast", "cast_batch"]));
    assert_eq!(session.store.data().calls[1].0, "cantrip.cast_batch");
    assert_eq!(
        session.value("cantrip.new = 1; delete cantrip.cast; cantrip.x = 2; Object.keys(cantrip).length"),
        json!(3)
    );
}

#[test]
fn a_gate_cannot_be_taken_away_by_accident() {
    let mut session = Session::new();
    assert_eq!(session.value("done = 1; delete globalThis.done; typeof done"), json!("function"));
    assert_eq!(session.error("'use strict'; done = 1"), "TypeError: 'done' is read-only");
    assert_eq!(session.value("(() => { const done = 3; return done })()"), json!(3));
    assert_eq!(session.value("read_file.name"), json!("read_file"));
}

#[test]
fn a_failed_gate_throws_a_gate_error() {
    check(
        "try { fail('/etc/passwd') } catch (e) { [e.name, e.kind, e.gate, e.message, e instanceof GateError, e instanceof Error] }",
        json!(["GateError", "denied", "fail", "outside of the root: /etc/passwd", true, true]),
    );
    check_error("fail('x')", "GateError: outside of the root: /etc/passwd");
}

#[test]
fn what_json_cannot_carry_is_refused_by_name() {
    let mut session = Session::new();
    for (source, expected) in [
        ("echo(() => 1)", "TypeError: echo: argument 1 is what JSON cannot carry: a function"),
        (
            "echo(1, { a: { callback() {} } })",
            "TypeError: echo: argument 2 holds (at \"callback\") what JSON cannot carry: a function",
        ),
        ("echo(10n)", "TypeError: echo: argument 1 is what JSON cannot carry: a BigInt: pass Number(x) or String(x)"),
        ("let c = {}; c.c = c; echo('x', c)", "TypeError: echo: argument 2 contains itself, which JSON cannot carry"),
        (
            "echo(Promise.resolve(1))",
            "TypeError: echo: argument 1 is what JSON cannot carry: a promise: await it first",
        ),
        (
            "echo(new Map())",
            "TypeError: echo: argument 1 is what JSON cannot carry: a Map: pass Object.fromEntries(map)",
        ),
        ("echo(Symbol())", "TypeError: echo: argument 1 is what JSON cannot carry: a symbol"),
        (
            "cantrip.cast([new Uint8Array(2)])",
            "TypeError: cantrip.cast: argument 1 holds (at \"0\") what JSON cannot carry: binary data: pass Array.from(bytes) or text",
        ),
    ] {
        assert_eq!(session.error(source), expected);
    }
    assert!(session.store.data().calls.is_empty());
}

#[test]
fn configuring_twice_keeps_what_is_there() {
    let mut session = Session::unconfigured(standard_gate, HEAP_BYTES_MAX);
    assert_eq!(session.configure(&["echo"], HEAP_BYTES_MAX), 1);
    assert_eq!(session.configure(&["echo", "read_file"], HEAP_BYTES_MAX), 2);
    assert_eq!(session.value("echo(read_file('a').length)"), json!([30]));
    let (at, len) = session.put(b"[not json");
    assert_eq!(session.configure.call(&mut session.store, (at, len, HEAP_BYTES_MAX)).expect("no trap"), -1);
    assert_eq!(session.value("1"), json!(1));
}

#[test]
fn a_source_that_is_not_in_the_buffer_is_refused() {
    let mut session = Session::new();
    let packed = session.evaluate.call(&mut session.store, (16, 4, 0)).expect("no trap").cast_unsigned();
    assert_ne!(packed & 0xffff_ffff, 0);
    assert_eq!(session.value("1"), json!(1));
    assert_eq!(session.eval("")["type"], json!("undefined"));
}

// ---- Stopping -----------------------------------------------------------------------------------------------------

#[test]
fn done_stops_past_every_catch_and_finally() {
    let mut session = Session::new();
    session.value("var log = []; var kept = 'kept'");
    for source in [
        "done(1); log.push('after')",
        "try { done(1) } catch { log.push('catch') } finally { log.push('finally') } log.push('after')",
        "(() => { try { done(1) } finally { return log.push('finally') } })(); log.push('after')",
        "[1, 2].forEach(() => { done(1); log.push('each') }); log.push('after')",
        "for (const x of (function* () { try { yield 1; yield 2 } finally { log.push('generator') } })()) { done(x) }",
        "new Promise(() => { done(1); log.push('executor') }); log.push('after'); echo('after')",
        "(async () => { try { await null; done(1) } catch { log.push('catch') } finally { log.push('finally') } })()",
        "await Promise.resolve().then(() => done(1)); log.push('after')",
        "Promise.resolve().then(() => done(1)).catch(() => log.push('catch')).finally(() => log.push('finally')); 1",
        "Promise.resolve().then(() => done(1)); Promise.resolve().then(() => log.push('sibling')); 1",
        "const p = (async () => { done(1) })(); p.finally(() => log.push('finally')); log.push('after'); echo('after')",
        "try { eval('done(1)') } catch { log.push('catch') } log.push('after')",
        "JSON.stringify({ toJSON() { done(1) } }); log.push('after')",
        "JSON.stringify({ get x() { try { done(1) } finally { log.push('finally') } } }); log.push('after')",
        "[3, 1, 2].sort(() => done(1)); log.push('after')",
        "'abc'.replace(/b/, () => done(1)); log.push('after')",
        "new Proxy({}, { get() { done(1) } }).x; log.push('after')",
        "Array.from({ length: 2 }, () => done(1)); log.push('after')",
        "class A { static { done(1) } }; log.push('after')",
        "({ toJSON() { done(1) } })",
        "echo({ toJSON() { done(1) } }); log.push('after')",
        "new Proxy({}, { ownKeys() { done(1) } })",
    ] {
        session.store.data_mut().calls.clear();
        assert_eq!(session.stopped(source), "done", "{source}");
        let calls: Vec<_> = session.store.data().calls.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(calls, ["done"], "{source}");
        assert_eq!(session.value("[log.splice(0), kept, echo('works')]"), json!([[], "kept", ["works"]]), "{source}");
    }
    assert_eq!(session.output(), "");
}

#[test]
fn jobs_of_a_stopped_evaluation_never_run() {
    let mut session = Session::new();
    session.value("var ticks = 0, log = []");
    session.store.data_mut().stop_at_poll = 5;
    assert_eq!(
        session.stopped("function tick() { ticks++; return Promise.resolve().then(tick) } tick()"),
        "interrupted"
    );
    session.store.data_mut().stop_at_poll = u64::MAX;
    let ticks = session.value("ticks");
    assert_eq!(session.value("await null; ticks"), ticks);
    assert_eq!(
        session
            .stopped("(async () => { for (;;) { await null; log.push(1) } })(); Promise.resolve().then(() => done())"),
        "done"
    );
    let seen = session.value("log.length");
    assert_eq!(session.value("await null; log.length"), seen);
    assert_eq!(session.value("await (async () => { await null; return 'new jobs run' })()"), json!("new jobs run"));
}

#[test]
fn an_endless_loop_is_interrupted_and_the_instance_goes_on() {
    let mut session = Session::new();
    session.value("var kept = 1");
    for source in [
        "for (;;) {}",
        "while (true) { try { for (;;) {} } catch {} finally { kept = 2 } }",
        "(function f() { for (;;) try { return f2() } finally { continue } function f2() { for (;;); } })()",
        "new Promise(() => { for (;;) {} })",
        "await (async () => { for (;;) {} })()",
        "const o = { get x() { for (;;) {} } }; o.x",
        "/(a+)+$/.test('a'.repeat(40) + 'b')",
        "[...(function* () { for (;;) yield 1 })()]",
        "const loop = () => Promise.resolve().then(loop); await loop()",
        "({ toJSON() { for (;;) {} } })",
        "'x'.replace(/x/g, () => { for (;;); })",
        "do eval('1'); while (true)",
        "new Proxy({}, { getOwnPropertyDescriptor() { for (;;); }, ownKeys() { return ['a'] } })",
        "Array.from({ length: 1e9 }, () => 0)",
        "queueMicrotask(function f() { queueMicrotask(f) })",
    ] {
        let polls = session.store.data().polls;
        session.store.data_mut().stop_at_poll = polls + 3;
        assert_eq!(session.stopped(source), "interrupted", "{source}");
        assert_eq!(session.store.data().polls, polls + 3, "{source}: the host is asked no more");
        session.store.data_mut().stop_at_poll = u64::MAX;
        assert_eq!(session.value("kept"), json!(1), "{source}");
    }
}

// ---- Exhaustion ---------------------------------------------------------------------------------------------------

/// Each of these must end in an error that the code could catch, or in a value: never in a trap.
const DEEP: &[&str] = &[
    "function f() { f() } f()",
    "function f() { return 1 + f() } f()",
    "const f = (...a) => f(...a, 1); f()",
    "function f(a,b,c,d,e,g,h) { let x = [a,b,c,d,e,g,h]; return f(x, ...x) } f()",
    "class A { constructor() { new A() } } new A()",
    "class A { constructor() { this.a = Reflect.construct(A, []) } } new A()",
    "const o = { get x() { return this.x } }; o.x",
    "const o = { set x(v) { this.x = v } }; o.x = 1",
    "const o = { toString() { return '' + this } }; '' + o",
    "const o = { valueOf() { return +this } }; +o",
    "const o = { [Symbol.toPrimitive]() { return `${this}` } }; `${o}`",
    "const o = { toJSON() { return JSON.stringify(this) } }; JSON.stringify(o)",
    "let p = {}; for (let i = 0; i < 100000; i++) p = new Proxy(p, {}); p.x",
    "let p = {}; for (let i = 0; i < 100000; i++) p = new Proxy(p, {}); Object.keys(p)",
    "let p = {}; for (let i = 0; i < 100000; i++) p = new Proxy(p, {}); p instanceof Object",
    "let p = {}; for (let i = 0; i < 100000; i++) p = new Proxy(p, {}); Object.isExtensible(p)",
    "let p = {}; for (let i = 0; i < 100000; i++) p = new Proxy(p, {}); Object.setPrototypeOf(p, null)",
    "let p = []; for (let i = 0; i < 100000; i++) p = new Proxy(p, {}); Array.isArray(p)",
    "let p = () => 1; for (let i = 0; i < 100000; i++) p = new Proxy(p, {}); p()",
    "let p = class {}; for (let i = 0; i < 100000; i++) p = new Proxy(p, {}); new p()",
    "let p = {}; for (let i = 0; i < 100000; i++) p = new Proxy(p, {}); delete p.x; p.y = 1; 'z' in p",
    "let p = {}; for (let i = 0; i < 100000; i++) p = Object.create(p); p.x",
    "let p = {}; for (let i = 0; i < 100000; i++) p = Object.create(p); p.x = 1; 'y' in p",
    "const p = new Proxy({}, { get(t, k, r) { return r[k] } }); p.x",
    "const p = {}; Object.setPrototypeOf(p, new Proxy({}, { get(t, k, r) { return r[k] } })); p.x",
    "let p = {}; const q = new Proxy({}, {}); try { Object.setPrototypeOf(q, q) } catch {} q.x",
    "let f = () => 1; for (let i = 0; i < 2500; i++) f = f.bind(null, i); f()",
    "let f = () => 1; for (let i = 0; i < 2500; i++) f = f.bind(null); f()",
    "let f = class {}; for (let i = 0; i < 2500; i++) f = f.bind(null); new f()",
    "let f = class {}; for (let i = 0; i < 2500; i++) f = f.bind(null); ({}) instanceof f",
    "JSON.parse('['.repeat(1e6))",
    "JSON.parse('['.repeat(1e6) + ']'.repeat(1e6))",
    "JSON.parse('{\"a\":'.repeat(1e6))",
    "JSON.parse('['.repeat(100000) + ']'.repeat(100000), (k, v) => v)",
    "let a = []; for (let i = 0; i < 100000; i++) a = [a]; JSON.stringify(a)",
    "let a = {}; for (let i = 0; i < 100000; i++) a = { a }; JSON.stringify(a)",
    "let a = []; for (let i = 0; i < 100000; i++) a = [a]; a.toString()",
    "let a = []; for (let i = 0; i < 100000; i++) a = [a]; a.flat(Infinity)",
    "let a = []; for (let i = 0; i < 100000; i++) a = [a]; a",
    "let a = []; for (let i = 0; i < 100000; i++) a = [a]; structuredClone(a)",
    "let a = []; for (let i = 0; i < 100000; i++) a = [a]; console.log(a)",
    "let a = []; for (let i = 0; i < 100000; i++) a = [a]; echo(a)",
    "let a = []; for (let i = 0; i < 100000; i++) a = [a]; a = null",
    "let a = null; for (let i = 0; i < 300000; i++) a = { a }; a = null",
    "let a = null; for (let i = 0; i < 100000; i++) a = () => a; a = null",
    "let a = new Map(); for (let i = 0; i < 100000; i++) a = new Map([[a, a]]); a = null",
    "let a = null; for (let i = 0; i < 100000; i++) a = (function* () { yield a })(); a = null",
    "let e; for (let i = 0; i < 100000; i++) e = new Error('x', { cause: e }); throw e",
    "new RegExp('('.repeat(100000) + ')'.repeat(100000))",
    "new RegExp('(?:'.repeat(100000) + ')'.repeat(100000))",
    "new RegExp('(?='.repeat(100000))",
    "new RegExp('['.repeat(100000), 'v')",
    "new RegExp('(a|'.repeat(5000) + ')'.repeat(5000)).test('a'.repeat(5000))",
    "/(?:a|b)*/.exec('ab'.repeat(500000)).length",
    "/^(?:(a)|b)*?$/.exec('ab'.repeat(100000))",
    "/(?<=(a+)+)b/.exec('a'.repeat(25) + 'b')",
    "[3, 2, 1].sort(function c() { return [2, 1].sort(c) })",
    "'abc'.replace(/b/g, function r() { return 'b'.replace(/b/g, r) })",
    "[1].map(function m(x) { return [x].map(m) })",
    "[1].reduce(function r() { return [1, 2].reduce(r) }, 0)",
    "Array.from({ length: 1 }, function f() { return Array.from({ length: 1 }, f) })",
    "let it = [1].values(); for (let i = 0; i < 100000; i++) it = it.filter(() => true); for (const x of it) ;",
    "let it = [1].values(); for (let i = 0; i < 100000; i++) it = it.take(5); [...it]",
    "let it = [1].values(); for (let i = 0; i < 100000; i++) it = it.drop(0); it.toArray()",
    "let it = [1].values(); for (let i = 0; i < 100000; i++) { const j = it; it = [1].values().flatMap(() => j) } it.next()",
    "let it = { next() { return { done: true } } }; for (let i = 0; i < 1000; i++) it = Iterator.from({ next: it.next, __proto__: it }); it.next()",
    "let it = [1].values(); for (let i = 0; i < 20000; i++) it = Iterator.concat ? Iterator.concat(it) : it; it.next()",
    "let it = [1].values(); for (let i = 0; i < 100000; i++) it = it.map((x) => x); it.return()",
    "const it = { [Symbol.iterator]() { return [...this] } }; [...it]",
    "function* g() { yield* g() } [...g()]",
    "function* g() { yield* g() } g().next()",
    "let it = [1].values(); for (let i = 0; i < 100000; i++) it = it.map((x) => x); it.next()",
    "let it = [1].values(); for (let i = 0; i < 100000; i++) it = Iterator.from({ next: () => it.next() }); it.next()",
    "eval('('.repeat(100000))",
    "eval('('.repeat(100000) + '1' + ')'.repeat(100000))",
    "eval('['.repeat(100000))",
    "eval('['.repeat(100000) + ']'.repeat(100000))",
    "eval('{'.repeat(100000))",
    "eval('a={a:'.repeat(100000))",
    "eval('-'.repeat(1) + '- '.repeat(100000) + '1')",
    "eval('!'.repeat(100000) + '1')",
    "eval('typeof '.repeat(100000) + '1')",
    "eval('1?'.repeat(100000))",
    "eval('1' + '+1'.repeat(100000))",
    "eval('1' + '**1'.repeat(100000))",
    "eval('a=>'.repeat(100000) + '1')",
    "eval('async a=>'.repeat(20000) + '1')",
    "eval('function f(){'.repeat(20000))",
    "eval('class A{static{'.repeat(20000))",
    "eval('`${'.repeat(20000))",
    "eval('`' + '${1}'.repeat(50000) + '`')",
    "eval('x' + '.x'.repeat(100000))",
    "eval('f' + '()'.repeat(100000))",
    "eval('new '.repeat(100000) + 'X')",
    "eval('x' + '?.x'.repeat(100000))",
    "eval('if(1)'.repeat(100000) + '1')",
    "eval('if(0);else '.repeat(100000) + '1')",
    "eval('for(;0;)'.repeat(100000) + '1')",
    "eval('while(0)'.repeat(100000) + '1')",
    "eval('do '.repeat(100000) + '1')",
    "eval('a:'.repeat(20000) + '1')",
    "eval('var ' + '['.repeat(100000))",
    "eval('var ' + '{a:'.repeat(100000))",
    "eval('(' + '['.repeat(50000) + ']'.repeat(50000) + '=1)')",
    "eval('try{'.repeat(50000))",
    "eval('switch(1){case 1:'.repeat(50000))",
    "eval('with(1)'.repeat(50000) + '1')",
    "eval('yield '.repeat(10)); eval('(function*(){' + 'yield '.repeat(100000) + '})')",
    "eval('(async()=>{' + 'await '.repeat(100000) + '1})')",
    "eval('1,'.repeat(100000) + '1')",
    "eval('a||'.repeat(100000) + '1')",
    "eval('a??'.repeat(100000) + '1')",
    "eval('a=' .repeat(100000) + '1')",
    "new Function('a'.repeat(10) + ',b'.repeat(70000), '')",
    "let s = 'eval(\"1\")'; for (let i = 0; i < 30; i++) s = 'eval(' + JSON.stringify(s).slice(0, 100000) + ')'; eval(s)",
    "function e(n) { return eval('e(n + 1)') } e(0)",
    "let p = Promise.resolve(0); for (let i = 0; i < 100000; i++) p = p.then((x) => x + 1); await p",
    "let p = Promise.resolve(0); for (let i = 0; i < 50000; i++) { const q = p; p = (async () => await q)() } await p",
    "let t = { then(r) { r(t) } }; let n = 0; await { then(r) { n++ < 1000 ? r(this) : r(1) } }",
    "async function f() { return await f() } await f()",
    "async function* g() { yield* g() } for await (const x of g()) ;",
    "let s = 'a'; for (let i = 0; i < 200000; i++) s = s + 'b'; s.length",
    "let s = ''; for (let i = 0; i < 200000; i++) s = 'b' + s; s.length",
    "let s = 'a'; for (let i = 0; i < 5000; i++) s = 'x' + s + 'y'; s.charCodeAt(1) + s.indexOf('zz')",
    "Error.prepareStackTrace = () => { throw new Error('x') }; null.x",
    "Error.prepareStackTrace = function p() { return new Error('x').stack }; new Error('y').stack",
    "const e = new Error('x'); Object.defineProperty(e, 'message', { get() { return this.message } }); throw e",
    "const e = new Error('x'); e.cause = e; throw e",
    "let e = { get name() { throw this } }; throw e",
    "Object.defineProperty(Object.prototype, 'toJSON', { get() { return this.toJSON } }); [1]",
    "Array.prototype.push = Array.prototype.join = String.prototype.slice = null; [1, { a: 'x' }]",
    "new Uint8Array(1).sort(function c() { return new Uint8Array(2).sort(c) }); [1,2].toSorted(function c() { return [1,2].toSorted(c) })",
    "BigInt('1' + '0'.repeat(100000)) ** 2n > 0n",
    "(2n ** 100000n).toString().length",
    "Symbol('x'.repeat(1e6)).toString().length",
    "const ws = new WeakMap(); let k = {}; for (let i = 0; i < 50000; i++) { const n = {}; ws.set(k, n); k = n } k = null",
    "let a = []; a[0] = a; String(a); a.flat(1000000)",
    "Reflect.apply(Function.prototype.call, function f() { f.call.apply(f, [f]) }, [])",
    "function f() { f.apply(null, arguments) } f(1, 2, 3)",
    "f = (() => f()); f()",
    "let d = 0; function f() { d++; try { f() } finally { d-- } } try { f() } catch (e) { e.name }",
    "function f() { try { f() } catch { f() } } try { f() } catch { 'out' }",
    "label: { with ({ get x() { return eval('x') } }) x }",
    "Math.max(...Array(100000).fill(1))",
    "Math.max.apply(null, Array(200000).fill(1))",
    "String.fromCharCode(...Array(100000).fill(65)).length",
    "[].concat(...Array(60000).fill([1])).length",
    "(function () { return arguments.length })(...Array(65000).fill(0))",
    "const q = { get [Symbol.toStringTag]() { return Object.prototype.toString.call(this) } }; `${q}`",
];

#[test]
fn no_recursion_costs_the_instance() {
    let mut trapped = Vec::new();
    for &source in DEEP {
        let mut session = Session::new();
        session.value("var kept = 1");
        // A deep recursion that catches its own overflow would go on for hours.
        session.store.data_mut().stop_at_poll = 100;
        match session.try_seeded(source, 1) {
            Err(trap) => trapped.push(format!("{source}: {:#}", trap.root_cause())),
            Ok(outcome) => {
                session.store.data_mut().stop_at_poll = u64::MAX;
                println!("{source:.60} | {:.140}", outcome.to_string());
                assert_eq!(session.value("kept + 1"), json!(2), "{source}");
            }
        }
    }
    assert!(trapped.is_empty(), "{} of {}:\n{}", trapped.len(), DEEP.len(), trapped.join("\n"));
}

#[test]
fn deep_recursion_can_be_caught() {
    let mut session = Session::new();
    assert_eq!(session.error("function f() { f() } f()"), "RangeError: Maximum call stack size exceeded");
    assert_eq!(session.value("let depth = 0; (function f() { depth++; f() }).call && (() => { try { (function g() { depth++; g() })() } catch (e) { return e.name } })()"), json!("RangeError"));
    let depth = session.value("depth").as_u64().expect("a number");
    assert!(depth > 500, "{depth}");
    println!("depth of a plain recursion: {depth}");
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(session.error(&deep), "RangeError: Maximum call stack size exceeded");
    assert_eq!(session.value("1 + 1"), json!(2));
}

#[test]
fn a_full_heap_can_be_caught_and_emptied() {
    let mut trapped = Vec::new();
    for source in [
        "var big = []; for (;;) big.push(big.length)",
        "var big = []; for (;;) big.push({ a: 1, b: [2] })",
        "var big = 'x'; for (;;) { big += big; big.charCodeAt(0) }",
        "var big = 'x'; for (;;) big = big + 'é'.repeat(1000); big.length",
        "var big = 'x'.repeat(2 ** 29); big.length",
        "var big = ['x'.repeat(1e6)]; for (;;) big.push(big[0].toUpperCase() + big.length)",
        "var big = new Uint8Array(1e9)",
        "var big = []; for (;;) big.push(new Uint8Array(1e6))",
        "var big = new ArrayBuffer(8, { maxByteLength: 2 ** 30 }); big.resize(2 ** 30)",
        "var big = new Map(); for (let i = 0; ; i++) big.set(i, i)",
        "var big = new Set(); for (let i = 0; ; i++) big.add('k' + i)",
        "var big = {}; for (let i = 0; ; i++) big['k' + i] = i",
        "var big = null; for (;;) big = { big }",
        "var big = null; for (;;) { const b = big; big = () => b }",
        "var big = Array(1e9).fill(0)",
        "var big = [...Array(1e8)]",
        "var big = 'x'.repeat(1e6).split(''); for (;;) big = big.concat(big)",
        "var big = JSON.parse('[' + '[1,2,3],'.repeat(2e6) + '1]')",
        "var big = JSON.stringify(Array(3e6).fill('abcdefgh'))",
        "var big = []; for (;;) big.push(1n << 100000n)",
        "var big = /(?:)/; big = 'a'.repeat(1e7).replace(/a/g, 'bbbbbbbbbb')",
        "var big = 'a'.repeat(5e6).match(/a/g)",
        "var big = []; for (;;) big.push(Promise.resolve(1).then(() => 1))",
        "var big = []; for (;;) big.push(Symbol('x'.repeat(1000)))",
        "var big = []; for (;;) big.push(new Error('x').stack)",
        "var big = []; for (let i = 0; ; i++) big.push(eval('(function f' + i + '() { return ' + i + ' })'))",
        "var big = []; function f() { big.push(new Array(1000)); f() } for (;;) try { f() } catch (e) { if (e instanceof RangeError) continue; throw e }",
        "var big = eval('[' + '1,'.repeat(4e6) + ']')",
        "var big = new TextEncoder().encode('x'.repeat(3e7))",
        "var big = []; for (;;) { try { big.push(new Array(100)) } catch (e) { throw e } finally { big.length } }",
        "var big = ''; for (;;) big += read_file('a')",
        "var big = []; for (;;) big.push(echo({ a: [1, 2, 3] }))",
        "var big = []; (function g() { for (;;) big.push(structuredClone({ a: [1] })) })()",
        "var big = []; await (async () => { for (;;) { big.push(await null, {}) } })()",
    ] {
        let mut session = Session::with(standard_gate, 8 * 1024 * 1024);
        session.store.data_mut().stop_at_poll = 20_000;
        match session.try_seeded(source, 1) {
            Err(trap) => trapped.push(format!("{source}: {:#}", trap.root_cause())),
            Ok(outcome) => {
                println!("{:.70} | {:.100}", source, outcome.to_string());
                session.store.data_mut().stop_at_poll = u64::MAX;
                assert_eq!(session.value("1 + 1"), json!(2), "{source}");
                assert_eq!(
                    session.value("big = null; let s = 0; for (let i = 0; i < 1000; i++) s += [i].length; s"),
                    json!(1000),
                    "{source}"
                );
                assert_eq!(session.value("new Uint8Array(1e6).length"), json!(1_000_000), "{source}");
                assert_eq!(outcome["error"]["message"], json!("out of memory"), "{source}: {outcome}");
            }
        }
    }
    assert!(trapped.is_empty(), "{}", trapped.join("\n"));
}

#[test]
fn a_full_heap_is_caught_by_the_code() {
    let mut session = Session::with(standard_gate, 8 * 1024 * 1024);
    assert_eq!(
        session.value("let r; try { const a = []; for (;;) a.push({}) } catch (e) { r = e.message } r"),
        json!("out of memory")
    );
    assert_eq!(session.value("let q; try { new Uint8Array(1e9) } catch (e) { q = e.name } q"), json!("InternalError"));
}

#[test]
fn garbage_does_not_fill_the_heap() {
    let mut session = Session::with(standard_gate, 16 * 1024 * 1024);
    assert_eq!(session.value("var keep = new Array(500000).fill(0).map((_, i) => i); for (let i = 0; i < 300000; i++) { const a = {}; const b = { a }; a.b = b } keep.length"), json!(500_000));
}

// ---- Determinism --------------------------------------------------------------------------------------------------

const EVERYTHING_THAT_VARIES: &str = "
    const o = {}; for (let i = 0; i < 50; i++) o['k' + Math.floor(Math.random() * 1000)] = i;
    JSON.stringify([Date.now(), new Date(), performance.now(), performance.timeOrigin, Math.random(), Math.random(),
      new Date(2024, 5, 1, 12).getTimezoneOffset(), new Date(2024, 5, 1, 12).toString(), Object.keys(o),
      [...new Set([o, {}, 1, 'x'])].length, new Error('x').stack, [5, 1, 4].sort(() => Math.random() - 0.5)])";

#[test]
fn the_same_seed_and_clock_give_the_same_bytes() {
    let run = |seed| {
        let mut session = Session::new();
        let outcomes: Vec<_> = (0..3)
            .map(|_| session.try_seeded(&format!("{{ {EVERYTHING_THAT_VARIES} }}"), seed).expect("no trap"))
            .collect();
        (outcomes, session.memory.data(&session.store).to_vec(), session.store.data().polls)
    };
    let (first, memory, polls) = run(1);
    let (second, same_memory, same_polls) = run(1);
    assert_eq!(first, second);
    assert_eq!(polls, same_polls);
    assert!(memory == same_memory, "the memories differ");
    assert_ne!(first, run(2).0);
    assert_eq!(first[0]["ok"], json!(true), "{}", first[0]);
}

#[test]
fn the_clock_is_the_hosts_and_the_time_zone_utc() {
    check("Date.now()", json!(1_700_000_000_001_u64));
    check("new Date().toISOString()", json!("2023-11-14T22:13:20.001Z"));
    check("Math.floor(performance.now() + performance.timeOrigin)", json!(1_700_000_000_001_u64));
    check("new Date(2024, 0, 1).toISOString()", json!("2024-01-01T00:00:00.000Z"));
    check("new Date(0).toString()", json!("Thu Jan 01 1970 00:00:00 GMT+0000"));
}

#[test]
fn random_numbers_are_spread_and_depend_on_the_seed() {
    let mut session = Session::new();
    let mut draw =
        |seed| session.try_seeded("Math.random()", seed).expect("no trap")["value"].as_f64().expect("a number");
    let draws: Vec<f64> = (0..1000).map(&mut draw).collect();
    assert!(draws.iter().all(|x| (0.0..1.0).contains(x)));
    let mean = draws.iter().sum::<f64>() / 1000.0;
    assert!((0.45..0.55).contains(&mean), "{mean}");
    assert!(draws.windows(2).all(|pair| (pair[0] - pair[1]).abs() > 1e-9));
    assert!((draw(0) - draws[0]).abs() < f64::EPSILON);
}

#[test]
fn polls_are_counted_the_same_way_each_time() {
    let count = || {
        let mut session = Session::new();
        session.value("let n = 0; for (let i = 0; i < 1e6; i++) n += [i].map((x) => x * 2)[0]; n");
        session.store.data().polls
    };
    let polls = count();
    assert!(polls > 50, "{polls}");
    assert_eq!(polls, count());
}

#[test]
fn a_copied_memory_goes_on_where_the_first_left_off() {
    let mut session = Session::new();
    session.value("var n = 0; const next = () => ++n; class C { #p = 4; get p() { return this.#p } } let m = new Map([[1, { c: new C() }]]); next()");
    let memory = session.memory.data(&session.store).to_vec();
    let mut copy = Session::unconfigured(standard_gate, HEAP_BYTES_MAX);
    let more = (memory.len() - copy.memory.data_size(&copy.store)) / 65536;
    copy.memory.grow(&mut copy.store, more as u64).expect("room");
    copy.memory.data_mut(&mut copy.store).copy_from_slice(&memory);
    assert_eq!(copy.value("[next(), m.get(1).c.p, echo(1)]"), json!([2, 4, [1]]));
    assert_eq!(session.value("[next(), next()]"), json!([2, 3]));
    assert_eq!(copy.value("next()"), json!(3));
}

// ---- Output and the library ---------------------------------------------------------------------------------------

#[test]
fn the_console_shows_values_a_reader_can_use() {
    let mut session = Session::new();
    session.value("console.log('a', 1, { b: [1, 'x'] }); console.error(new Map([['k', new Set([1])]])); print('p'); console.info(); console.warn('w'); console.debug(null)");
    assert_eq!(session.output(), "1:a 1 { b: [1, \"x\"] }\n2:Map(1) { \"k\" => Set(1) { 1 } }\n1:p\n1:\n2:w\n1:null\n");
    session.value("console.log('%s is %d (%o) 100%%', 'x', '4', { a: 1 }, 'rest'); console.log('50%'); console.assert(1 > 2, 'oh')");
    assert_eq!(session.output(), "1:x is 4 ({ a: 1 }) 100% rest\n1:50%\n2:assertion failed: oh\n");
    session.value("console.log('é'.repeat(1e6))");
    let (_, text) = session.store.data_mut().output.pop().expect("output");
    assert!(text.len() <= 65536 && text.len() > 60000, "{}", text.len());
    session.value("console.log('x'.repeat(70000))");
    assert!(session.output().len() <= 65538 + 40);
}

#[test]
fn values_are_shown_bounded_and_without_cycles() {
    for (source, text) in [
        ("const a = { n: 1 }; a.self = a; a", "{ n: 1, self: [Circular] }"),
        ("({ a: { b: { c: { d: { e: 1 } } } } })", "{ a: { b: { c: { d: [Object] } } } }"),
        ("class P { x = 1 } ; new P()", "P { x: 1 }"),
        (
            "[class A {}, () => 1, new Date(0), /a/g, Symbol.iterator]",
            "[\n  [class A],\n  [Function: (anonymous)],\n  1970-01-01T00:00:00.000Z, /a/g,\n  Symbol(Symbol.iterator)\n]",
        ),
        ("[1, , 3]", "[1, <empty>, 3]"),
        ("Object.create(null)", "[null prototype] {}"),
        ("({ get a() { return 1 }, 'x-y': 2, [Symbol('s')]: 3 })", "{ a: [Getter], \"x-y\": 2, [Symbol(s)]: 3 }"),
        ("new Uint8Array([1, 2])", "Uint8Array(2) [1, 2]"),
        ("new ArrayBuffer(4)", "ArrayBuffer { byteLength: 4 }"),
        ("[new Error('e')]", "[[Error: e]]"),
        ("new WeakMap()", "WeakMap { <items unknown> }"),
        ("[]", "[]"),
        ("({})", "{}"),
        ("new Date(NaN)", "Invalid Date"),
        ("Object.assign(() => 1, { a: 1 })", "[Function: (anonymous)]"),
        ("class L extends Array {}; L.from([1])", "L(1) [1]"),
    ] {
        check_text(source, text);
    }
    let many = Session::new().text("Array.from({ length: 1000 }, (_, i) => i)");
    assert!(many.ends_with("98, 99, … 900 more\n]") && many.lines().count() < 12, "{many}");
    let wide = Session::new().text("({ first: 'x'.repeat(50), second: 'y'.repeat(50) })");
    assert_eq!(wide.lines().count(), 4, "{wide}");
    let long = Session::new().text("'x'.repeat(1e6)");
    assert!(long.ends_with("… (934464 more characters)"), "{}", &long[long.len() - 60..]);
    let all =
        Session::new().eval("Array.from({ length: 100 }, () => Array.from({ length: 100 }, () => 'x'.repeat(1900)))");
    let text = all["text"].as_str().expect("a text");
    assert!(text.len() < 90_000, "{}", text.len());
}

#[test]
fn a_value_too_large_to_carry_is_null_with_its_text() {
    let outcome = Session::new().eval("'x'.repeat(2e6)");
    assert_eq!(outcome["value"], json!(null));
    assert_eq!(outcome["type"], json!("string"));
}

#[test]
fn the_expected_library_is_there() {
    check("[...new TextEncoder().encode('aé😀')]", json!([97, 195, 169, 240, 159, 152, 128]));
    check("new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 97, 255, 98]))", json!("a\u{fffd}b"));
    check("new TextDecoder().decode(new Uint8Array([1, 97, 98, 1]).subarray(1, 3))", json!("ab"));
    check_error(
        "new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([255]))",
        "TypeError: TextDecoder: the bytes are not UTF-8",
    );
    check("new TextDecoder().decode()", json!(""));
    check("atob(btoa('hello'))", json!("hello"));
    check(
        "const a = { d: new Date(5), m: new Map([[1, { x: 1 }]]), l: [1, [2]] }; a.self = a; const b = structuredClone(a); [b !== a, b.self === b, b.d.getTime(), b.m.get(1).x, b.l]",
        json!([true, true, 5, 1, [1, [2]]]),
    );
    check_error("structuredClone(() => 1)", "DataCloneError: a function could not be cloned");
    check("Object.groupBy([1, 2, 3], (x) => x % 2 ? 'odd' : 'even')", json!({"odd": [1, 3], "even": [2]}));
    check("Object.keys(globalThis)", json!(["read_file", "done", "echo", "fail", "cantrip"]));
    check("queueMicrotask(() => globalThis.ran = 1); await null; ran", json!(1));
    check("[typeof Intl, typeof Temporal]", json!(["undefined", "undefined"]));
}

// ---- Figures ------------------------------------------------------------------------------------------------------

/// Prints, and only checks that nothing is out of all proportion: other work may be running on this machine.
#[test]
fn timings() {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    drop(Session::new());
    let mut samples: [Vec<f64>; 5] = Default::default();
    for _ in 0..500 {
        let mut at = Instant::now();
        let mut lap = |samples: &mut Vec<f64>| {
            samples.push(at.elapsed().as_secs_f64() * 1e6);
            at = Instant::now();
        };
        let mut session = Session::unconfigured(standard_gate, HEAP_BYTES_MAX);
        lap(&mut samples[0]);
        session.configure(&GATES, HEAP_BYTES_MAX);
        lap(&mut samples[1]);
        session.value("1 + 1");
        lap(&mut samples[2]);
        session.value("2 + 2");
        lap(&mut samples[3]);
        drop(session);
        lap(&mut samples[4]);
    }
    for (name, samples) in
        ["instantiate", "configure", "first evaluation", "second evaluation", "drop"].iter().zip(&mut samples)
    {
        samples.sort_by(f64::total_cmp);
        println!("{name}: p50 {:.1} µs, p99 {:.1} µs", samples[250], samples[495]);
        assert!(samples[250] < 5_000.0, "{name}");
    }
    let mut session = Session::unconfigured(standard_gate, HEAP_BYTES_MAX);
    let mut before = session.memory.data(&session.store).to_vec();
    let mut dirty = |session: &Session| {
        let after = session.memory.data(&session.store).to_vec();
        let pages = before.chunks(4096).zip(after.chunks(4096)).filter(|(one, other)| one != other).count();
        before = after;
        pages
    };
    session.configure(&GATES, HEAP_BYTES_MAX);
    print!("4 KiB pages changed: {} by configure", dirty(&session));
    session.value("1 + 1");
    print!(", {} by the first evaluation", dirty(&session));
    session.value("2 + 2");
    println!(", {} by the second", dirty(&session));
    println!("memory after configure: {} pages of 64 KiB", session.memory.size(&session.store));
    for source in [
        "function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2) } fib(27)",
        "let s = 0; for (let i = 0; i < 3e6; i++) s += i; s",
        "for (let i = 0; i < 1000; i++) echo(i)",
    ] {
        let at = Instant::now();
        session.value(source);
        println!("{source}: {:.1} ms", at.elapsed().as_secs_f64() * 1e3);
    }
    println!("memory afterwards: {} pages", session.memory.size(&session.store));
}
