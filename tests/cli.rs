//! The command as a person and a program meet it: what it prints where, and how it ends.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may stop, and runs the command"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const PARAGRAPH: &str = "Runs agents whose every action crosses a WebAssembly sandbox";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn example() -> String {
    root().join("examples/first-paragraph/cantrip.toml").display().to_string()
}

/// A data directory of its own, and a folder for files.
struct Bench {
    folder: TempDir,
}

/// How a command ended.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// stderr holds all of this.
    fn says(&self, expected: &[&str]) {
        for text in expected {
            assert!(self.err.contains(text), "expected {text:?} in stderr:\n{}", self.err);
        }
    }
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cantrip-runtime"));
        command.args(arguments).env("CANTRIP_DATA", self.data()).env_remove("CANTRIP_LOG").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    fn run_with(&self, arguments: &[&str], typed: &str) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// A cantrip whose model says these lines.
    fn cantrip(&self, turns: &str) -> String {
        self.write("turns.jsonl", turns);
        self.write("cantrip.toml", GOOD)
    }

    fn example(&self) -> Ran {
        self.run(&["cast", &example(), INTENT]).ends(0)
    }
}

const INTENT: &str = "Read README.md and return the first paragraph";

const GOOD: &str = r#"[llm]
provider = "scripted"
path = "turns.jsonl"

[circle]
medium = "javascript"
gates = ["echo", "done"]

[circle.wards]
max_turns = 3
"#;

#[test]
fn the_example_prints_the_paragraph_and_talks_on_stderr() {
    let bench = Bench::new();
    let ran = bench.example();
    assert!(ran.out.starts_with(PARAGRAPH) && ran.out.trim_end().lines().count() == 1, "{}", ran.out);
    ran.says(&["turn 1", "turn 2", "read_file", "terminated (done): 2 turns, 2 gate calls, 913 + 99 tokens, loom "]);
    assert!(!ran.err.contains('\x1b'), "no colour where nobody looks");
}

#[test]
fn quiet_shows_the_summary_only() {
    let bench = Bench::new();
    let ran = bench.run(&["cast", "--quiet", &example(), "x"]).ends(0);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[test]
fn json_is_an_object_with_these_keys() {
    let bench = Bench::new();
    let json = bench.run(&["cast", "--json", &example(), "x"]).ends(0).json();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["loom", "entity", "how", "reason", "result", "summary", "spent"]);
    assert_eq!((json["how"].as_str(), json["reason"].as_str()), (Some("terminated"), Some("done")));
    assert!(json["result"].as_str().unwrap().starts_with(PARAGRAPH));
    assert_eq!((json["spent"]["turns"].as_u64(), json["spent"]["gate_calls"].as_u64()), (Some(2), Some(2)));
}

#[test]
fn events_are_lines_of_json() {
    let bench = Bench::new();
    let ran = bench.run(&["cast", "--events", &example(), "x"]).ends(0);
    let events: Vec<Value> = ran.err.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(events[0]["event"], "turn_started");
    assert_eq!(events.last().unwrap()["event"], "final");
}

/// A cantrip file that is wrong ends with 2 and names the place, before anything is written.
fn refused(text: &str, expected: &[&str]) {
    let bench = Bench::new();
    bench.write("turns.jsonl", "{\"code\": \"done(1)\"}\n");
    let file = bench.write("cantrip.toml", text);
    for command in [vec!["cast", &file, "x"], vec!["check", &file], vec!["summon", &file]] {
        let ran = bench.run(&command).ends(2);
        assert!(ran.out.is_empty(), "{}", ran.out);
        ran.says(expected);
        assert!(!bench.data().join("loom").exists(), "nothing may be written");
    }
}

fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replace(from, to)
}

