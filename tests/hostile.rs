//! The corpus of hostile guests: each breaks one promise of `docs/SECURITY.md` if it can. Each ends in the refusal that is
//! documented, within its ward; the host's memory stays bounded; an innocent entity beside it finishes.
//!
//! A guest without a test, or a test without a guest, fails `every_hostile_guest_has_a_test`. With `--nocapture` the table of
//! what was observed is printed.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "the tests may stop, read and write files, and tell what they saw"
)]

mod guest_support;

use std::path::Path;
use std::sync::Arc;

use cantrip_runtime::adapters::llm::Scripted;
use cantrip_runtime::{CantripBuilder, GateError, HttpPolicy, Root, Wards, builtin};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use guest_support::{Ran, builder, cast, component, folder, guest, guests, runtime, wards};

/// What a hostile guest comes to.
#[derive(Debug)]
enum Ends {
    /// The bytes are not taken at all.
    NotTaken(&'static str),
    /// Refused before anything of it ran.
    Refused(&'static str),
    /// A ward ended it.
    Ward(&'static str),
    /// It broke down or failed, and is told so.
    Fails(&'static str),
    /// It did what it could, and got this.
    Answers(Value),
    /// It did what it could; what it was refused is looked at.
    Returns,
}

/// 32 MiB. What the ward of these tests lets a guest have.
const GUEST_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// 160 MiB. What the process may grow by while a hostile guest runs: the guest's memory, the copies that the engine lets it
/// ask for, compiled code, and what the other guest and the record take.
const HOST_BYTES_MAX: u64 = 160 * 1024 * 1024;

fn bounds() -> Wards {
    Wards {
        max_turns: Some(5),
        max_eval_ms: Some(1_500),
        max_gate_calls: Some(100),
        max_memory_bytes: Some(GUEST_BYTES_MAX),
        max_output_bytes: Some(10_000),
        max_depth: Some(1),
        ..Wards::default()
    }
}

/// A folder with a file that may be read, and one beside it that may not.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let root = files.0.path().join("root");
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::write(root.join("a.txt"), "hello").unwrap();
        std::fs::write(files.0.path().join("secret.txt"), "secret").unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(files.0.path(), root.join("link")).unwrap();
            std::os::unix::fs::symlink("../secret.txt", root.join("out")).unwrap();
        }
        files
    }

    fn root(&self) -> Root {
        Root::open(&self.0.path().join("root")).unwrap()
    }
}

/// 30 s for a guest that is to come to its end: on a machine that does much else it needs them.
const MS_FOR_AN_END: u64 = 30_000;

fn everything(name: &str, files: &Files, expected: &Ends) -> CantripBuilder {
    let ends = matches!(expected, Ends::Answers(_) | Ends::Returns);
    let max_eval_ms = if ends { Some(MS_FOR_AN_END) } else { bounds().max_eval_ms };
    let bounds = Wards { max_eval_ms, ..bounds() };
    let policy: HttpPolicy = serde_json::from_value(json!({ "hosts": ["*"], "timeout_ms": 3_000 })).unwrap();
    let model = json!({ "tool_calls": [{ "gate": "call_entity", "args": { "intent": "again" } }] });
    let model = Scripted::from_values(vec![model; 20]).unwrap();
    builder(guest(&format!("hostile/{name}")), &bounds)
        .gate(builtin::echo())
        .gate(builtin::read_file(files.root()))
        .gate(builtin::list_dir(files.root()))
        .gate(builtin::search(files.root()))
        .gate_for_children(builtin::write_file(files.root()))
        .gate(builtin::http_fetch(policy).unwrap())
        .hold("read_loom")
        .llm(Arc::new(model))
        .delegation()
}

/// The highest that the process's memory was since the last call, in bytes; nothing where the system does not say.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(kib * 1024)
}

