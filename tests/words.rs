//! Everything that a person or a program reads from the command, as it is: help, tables, JSON, errors with their exit codes.
//!
//! A change shows as a difference in `tests/snapshots/`; look at it before you accept it (`INSTA_UPDATE=always cargo test
//! -p cantrip-runtime --test words`).
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may stop, and runs the command")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const CANTRIP: &str = r#"[llm]
provider = "scripted"
path = "turns.jsonl"

[identity]
system_prompt = "You answer questions about notes."

[circle]
medium = "conversation"
gates = ["read_file", "write_file", "http_fetch", "call_entity", "echo", "done"]

[circle.wards]
max_turns = 4
max_tokens = 9000
no_trifecta = true

[gate.read_file]
root = "."
[gate.write_file]
root = "."
[gate.http_fetch]
hosts = ["*.example.com"]
"#;

const TURNS: &str = r#"{"content": "Let me see.", "tool_calls": [{"gate": "read_file", "args": {"path": "note.txt"}}, {"gate": "read_file", "args": {"path": "../x"}}], "usage": {"prompt_tokens": 20, "completion_tokens": 7}}
{"tool_calls": [{"gate": "call_entity", "args": {"intent": "count", "circle": {"gates": ["done"]}}}]}
{"tool_calls": [{"gate": "done", "args": {"answer": 7}}]}
{"tool_calls": [{"gate": "done", "args": {"answer": {"words": 2}}}]}
"#;