#[test]
fn a_wrong_file_is_refused_with_line_and_key() {
    refused(
        &changed("max_turns", "max_turn"),
        &["cantrip.toml:10: circle.wards.max_turn", "did you mean", "max_turns"],
    );
    refused(&changed("max_turns = 3", "max_turns = -3"), &["cantrip.toml:10: circle.wards.max_turns"]);
    refused(&changed("max_turns = 3", "max_turns = \"3\""), &["cantrip.toml:10: circle.wards.max_turns"]);
    refused(&changed("\"echo\"", "\"ecko\""), &["cantrip.toml:7: circle.gates", "ecko", "did you mean", "echo"]);
    refused(&changed(", \"done\"", ""), &["cantrip.toml:7: circle.gates", "circle must have a done gate"]);
    refused(&changed("max_turns = 3", ""), &["circle.wards", "at least one truncation ward", "max_turns"]);
    refused(&changed("max_turns = 3", "max_turns = 0"), &["circle.wards", "max_turns = 0 would let nothing run"]);
    refused(
        &changed("\"javascript\"", "\"javascrip\""),
        &["cantrip.toml:6: circle.medium", "did you mean", "javascript"],
    );
    refused(&changed("\"scripted\"", "\"scriptd\""), &["cantrip.toml:", "llm", "scriptd", "scripted"]);
    refused(
        &changed("\"turns.jsonl\"", "\"nowhere.jsonl\""),
        &["cantrip.toml:", "llm", "nowhere.jsonl", "cannot be read"],
    );
    refused(&changed("medium =", "medum ="), &["cantrip.toml:6: circle.medum", "medium"]);
    refused(&format!("colour = 1\n{GOOD}"), &["cantrip.toml:1: colour", "unknown field"]);
    refused(&changed("\"echo\"", "\"read_file\""), &["cantrip.toml:7: gate.read_file", "needs a folder", "root ="]);
    let file_root = format!("{}\n[gate.read_file]\nroot = \"turns.jsonl\"\n", changed("\"echo\"", "\"read_file\""));
    refused(&file_root, &["cantrip.toml:", "gate.read_file.root", "turns.jsonl"]);
    let no_root = format!("{}\n[gate.read_file]\nroot = \"nowhere\"\n", changed("\"echo\"", "\"read_file\""));
    refused(&no_root, &["cantrip.toml:", "gate.read_file.root", "nowhere"]);
    refused("[llm", &["cantrip.toml:1"]);
    refused("", &["cantrip.toml:1", "circle"]);
}

#[test]
fn a_wrong_script_is_refused_with_its_line() {
    let bench = Bench::new();
    let file = bench.cantrip("{\"code\": \"1\"}\n{\"cod\": \"done(1)\"}\n");
    bench.run(&["cast", &file, "x"]).ends(2).says(&["turns.jsonl, line 2", "did you mean `code`?"]);
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let bench = Bench::new();
    let file = bench.cantrip("{\"code\": \"done(1)\"}\n");
    bench.run(&["cast", &file, ""]).ends(2).says(&["intent is required"]);
    bench.run(&["cast", &file, "  \n"]).ends(2).says(&["intent is required"]);
    bench.run(&["cast", &file]).ends(2);
    bench.run(&["cast", "nowhere.toml", "x"]).ends(2).says(&["nowhere.toml: the file cannot be read"]);
    bench.run(&["cst"]).ends(2).says(&["cast"]);
    bench.run(&["loom", "show"]).ends(2).says(&["there is no record", "hint: "]);
    bench.run(&["loom", "verify"]).ends(2).says(&["hint: "]);
}

#[test]
fn what_a_ward_truncates_ends_with_1_and_says_what_was_done() {
    let bench = Bench::new();
    let file = bench.cantrip(&"{\"code\": \"echo('step')\"}\n".repeat(5));
    let ran = bench.run(&["cast", &file, "x"]).ends(1);
    assert!(ran.out.is_empty(), "{}", ran.out);
    ran.says(&["[truncated by max_turns after 3 turns", "step", "truncated (max_turns): 3 turns"]);
    let json = bench.run(&["cast", "--json", &file, "x"]).ends(1).json();
    assert_eq!((json["how"].as_str(), json["reason"].as_str()), (Some("truncated"), Some("max_turns")));
}