/// One at a time, so that the memory that is measured is this guest's.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn innocent(files: &Files) {
    let ran = cast(builder(guest("first"), &wards()).gate(builtin::read_file(files.root())), "a.txt").await;
    assert_eq!(ran.outcome.result, Some(json!("hello")), "the innocent entity: {ran:?}");
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

async fn check(
    name: &str,
    intent: &str,
    expected: Ends,
    make: fn(CantripBuilder, &Files) -> CantripBuilder,
) -> Option<Ran> {
    let _alone = ALONE.lock().await;
    let files = Files::new();
    // What is compiled once is not the hostile guest's.
    innocent(&files).await;
    let bytes = component(&format!("hostile/{name}"));
    let loaded = guests().load("guest", bytes);
    let before = peak_bytes();
    let start = std::time::Instant::now();
    let (observed, ran) = match (loaded, &expected) {
        (Err(error), Ends::NotTaken(text)) => {
            assert!(error.to_string().contains(text), "{name}: {error}");
            (error.to_string(), None)
        }
        (Err(error), _) => panic!("{name}: not taken: {error}"),
        (Ok(_), _) => {
            let cantrip = make(everything(name, &files, &expected), &files);
            match (cantrip.build(runtime().media()), &expected) {
                (Err(error), Ends::Refused(text)) => {
                    let chain = chain(&error);
                    assert!(chain.contains(text), "{name}: {chain}");
                    innocent(&files).await;
                    (chain, None)
                }
                (Err(error), _) => panic!("{name}: refused: {error}: {:?}", std::error::Error::source(&error)),
                (Ok(_), Ends::NotTaken(_) | Ends::Refused(_)) => panic!("{name}: taken"),
                (Ok(_), _) => {
                    let cantrip = make(everything(name, &files, &expected), &files);
                    let (ran, ()) = tokio::join!(cast(cantrip, intent), innocent(&files));
                    let how = format!("{} ({})", ran.outcome.how.as_str(), ran.outcome.reason);
                    match &expected {
                        Ends::Ward(reason) => {
                            assert!(ran.outcome.reason.as_str() == *reason && ran.failure.is_none(), "{name}: {ran:?}");
                        }
                        Ends::Fails(text) => {
                            assert!(ran.failure.as_ref().is_some_and(|why| why.contains(text)), "{name}: {ran:?}");
                        }
                        Ends::Returns => assert_eq!(ran.outcome.reason.as_str(), "returned", "{name}: {ran:?}"),
                        Ends::Answers(value) => assert_eq!(ran.outcome.result.as_ref(), Some(value), "{name}: {ran:?}"),
                        Ends::NotTaken(_) | Ends::Refused(_) => {}
                    }
                    let detail = ran.failure.clone().or_else(|| ran.outcome.result.as_ref().map(Value::to_string));
                    (format!("{how}: {}", detail.unwrap_or_default()), Some(ran))
                }
            }
        }
    };
    let took = start.elapsed();
    let grown = before.zip(peak_bytes()).map_or(0, |(before, after)| after.saturating_sub(before));
    assert!(grown < HOST_BYTES_MAX, "{name}: the host grew by {grown} bytes");
    assert_eq!(std::fs::read_to_string(files.0.path().join("secret.txt")).unwrap(), "secret", "{name}");
    let names: Vec<_> = std::fs::read_dir(files.0.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 2, "{name} left something outside of its root: {names:?}");
    println!("{name} | {} | {} ms, {} MiB", observed.replace('\n', " "), took.as_millis(), grown >> 20);
    ran
}

/// A test for each guest, and the list of them.
macro_rules! hostile {
    ($($name:ident => $expected:expr $(, with $make:expr)? $(, then $then:expr)?;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            #[allow(unused_mut, unused_assignments, clippy::allow_attributes, reason = "one macro for all forms")]
            let mut make: fn(CantripBuilder, &Files) -> CantripBuilder = |builder, _| builder;
            $(make = $make;)?
            let ran = check(stringify!($name), "go on", $expected, make).await;
            #[allow(unused_variables, clippy::allow_attributes, reason = "one macro for all forms")]
            let ran = ran;
            $(let then: fn(&Ran) = $then; then(&ran.unwrap());)?
        })*
        const TESTED: &[&str] = &[$(stringify!($name)),*, "gate_of_the_intent"];
    };
}