/// A folder with a cantrip, its script and a note, and a data directory of its own; the home is beside it.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(desk.path("")).unwrap();
        desk.write("cantrip.toml", CANTRIP);
        desk.write("turns.jsonl", TURNS);
        desk.write("note.txt", "two words, key sk-proj-abcdefghijklmnopqrstuvwxyz");
        // It sends requests.
        let trusted = desk.run("trust cantrip.toml");
        assert!(trusted.ends_with("--- exit 0\n"), "{trusted}");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("desk").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The guest of examples/reader.
    fn reader(&self, name: &str) {
        let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/reader/reader.wasm");
        std::fs::copy(reader, self.path(name)).unwrap();
    }

    /// Runs a command line in the folder: what it prints, and how it ends.
    fn run(&self, line: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_cantrip-runtime"))
            .args(line.split(' ').map(|word| word.replace('_', " ")).filter(|word| !word.is_empty()))
            .current_dir(self.path(""))
            .env("CANTRIP_DATA", self.path("data"))
            .env("HOME", self.0.path().join("home"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("CANTRIP_CONFIG")
            .env("ANTHROPIC_API_KEY", "not-a-key")
            .env_remove("CANTRIP_LOG")
            .env("COLUMNS", "100")
            .output()
            .unwrap();
        format!(
            "$ cantrip-runtime {line}\n{}--- stderr\n{}--- exit {}\n",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status.code().unwrap()
        )
    }
}

/// Compares with the snapshot, without the names, times and places that differ from run to run.
fn check(name: &str, told: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tests/snapshots"));
    settings.set_omit_expression(true);
    settings.add_filter(r"bafyr[a-z2-7]{54}", "[entry]");
    settings.add_filter(r"sha256:[0-9a-f]{64}", "[sha256]");
    settings.add_filter(r#"(size     |compiling reader, |compiling another, |"bytes": )\d+"#, "$1[bytes]");
    settings.add_filter(r"(\[sha256\]) +\d+", "$1 [bytes]");
    settings.add_filter(r#""seed":\d+,"clock_us":\d+"#, r#""seed":[seed],"clock_us":[time]"#);
    settings.add_filter(r"blake3:[0-9a-f]{64}", "[digest]");
    settings.add_filter(r#""writer": ?"[0-9a-f]{64}""#, r#""writer": "[writer]""#);
    settings.add_filter(r"\b[0-7][0-9a-hjkmnp-tv-z]{25}([0-9a-hjkmnp-tv-z]{10})?\b", "[id]");
    settings.add_filter(r"(?m)^0[0-9a-hjkmnp-tv-z]{13} ", "[short id] ");
    settings.add_filter(r#""(nonce|by)": ?"[0-9a-f]{32,64}""#, r#""$1": "[bytes]""#);
    settings.add_filter(r#"("(?:at|first|last)_us": ?)\d{16}"#, "$1[time]");
    settings.add_filter(r#"("(?:duration|spent)_us": ?)\d+"#, "$1[time]");
    settings.add_filter(r"\d+(\.\d)? (µs|ms)\b", "[time]");
    settings.add_filter(r" +\d+ (s|min) ago", " [age]");
    settings.add_filter(r"(/[^\s:`]+)+/(\.tmp\w+)/desk", "[folder]");
    settings.bind(|| insta::assert_snapshot!(name, told));
}

#[test]
fn help_says_what_there_is() {
    let desk = Desk::new();
    let commands =
        ["", "cast ", "check ", "summon ", "loom ", "loom ls ", "loom show ", "loom thread ", "loom export "];
    let more = [
        "new ",
        "build ",
        "inspect ",
        "guests ",
        "guests add ",
        "loom verify ",
        "loom reward ",
        "conform ",
        "completions ",
        "trust ",
        "trust rm ",
        "config ",
        "config show ",
    ];
    let told: String = commands.iter().chain(&more).map(|command| desk.run(&format!("{command}--help"))).collect();
    check("help", &told);
}

#[test]
fn check_says_what_an_entity_could_do() {
    let desk = Desk::new();
    check("check", &(desk.run("check cantrip.toml") + &desk.run("check cantrip.toml --json")));
}

#[test]
fn a_cast_shows_its_turns_and_the_loom_keeps_them() {
    let desk = Desk::new();
    let mut told = desk.run("cast cantrip.toml Count_the_words");
    for line in ["loom ls", "loom ls --json", "loom show", "loom show --json", "loom verify", "loom verify --json"] {
        told += &desk.run(line);
    }
    check("cast", &told);
    check("export", &desk.run("loom export"));
    desk.write("turns.jsonl", TURNS);
    check(
        "cast_json",
        &(desk.run("cast cantrip.toml Again --json --quiet") + &desk.run("cast cantrip.toml Again --events --scratch")),
    );
}

#[test]
fn a_wrong_file_is_named_with_its_line_and_what_is_allowed() {
    let desk = Desk::new();
    let mut told = String::new();
    for (right, wrong) in [
        ("[identity]", "[identiti]"),
        ("medium =", "mediun ="),
        ("\"conversation\"", "\"javascrip\""),
        ("\"echo\", ", "\"ecko\", "),
        (", \"done\"]", "]"),
        ("max_turns = 4\nmax_tokens = 9000\n", ""),
        ("max_turns = 4", "max_turns = 0"),
        ("max_turns = 4", "max_turn = 4"),
        ("max_turns = 4", "max_turns = \"four\""),
        ("\"scripted\"", "\"antropic\""),
        ("turns.jsonl", "turn.jsonl"),
        ("[gate.read_file]\nroot = \".\"", "[gate.read_file]\nroot = \"note.txt\""),
        ("[gate.read_file]\nroot = \".\"", "[gate.read_file]\nroots = \".\""),
        ("hosts = [\"*.example.com\"]", "hosts = []"),
        ("hosts = [\"*.example.com\"]", "hosts = [\"http://a\"]"),
        ("[gate.http_fetch]", "[gate.fetch]"),
        ("[llm]", "[llm"),
    ] {
        assert!(CANTRIP.contains(right), "{right}");
        desk.write("wrong.toml", &CANTRIP.replacen(right, wrong, 1));
        told += &[&format!("# {right:?} is {wrong:?}\n"), desk.run("check wrong.toml").as_str()].concat();
    }
    assert_eq!(told.matches("--- exit 2").count(), 17, "{told}");
    check("wrong_files", &told);
}

#[test]
fn a_wrong_command_line_is_answered_with_what_to_do() {
    let desk = Desk::new();
    let lines = [
        "cast",
        "cast nothing.toml x",
        "casst",
        "loom show",
        "loom show zzz",
        "loom verify",
        "cast cantrip.toml x --resume zzz",
    ];
    check("wrong_lines", &lines.map(|line| desk.run(line)).concat());
}

#[test]
fn an_export_keeps_types_and_takes_secrets_out_of_text_that_holds_json() {
    let desk = Desk::new();
    let said = r#"{"content": "{\"db_password\": \"correct-horse\"} [1, 2]", "tool_calls": [{"gate": "echo", "args": {"text": "{\"api_token\": \"battery-staple\"}"}}, {"gate": "done", "args": {"answer": 7}}]}"#;
    desk.write("turns.jsonl", said);
    desk.run("cast cantrip.toml x");
    let exported = desk.run("loom export");
    assert!(exported.contains(r#""result":{"ok":7}"#) && exported.contains(r#""result":7"#), "{exported}");
    assert!(exported.contains(r#""content":"{\"db_password\": "#), "{exported}");
    assert!(!exported.contains("correct-horse") && !exported.contains("battery-staple"), "{exported}");
}

/// The cantrip files that the documents show can be used as they stand.
#[test]
fn the_documents_show_files_that_are_right() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for document in ["README.md", "docs/cantrip-file.md"] {
        let text = std::fs::read_to_string(top.join(document)).unwrap();
        let shown = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for shown in shown.filter(|shown| shown.contains("[circle]")) {
            let desk = Desk::new();
            for folder in ["docs", "out"] {
                std::fs::create_dir(desk.path(folder)).unwrap();
            }
            desk.reader("reader.wasm");
            desk.write("shown.toml", shown);
            let told = desk.run("check shown.toml --strict");
            assert!(told.ends_with("--- exit 0\n"), "{document}: {told}");
        }
    }
}

/// Reads a file below the folder and returns its first paragraph, without a model.
const GUEST: &str = "\
[guest]
component = \"reader.wasm\"
[circle]
gates = [\"read_file\", \"done\"]
[circle.wards]
max_turns = 1
[gate.read_file]
root = \".\"
";

#[test]
fn a_guest_is_inspected_kept_checked_and_cast() {
    let desk = Desk::new();
    desk.reader("reader.wasm");
    desk.write("guest.toml", GUEST);
    let lines = [
        "inspect reader.wasm",
        "inspect reader.wasm --json",
        "check guest.toml",
        "check guest.toml --json",
        "cast guest.toml Read_note.txt",
        "loom show",
        "cast guest.toml Read_nothing.txt",
        "guests ls",
        "guests add reader.wasm",
        "guests add reader.wasm --name another",
        "guests ls",
        "guests ls --json",
        "guests rm readr",
        "guests rm another",
        "guests ls",
        "guests rm reader",
        "guests ls",
    ];
    let mut told = lines.map(|line| desk.run(line)).concat();
    desk.write("guest.toml", &GUEST.replace("reader.wasm", "reader"));
    told += &desk.run("cast guest.toml Read_note.txt");
    check("guests", &told);
}

#[test]
fn a_guest_that_cannot_run_is_refused_with_what_would_help() {
    let desk = Desk::new();
    desk.reader("reader.wasm");
    desk.write("core.wasm", "\0asm\u{1}\0\0\0");
    let mut told = String::new();
    for (right, wrong) in [
        ("\"read_file\", ", ""),
        ("reader.wasm", "missing.wasm"),
        ("reader.wasm", "note.txt/x"),
        ("reader.wasm", "core.wasm"),
        ("reader.wasm", "turns.jsonl.wasm"),
        ("reader.wasm", "reader@sha256:00"),
        ("[circle]\n", "[circle]\nmedium = \"javascript\"\n"),
        ("[circle]\n", "[circle]\nmedium = { guest = \"reader.wasm\" }\n"),
        (
            "[guest]\ncomponent = \"reader.wasm\"\n[circle]\n",
            "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[circle]\nmedium = { guest = \"reader.wasm\" }\n",
        ),
        ("\"done\"", "\"llm_query\", \"done\""),
        ("\"done\"", "\"call_entity\", \"done\""),
        ("component", "module"),
    ] {
        assert!(GUEST.contains(right), "{right}");
        desk.write("turns.jsonl.wasm", TURNS);
        desk.write("wrong.toml", &GUEST.replacen(right, wrong, 1));
        told += &[&format!("# {right:?} is {wrong:?}\n"), desk.run("check wrong.toml").as_str()].concat();
    }
    assert_eq!(told.matches("--- exit 2").count(), 12, "{told}");
    for line in [
        "inspect note.txt",
        "inspect nothing.wasm",
        "inspect nobody",
        "guests add note.txt",
        "build .",
        "build nowhere",
        "new .",
    ] {
        told += &desk.run(line);
    }
    check("wrong_guests", &told);
}