#[test]
fn a_script_that_is_used_up_ends_with_1_and_a_hint() {
    let bench = Bench::new();
    let file = bench.cantrip("{\"code\": \"1\"}\n");
    bench
        .run(&["cast", &file, "x"])
        .ends(1)
        .says(&["error: the scripted model has no response left: 1 of 1 were used", "\n\nhint: "]);
}

#[test]
fn a_loom_can_be_listed_shown_and_verified() {
    let bench = Bench::new();
    bench.run(&["loom", "ls"]).ends(0);
    assert_eq!(bench.run(&["loom", "ls", "--json"]).ends(0).json(), serde_json::json!([]));
    bench.example();
    let looms = bench.run(&["loom", "ls", "--json"]).ends(0).json();
    let loom = looms[0]["loom"].as_str().unwrap().to_owned();
    assert_eq!(looms.as_array().unwrap().len(), 1);
    assert_eq!((&looms[0]["status"], &looms[0]["reason"]), (&"terminated".into(), &"done".into()));
    assert_eq!(looms[0]["intent"], INTENT);
    let listed = bench.run(&["loom", "ls"]).ends(0).out;
    assert!(
        listed.starts_with(&format!("{} ", &loom[..14])) && listed.contains("terminated") && listed.contains(INTENT),
        "{listed}"
    );
    bench.run(&["loom", "ls", "--limit", "0"]).ends(0).says(&["older one is not shown; --limit 1 lists all"]);

    let shown = bench.run(&["loom", "show"]).ends(0).out;
    assert!(
        shown.contains(&loom)
            && shown.contains("terminated (done)")
            && shown.contains("read_file(")
            && shown.contains("= => "),
        "{shown}"
    );
    let turns = bench.run(&["loom", "show", &loom, "--json"]).ends(0).json();
    assert_eq!(turns.as_array().unwrap().len(), 2);
    assert_eq!(turns[1]["parent"], turns[0]["id"]);
    assert_eq!((turns[1]["terminated"].as_bool(), turns[1]["reason"].as_str()), (Some(true), Some("done")));
    assert_eq!(bench.run(&["loom", "thread", &loom, "--json"]).ends(0).json(), turns);
    bench.run(&["loom", "show", "zzz"]).ends(2).says(&["there is no loom `zzz`", "hint: "]);

    let turn = turns[1]["id"].as_str().unwrap();
    bench.run(&["loom", "reward", &loom, turn, "-0.5"]).ends(0);
    assert_eq!(bench.run(&["loom", "show", "--json"]).ends(0).json()[1]["reward"].as_f64(), Some(-0.5));

    let verified = bench.run(&["loom", "verify", "--json"]).ends(0).json();
    assert_eq!((verified["looms"].as_u64(), verified["findings"].as_array().map(Vec::len)), (Some(1), Some(0)));
    bench.run(&["loom", "verify"]).ends(0).says(&["clean"]);
}

#[test]
fn a_part_of_an_id_names_a_loom_and_an_entity_unless_it_fits_several() {
    let bench = Bench::new();
    bench.example();
    bench.example();
    let looms = bench.run(&["loom", "ls", "--json"]).ends(0).json();
    let id = |index: usize, key: &str| looms[index][key].as_str().unwrap().to_owned();
    let (loom, root) = (id(1, "loom"), id(1, "root"));
    let turns = bench.run(&["loom", "show", &loom, "--json"]).ends(0).json();
    for part in [&loom[..16], &loom[16..], &loom.to_uppercase()[..16]] {
        assert_eq!(bench.run(&["loom", "show", part, "--json"]).ends(0).json(), turns, "{part}");
        for entity in [&root[..16], &root[16..]] {
            assert_eq!(bench.run(&["loom", "thread", part, entity, "--json"]).ends(0).json(), turns, "{part} {entity}");
        }
    }
    for thread in [&root[10..], &root.to_uppercase()[..16], &format!("{}/{}", &loom[20..], &root[20..])] {
        bench.run(&["loom", "diff", thread, &loom]).ends(0);
    }
    let other = id(0, "loom");
    let fits = format!("`01` fits 2 looms: {loom}, {other}");
    bench.run(&["loom", "show", "01"]).ends(2).says(&[&fits, "hint: give more of the id"]);
    bench.run(&["loom", "diff", "01", &loom]).ends(2).says(&[&fits]);
    bench.run(&["loom", "thread", &loom, "zzz"]).ends(2).says(&["has no entity `zzz`", "hint: "]);
}