fn refusals(ran: &Ran) -> Vec<GateError> {
    ran.turns().iter().flat_map(|turn| turn.gates.clone()).filter_map(|run| run.result?.err()).collect()
}

hostile! {
    spin_in_run => Ends::Ward("max_eval_ms");
    spin_in_start => Ends::Ward("max_eval_ms");
    spin_in_realloc => Ends::Ward("max_eval_ms");
    spin_after_done => Ends::Answers(json!("ok"));
    sleep_for_ever => Ends::Ward("max_eval_ms");
    memory => Ends::Ward("max_memory_bytes");
    tables => Ends::Answers(json!(true));
    instances => Ends::Refused("core module instances");
    resources => Ends::Fails("more than 512 resources");
    stack => Ends::Fails("used up the stack");
    list_of_4_gib => Ends::Fails("the guest broke down");
    answer_elsewhere => Ends::Fails("the guest broke down");
    answer_is_no_text => Ends::Fails("the guest broke down");
    answer_is_no_json => Ends::Fails("what it returned is not JSON");
    answer_is_no_case => Ends::Fails("the guest broke down");
    large_answer => Ends::Fails("more than 16777216 bytes");
    trap => Ends::Fails("unreachable");
    trap_in_start => Ends::Fails("unreachable");
    trap_in_realloc => Ends::Fails("unreachable");
    trap_in_step => Ends::Fails("unreachable");
    realloc_elsewhere => Ends::Fails("the guest broke down");
    name_elsewhere => Ends::Fails("the guest broke down");
    name_of_4_gib => Ends::Fails("the guest broke down");
    name_is_no_text => Ends::Fails("the guest broke down");
    arguments_of_30_mib => Ends::Fails("more than 16777216 bytes");
    name_is_long => Ends::Fails("a gate's name has at most 256 bytes");
    flood_of_gates => Ends::Fails("1000 of its calls were refused"), then |ran| {
        let recorded: usize = ran.turns().iter().map(|turn| turn.gates.len()).sum();
        assert_eq!(recorded, 100 + 1_000, "calls in the record");
    };
    flood_of_output => Ends::Answers(json!(true)), then |ran| assert!(ran.seen().len() < 11_000 && ran.seen().contains("more bytes of output dropped"));
    flood_of_stdout => Ends::Answers(json!(true)), then |ran| assert!(ran.seen().len() < 11_000 && ran.seen().contains("more bytes of output dropped"));
    after_done => Ends::Answers(json!("ok")), then |ran| {
        assert!(refusals(ran).iter().any(|error| error.message().contains("done had been called")), "{ran:?}");
    };
    reentrant => Ends::Fails("the guest broke down");
    gate_it_does_not_hold => Ends::Fails("this circle holds no gate `write_file`");
    paths_read_file => Ends::Answers(json!(0)), then |ran| assert_eq!(refusals(ran).len(), 16);
    paths_list_dir => Ends::Answers(json!(0)), then |ran| assert_eq!(refusals(ran).len(), 16);
    paths_search => Ends::Answers(json!(0)), then |ran| assert_eq!(refusals(ran).len(), 16);
    paths_write_file => Ends::Answers(json!(0)), with |builder, _| builder.hold("write_file"), then |ran| assert_eq!(refusals(ran).len(), 11);
    addresses => Ends::Answers(json!(0)), then |ran| assert_eq!(refusals(ran).len(), 21);
    proposals_that_are_wider => Ends::Answers(json!(0));
    forged_ids => Ends::Answers(json!(0));
    forged_handles => Ends::Answers(json!(0)), then |ran| assert_eq!(refusals(ran).len(), 8);
    recursion => Ends::Answers(json!(0));
    recursion_in_depth => Ends::Returns, then |ran| {
        assert_eq!(ran.tree.entities().count(), 2, "a child, and none below it: {ran:?}");
        let child = ran.tree.turns().into_iter().filter(|turn| turn.entity != ran.outcome.entity);
        let refused: Vec<GateError> = child.flat_map(|turn| turn.gates).filter_map(|run| run.result?.err()).collect();
        assert!(!refused.is_empty() && refused.iter().all(|error| error.message().contains("max_depth")), "{refused:?}");
    };
    unknown_import => Ends::Refused("acme:shell/execute@1.0.0");
    sockets => Ends::Refused("never given sockets");
    lone_function => Ends::Refused("exit: a guest is given interfaces of cantrip:guest");
    ungranted_gates => Ends::Refused("add \"llm_query\" to circle.gates and name a model in `[llm]`");
    gate_of_another_type => Ends::Refused("type mismatch");
    run_of_another_type => Ends::NotTaken("`run` has another type");
    several_worlds => Ends::NotTaken("exactly one of `run`, `step` and `evaluate`");
    own_start => Ends::NotTaken("not valid");
    steps_without_end => Ends::Ward("max_turns"), then |ran| assert_eq!(ran.turns().len(), 5);
}

