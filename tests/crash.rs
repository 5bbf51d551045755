//! Pull the plug at any instant: what was acknowledged is there, and the entity can go on.
//!
//! `CANTRIP_CRASH_ROUNDS` says how often; the seed of a failing round is in its message.
#![expect(clippy::expect_used, clippy::disallowed_methods, reason = "a test may stop, and runs the binary")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// 25 rounds are some seconds; a release is tried with hundreds.
const ROUNDS_DEFAULT: u64 = 25;
const TURNS: usize = 40;

fn lay_out(folder: &Path) {
    let cantrip = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[circle]\nmedium = \"javascript\"\n\
        gates = [\"echo\", \"write_file\", \"done\"]\n[circle.wards]\nmax_turns = 100\n[gate.write_file]\nroot = \".\"\n";
    std::fs::write(folder.join("cantrip.toml"), cantrip).expect("a cantrip file");
    let mut turns = String::from("{\"code\": \"let count = 0\"}\n");
    for _ in 0..TURNS {
        turns.push_str("{\"code\": \"count += 1; echo('turn'); write_file('note.txt', 'count ' + count); count\"}\n");
    }
    writeln!(turns, "{{\"code\": \"done(count)\"}}").expect("text");
    std::fs::write(folder.join("turns.jsonl"), turns).expect("a script");
}

/// The interpreter is compiled once for all rounds.
fn lend_artefacts(folder: &Path) {
    static FIRST: OnceLock<tempfile::TempDir> = OnceLock::new();
    let first = FIRST.get_or_init(|| {
        let first = tempfile::tempdir().expect("a folder");
        lay_out(first.path());
        let cast = runtime(first.path()).args(["cast", "cantrip.toml", "warm up", "-q"]).output().expect("a cast");
        assert!(cast.status.success(), "{}", String::from_utf8_lossy(&cast.stderr));
        first
    });
    let lent = folder.join("data/artefacts");
    std::fs::create_dir_all(&lent).expect("a folder");
    for file in std::fs::read_dir(first.path().join("data/artefacts")).expect("artefacts").flatten() {
        // The same file: of a copy nothing is taken.
        std::fs::hard_link(file.path(), lent.join(file.file_name())).expect("a link");
    }
}

/// A folder with a home beside it: what is trusted does not lie in the project.
struct Work(std::path::PathBuf);

impl Work {
    fn path(&self) -> &Path {
        &self.0
    }
}

fn runtime(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cantrip-runtime"));
    command.arg("--data").arg(folder.join("data")).current_dir(folder).env("HOME", folder.with_extension("home"));
    command.env_remove("XDG_CONFIG_HOME").env_remove("CANTRIP_CONFIG");
    command
}