#[test]
fn prod_8_an_export_holds_no_secret_unless_asked() {
    let bench = Bench::new();
    let secret = format!("sk-proj-{}", "a1B2c3D4e5F6g7H8".repeat(3));
    let file = bench.cantrip(&format!("{{\"code\": \"done(echo('OPENAI_API_KEY={secret}'))\"}}\n"));
    let cast = bench.run(&["cast", &file, "x"]).ends(0);
    assert!(cast.out.contains(&secret), "the answer itself is data");
    assert!(!cast.err.contains(&secret), "{}", cast.err);
    let lines = bench.run(&["loom", "export"]).ends(0).out;
    assert!(!lines.contains(&secret), "{lines}");
    let entries: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (entries[0]["kind"].as_str(), entries[1]["kind"].as_str(), entries.last().unwrap()["kind"].as_str()),
        (Some("founded"), Some("opened"), Some("ended"))
    );
    for command in [vec!["loom", "show"], vec!["loom", "show", "--json"]] {
        assert!(!bench.run(&command).ends(0).out.contains(&secret), "{command:?}");
    }
    assert!(bench.run(&["loom", "export", "--no-redaction"]).ends(0).out.contains(&secret));
}

/// The files of a folder and those below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (folders, mut files): (Vec<_>, Vec<_>) =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| self::files(folder)));
    files
}

#[test]
fn a_flipped_byte_is_found() {
    let bench = Bench::new();
    bench.example();
    let data = bench.data().join("loom");
    let needle = b"Read README.md and return";
    let flip = |path: PathBuf| {
        let mut bytes = std::fs::read(&path).unwrap();
        let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) else { return false };
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        true
    };
    let flipped = files(&data).into_iter().map(flip).filter(|flipped| *flipped).count();
    assert!(flipped > 0, "the intent lies in no file");
    let ran = bench.run(&["loom", "verify", "--json"]);
    assert_eq!(ran.code, 4, "{}{}", ran.out, ran.err);
}