#[test]
fn every_hostile_guest_has_a_test() {
    let mut guests: Vec<String> = std::fs::read_dir(folder().join("hostile"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    guests.sort();
    let mut tested: Vec<&str> = TESTED.to_vec();
    tested.sort_unstable();
    assert_eq!(guests, tested);
    let table = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SECURITY.md")).unwrap();
    let undocumented: Vec<&&str> = tested.iter().filter(|name| !table.contains(&format!("`{name}`"))).collect();
    assert!(undocumented.is_empty(), "docs/SECURITY.md does not say what becomes of {undocumented:?}");
}

/// A server that sends everybody on to the cloud's metadata, and to itself by another name.
#[tokio::test(flavor = "multi_thread")]
async fn gate_of_the_intent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let to = if String::from_utf8_lossy(&request[..length]).contains("/metadata") {
                "http://169.254.169.254/latest/meta-data/".to_owned()
            } else {
                format!("http://localhost:{}/", address.port())
            };
            let answer =
                format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _closed = stream.write_all(answer.as_bytes()).await;
        }
    });
    for (path, refusal) in [("metadata", "169.254.169.254"), ("name", "localhost")] {
        let intent = json!([format!("http://127.0.0.1:{}/{path}", address.port())]).to_string();
        let policy = json!({ "hosts": [format!("127.0.0.1:{}", address.port())], "private_addresses": ["127.0.0.1"], "redirects_max": 5, "timeout_ms": 3_000 });
        let policy: HttpPolicy = serde_json::from_value(policy).unwrap();
        let cantrip =
            builder(guest("hostile/gate_of_the_intent"), &bounds()).gate(builtin::http_fetch(policy).unwrap());
        let ran = cast(cantrip, &intent).await;
        let why = ran.failure.clone().unwrap_or_default();
        assert!(why.contains(refusal) && why.contains("denied"), "{path}: {ran:?}");
        println!("gate_of_the_intent | {why}");
    }
    server.abort();
}

/// Loads some bytes; whatever they are, the answer is a sentence.
fn not_taken(what: &str, bytes: Vec<u8>, expected: &str) {
    let error = guests().load("guest", bytes).map(|guest| format!("{:?}", guest.manifest())).unwrap_err();
    assert!(error.to_string().contains(expected), "{what}: {error}");
}

fn prebuilt() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/reader/reader.wasm")).unwrap()
}

/// A generator that is the same each time.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