/// Casts, and kills the process after so many events. Returns how many turns were acknowledged: a turn is durable before
/// the next one starts.
fn cast_and_kill(folder: &Path, events: u64) -> u64 {
    let mut child = runtime(folder)
        .args(["cast", "cantrip.toml", "count", "--events"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let stderr = BufReader::new(child.stderr.take().expect("its stderr"));
    let mut acknowledged = 0;
    for (line, seen) in stderr.lines().zip(1..) {
        let line = line.expect("a line");
        if let Ok(event) = serde_json::from_str::<serde_json::Value>(&line)
            && event.get("event").and_then(serde_json::Value::as_str) == Some("turn_started")
        {
            acknowledged = event.get("turn").and_then(serde_json::Value::as_u64).expect("its number") - 1;
        }
        if seen >= events {
            child.kill().expect("it is killed");
            break;
        }
    }
    child.wait().expect("it is gone");
    acknowledged
}

fn turns(folder: &Path) -> u64 {
    let shown = runtime(folder).args(["loom", "show", "--json"]).output().expect("loom show");
    let turns: Vec<serde_json::Value> = serde_json::from_slice(&shown.stdout).unwrap_or_default();
    turns.iter().filter(|turn| turn.get("observation").is_some_and(|seen| !seen.is_null())).count() as u64
}

#[test]
fn a_killed_cast_loses_no_acknowledged_turn_and_goes_on() {
    let rounds =
        std::env::var("CANTRIP_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS_DEFAULT);
    let mut random: u64 = 0x2545_f491_4f6c_dd1d;
    for round in 0..rounds {
        // xorshift (Marsaglia 2003): the rounds are the same each time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let events = 3 + random % 380;
        let folder = tempfile::tempdir().expect("a folder");
        lay_out(folder.path());
        lend_artefacts(folder.path());
        let acknowledged = cast_and_kill(folder.path(), events);
        let verified = runtime(folder.path()).args(["loom", "verify"]).output().expect("loom verify");
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success(), "round {round}, {events} events: {said}");
        let kept = turns(folder.path());
        assert!(
            kept >= acknowledged,
            "round {round}, {events} events: {acknowledged} turns were acknowledged, {kept} are there"
        );
    }
}

#[test]
fn a_killed_cast_is_resumed_without_asking_or_calling_again() {
    let folder = tempfile::tempdir().expect("a folder");
    lay_out(folder.path());
    lend_artefacts(folder.path());
    let acknowledged = cast_and_kill(folder.path(), 120);
    assert!(acknowledged > 2, "killed too early to say anything");
    // What is left to be said: the script of the first process is gone with it.
    std::fs::write(folder.path().join("turns.jsonl"), "{\"code\": \"done(count)\"}\n").expect("a script");
    let kept = turns(folder.path());
    let listed = runtime(folder.path()).args(["loom", "ls", "--json"]).output().expect("loom ls");
    let looms: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("json");
    let loom = looms.pointer("/0/loom").and_then(serde_json::Value::as_str).expect("a loom").to_owned();
    let resumed =
        runtime(folder.path()).args(["cast", "cantrip.toml", "--resume", &loom, "-q"]).output().expect("a cast");
    let said = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(resumed.status.success(), "{said}");
    // The first turn declares the counter, every further one adds to it.
    let count: u64 = String::from_utf8_lossy(&resumed.stdout).trim().parse().expect("a number");
    assert_eq!(count, kept - 1, "the bindings are what the record says");
}

/// A guest has no model that could go on: its run itself is taken up, from its recorded answers, and goes on where they end.
#[test]
fn a_killed_guest_is_taken_up_where_its_record_ends() {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = Work(outer.path().join("work"));
    std::fs::create_dir(folder.path()).expect("a folder in it");
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/built/everything.wasm");
    std::fs::copy(guest, folder.path().join("guest.wasm")).expect("the guest");
    let files = ["read_file", "list_dir", "search", "write_file"];
    let roots = files.map(|gate| format!("[gate.{gate}]\nroot = \".\"\n")).concat();
    let cantrip = format!(
        "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[guest]\ncomponent = \"guest.wasm\"\n[circle]\n\
         gates = [\"read_file\", \"list_dir\", \"search\", \"write_file\", \"http_fetch\", \"call_entity\", \
         \"call_entity_batch\", \"llm_query\", \"read_loom\", \"echo\", \"done\"]\n[circle.wards]\nmax_turns = 1\n\
         {roots}[gate.http_fetch]\nhosts = [\"example.org\"]\n"
    );
    std::fs::write(folder.path().join("cantrip.toml"), cantrip).expect("a cantrip file");
    std::fs::write(folder.path().join("turns.jsonl"), "{\"content\": \"-\"}\n").expect("a script");
    assert!(runtime(folder.path()).args(["trust", "cantrip.toml"]).status().expect("it is trusted").success());
    let echo = |number: usize| serde_json::json!({ "call": "gate", "with": "echo", "text": number.to_string() });
    let write = serde_json::json!({ "call": "write", "with": "begun.txt", "text": "x" });
    let wait = serde_json::json!({ "call": "clock" });
    let tasks: Vec<serde_json::Value> =
        std::iter::once(write).chain((0..60).flat_map(|number| [echo(number), wait.clone()])).collect();
    let intent = serde_json::Value::Array(tasks).to_string();

    let mut child = runtime(folder.path())
        .args(["cast", "cantrip.toml", &intent, "--events"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let events = BufReader::new(child.stderr.take().expect("its stderr")).lines();
    assert_eq!(events.take(30).flatten().count(), 30);
    child.kill().expect("it is killed");
    child.wait().expect("it is gone");
    std::fs::remove_file(folder.path().join("begun.txt")).expect("it had begun");

    let listed = runtime(folder.path()).args(["loom", "ls", "--json"]).output().expect("loom ls");
    let looms: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("json");
    let loom = looms.pointer("/0/loom").and_then(serde_json::Value::as_str).expect("a loom").to_owned();
    let resumed =
        runtime(folder.path()).args(["cast", "cantrip.toml", "--resume", &loom, "-q"]).output().expect("a cast");
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    let answers: Vec<serde_json::Value> = serde_json::from_slice(&resumed.stdout).expect("its answer");
    let echoed = answers.iter().skip(1).step_by(2).map(|answer| answer.as_str().unwrap_or_default().to_owned());
    assert_eq!(echoed.collect::<Vec<_>>(), (0..60).map(|number: usize| number.to_string()).collect::<Vec<_>>());
    assert!(!folder.path().join("begun.txt").exists(), "what had been written was written again");
    let verified = runtime(folder.path()).args(["loom", "verify"]).output().expect("loom verify");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