#[test]
fn help_names_every_command_and_exit_code() {
    let bench = Bench::new();
    let help = bench.run(&["--help"]).ends(0).out;
    for word in
        ["cast", "check", "summon", "loom", "conform", "completions", "Exit codes:", "CANTRIP_DATA", "CANTRIP_LOG"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
    for command in [vec!["cast", "--help"], vec!["loom", "--help"], vec!["loom", "export", "--help"], vec!["--version"]]
    {
        assert!(!bench.run(&command).ends(0).out.is_empty());
    }
}

#[test]
fn check_says_what_an_entity_could_do() {
    let bench = Bench::new();
    let json = bench.run(&["check", "--json", &example()]).ends(0).json();
    assert_eq!((json["medium"].as_str(), json["gates"][0]["name"].as_str()), (Some("javascript"), Some("read_file")));
    assert_eq!(json["trifecta"]["possible"].as_bool(), Some(false));
    let text = bench.run(&["check", &example()]).ends(0).out;
    assert!(text.contains("read_file(path, offset, limit)") && text.contains("max_turns"), "{text}");
}

#[test]
fn a_gate_exposes_what_the_file_says_beyond_its_kind() {
    let bench = Bench::new();
    std::fs::write(bench.folder.path().join("letter.txt"), "hello").unwrap();
    let code = "read_file('letter.txt'); let said; try { said = echo('out') } catch (error) { said = String(error) } done(said)";
    std::fs::write(bench.folder.path().join("turns.jsonl"), format!("{{\"code\": {code:?}}}\n")).unwrap();
    let cantrip = |read: &str, echo: &str| {
        let file = bench.folder.path().join("mailbox.toml");
        let text = format!(
            "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[circle]\nmedium = \"javascript\"\ngates = [\"read_file\", \
             \"echo\", \"done\"]\n[circle.wards]\nmax_turns = 3\nno_trifecta = true\n[gate.read_file]\nroot = \".\"\n{read}\n{echo}\n"
        );
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let exposes = |what: &str| format!("exposes = {what}");
    let out = format!("[gate.echo]\n{}", exposes("[\"outbound\"]"));
    // What a folder holds is the author's to say.
    let mailbox = cantrip(&exposes("[\"untrusted\"]"), &out);
    let said = bench.run(&["cast", &mailbox, "go", "--json", "-q"]).ends(0).json();
    assert!(said["result"].as_str().unwrap().contains("no_trifecta"), "{said}");
    let checked = bench.run(&["check", "--json", &mailbox]).ends(0).json();
    assert_eq!(checked["trifecta"]["possible"].as_bool(), Some(true), "{checked}");
    let documents = cantrip("", &out);
    let said = bench.run(&["cast", &documents, "go", "--json", "-q"]).ends(0).json();
    assert_eq!(said["result"].as_str(), Some("out"), "{said}");
    // Less than its kind exposes cannot be said.
    let nothing = cantrip(&exposes("[]"), "");
    let checked = bench.run(&["check", "--json", &nothing]).ends(0).json();
    assert_eq!(checked["gates"][0]["exposure"]["private"].as_bool(), Some(true), "{checked}");
    for (wrong, why) in
        [("\"private\"", "gate.read_file.exposes"), ("[\"secret\"]", "untrusted"), ("[1]", "gate.read_file.exposes")]
    {
        bench.run(&["check", &cantrip(&exposes(wrong), "")]).ends(2).says(&[why]);
    }
}

#[test]
fn an_entity_is_summoned_forked_and_left() {
    let bench = Bench::new();
    let turns =
        ["let n = 1; done(n)", "n += 1; done(n)", "n += 10; done(n)"].map(|code| format!("{{\"code\": \"{code}\"}}\n"));
    let file = bench.cantrip(&turns.concat());
    let ran = bench.run_with(&["summon", &file], "first\nsecond\n/fork 1\nthird\n/loom\n/nonsense\n/quit\n").ends(0);
    let lines: Vec<&str> = ran.out.lines().collect();
    // The fork goes on after the first turn, where n was 1.
    assert_eq!(lines.get(..3), Some(["1", "2", "11"].as_slice()), "{}\n{}", ran.out, ran.err);
    ran.says(&["goes on after turn 1", "there is no /nonsense", "/help says what there is"]);
    bench.run(&["loom", "verify"]).ends(0);
}

#[test]
fn a_summoned_entity_goes_on_in_another_process() {
    let bench = Bench::new();
    let file = bench.cantrip("{\"code\": \"let n = Math.random(); done(n)\"}\n");
    let first = bench.run_with(&["summon", &file], "first\n").ends(0).out;
    let loom = bench.run(&["loom", "ls", "--json"]).ends(0).json()[0]["loom"].as_str().unwrap().to_owned();
    bench.cantrip("{\"code\": \"done(n)\"}\n");
    let ran = bench.run(&["cast", "--resume", &loom, &file, "again"]).ends(0);
    assert_eq!(ran.out, first);
    bench.run(&["cast", "--resume", &loom, &file]).ends(2).says(&["the last episode of this loom has ended", "hint: "]);
}

#[test]
fn one_process_at_a_time_writes() {
    let bench = Bench::new();
    let file = bench.cantrip("{\"code\": \"done(1)\"}\n");
    let mut command = bench.command(&["summon", &file]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    // Its answer shows that it has the record.
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    assert_eq!(line, "1\n");
    bench.run(&["cast", &file, "x"]).ends(3).says(&["hint: ", "--scratch"]);
    bench.run(&["cast", "--scratch", &file, "x"]).ends(0);
    assert_eq!(bench.run(&["loom", "ls", "--json"]).ends(0).json().as_array().unwrap().len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    // Nothing of a killed process stands in the way, and what was acknowledged is there.
    bench.run(&["loom", "verify"]).ends(0).says(&["clean"]);
    bench.run(&["cast", &file, "x"]).ends(0);
}