#[test]
fn bytes_that_are_no_guest_are_not_taken() {
    let component = prebuilt();
    not_taken("nothing", Vec::new(), "this is no WebAssembly");
    not_taken("text", b"(component)".to_vec(), "this is no WebAssembly");
    not_taken("a core module", wat::parse_str("(module)").unwrap(), "core module and not a component");
    not_taken("an empty component", wat::parse_str("(component)").unwrap(), "exports nothing");
    not_taken("too much", [&component[..], &vec![0; 70 << 20]].concat(), "the limit is 67108864");
    let text = "(component ".repeat(1_500) + &")".repeat(1_500);
    if let Ok(nested) = wat::parse_str(&text) {
        let error = guests().load("guest", nested).unwrap_err().to_string();
        assert!(error.contains("not valid") || error.contains("exports nothing"), "{error}");
    }
    for length in (1..component.len()).step_by(997) {
        assert!(guests().load("guest", component[..length].to_vec()).is_err(), "the first {length} bytes");
    }
    let mut seed = 7;
    for _ in 0..500 {
        let bytes: Vec<u8> = (0..random(&mut seed) % 400).map(|_| random(&mut seed).to_le_bytes()[0]).collect();
        assert!(guests().load("guest", bytes.clone()).is_err());
        assert!(guests().load("guest", [b"\0asm\x0d\0\x01\0", &bytes[..]].concat()).is_err());
    }
}

/// What is damaged somewhere in the middle is refused, or is another component that may still only do what it imports.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_with_changed_bytes_never_harms_the_host() {
    let _alone = ALONE.lock().await;
    let component = component("first");
    let files = Files::new();
    let mut seed = 11;
    let (mut taken, mut ran) = (0, 0);
    for _ in 0..300 {
        let mut bytes = component.clone();
        for _ in 0..=random(&mut seed) % 3 {
            let at = usize::try_from(random(&mut seed) % bytes.len() as u64).unwrap();
            bytes[at] = random(&mut seed).to_le_bytes()[0];
        }
        let Ok(guest) = guests().load("guest", bytes) else { continue };
        taken += 1;
        let cantrip = builder(guest, &bounds()).gate(builtin::read_file(files.root()));
        let Ok(cantrip) = cantrip.build(runtime().media()) else { continue };
        let ended = runtime().cast(&cantrip, "a.txt", cantrip_runtime::CastOptions::default()).await;
        assert!(!matches!(ended, Err(cantrip_runtime::CastError::Fault(_))), "{ended:?}");
        ran += 1;
    }
    println!("of 300 changed components {taken} were valid and {ran} ran");
    innocent(&files).await;
}

/// Ten MiB that mean nothing cost what they weigh.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_custom_section_is_only_weight() {
    let _alone = ALONE.lock().await;
    let files = Files::new();
    let mut bytes = component("first");
    let length = 10 << 20;
    // Section 0, its size in LEB128, a name of one letter, and nothing.
    bytes.push(0);
    let mut size = length + 2;
    while size >= 0x80 {
        bytes.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    bytes.push(size as u8);
    bytes.extend([1, b'x']);
    bytes.resize(bytes.len() + length, 0);
    let guest = guests().load("guest", bytes).unwrap();
    let ran = cast(builder(guest, &bounds()).gate(builtin::read_file(files.root())), "a.txt").await;
    assert_eq!(ran.outcome.result, Some(json!("hello")));
}

/// Machine code is only ever taken from the runtime's own folder: not as a guest, and not with a false name.
#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_is_not_taken_from_anybody() {
    let _alone = ALONE.lock().await;
    innocent(&Files::new()).await;
    let artefacts = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-artefacts");
    let compiled = std::fs::read_dir(artefacts).unwrap().flatten().map(|entry| entry.path());
    let is_artefact = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "cwasm");
    let compiled = compiled.filter(is_artefact).min().unwrap();
    not_taken("an artefact", std::fs::read(compiled).unwrap(), "takes no machine code from anybody");
}
