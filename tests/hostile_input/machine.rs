//! The machine's other users, its terminal and its clock: private folders, harmless text, certificates that end.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use cantrip_runtime::adapters::peer::{
    CertificateInfo, Fingerprint, Identity, PeerLimits, PeerNodes, Period, TcpNet, Way, make_authority,
    make_certificate, make_certificate_for, next_key,
};
use cantrip_runtime::adapters::wasm::Shelf;

use crate::node_support::{Served, binary, compiled, port, text};

/// Sets a title, copies to the clipboard, clears the screen, turns the direction round, and hides.
const HOSTILE: &str =
    "a\u{1b}]0;title\u{7}\u{1b}]52;c;eA==\u{7}\u{1b}[2Jb\rc\u{202e}d\u{200b}e\u{e0041}f\u{9b}2Kg\u{7f}";

fn is_harmful(c: char) -> bool {
    c != '\n' && c != '\t' && c.is_control() || "\u{202e}\u{200b}\u{e0041}\u{2066}\u{feff}".contains(c)
}

fn check_harmless(what: &str, bytes: &[u8]) {
    let shown = text(bytes);
    assert!(
        !shown.contains(is_harmful),
        "{what} has {:?}",
        shown.chars().filter(|c| is_harmful(*c)).collect::<String>()
    );
}

/// The binary as it is run by somebody who lets everybody read and write what is made.
fn careless(home: &Path) -> Command {
    let binary = binary(home);
    let mut command = Command::new("sh");
    command.current_dir(home).args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(binary.get_program());
    for (name, value) in binary.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn run(mut command: Command, arguments: &[&str]) -> Output {
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).trim_end().to_owned()
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Every file and folder, with its mode. What a node that serves replaces or removes meanwhile is passed over.
fn walk(path: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return };
    found.push((path.to_owned(), metadata.mode() & 0o7777));
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            walk(&entry.path(), found);
        }
    }
}

fn check_private(folder: &Path) -> usize {
    let mut found = Vec::new();
    walk(folder, &mut found);
    let open: Vec<_> = found
        .iter()
        .filter(|(_, mode)| mode & 0o077 != 0)
        .map(|(path, mode)| format!("{} {mode:o}", path.display()))
        .collect();
    assert!(open.is_empty(), "others can open {open:#?}");
    found.len()
}

/// A cantrip whose model says these answers.
fn cantrip(home: &Path, answers: &[&str]) -> PathBuf {
    let turns: Vec<String> = answers.iter().map(|it| serde_json::json!({ "content": it }).to_string()).collect();
    std::fs::write(home.join("turns.jsonl"), turns.join("\n")).unwrap();
    let file = home.join("cantrip.toml");
    let toml = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n\n[circle]\nmedium = \"conversation\"\ngates = [\"done\"]\n[circle.wards]\nmax_turns = 3\n";
    std::fs::write(&file, toml).unwrap();
    file
}

/// Has the data folder use compiled code that is there, where modes are not what is tried.
fn with_compiled(home: &Path) {
    std::fs::create_dir(home.join("data")).unwrap();
    set_mode(&home.join("data"), 0o700);
    std::os::unix::fs::symlink(compiled(), home.join("data/artefacts")).unwrap();
}

fn guest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/reader/reader.wasm")
}

#[test]
fn nobody_else_can_open_what_a_cast_a_node_or_a_cluster_leaves_behind() {
    let home = tempfile::tempdir().unwrap();
    let at = |path: &str| home.path().join(path);
    let nodes = [format!("a@127.0.0.1:{}", port()), format!("b@127.0.0.1:{}", port())];
    done(&run(careless(home.path()), &["cluster", "init", "net", "--node", &nodes[0], "--node", &nodes[1]]));
    check_private(&at("net"));
    cantrip(home.path(), &["hello"]);
    done(&run(careless(home.path()), &["cast", "cantrip.toml", "say it", "--quiet"]));
    let serve = |name: &str| {
        let mut command = careless(home.path());
        command.args(["serve", "--config", &format!("net/{name}/node.toml")]);
        Served::start(command)
    };
    let (a, b) = (serve("a"), serve("b"));
    done(&run(careless(home.path()), &["deploy", guest().to_str().unwrap(), "--node", "a"]));
    let loom = run(careless(home.path()), &["loom", "ls", "--json"]);
    let looms: serde_json::Value = serde_json::from_str(&done(&loom)).unwrap();
    let id = looms[0]["loom"].as_str().unwrap();
    done(&run(careless(home.path()), &["loom", "replicate", id, "--to", "a"]));
    assert!(check_private(&at("net")) > 30, "the nodes have written their records");
    assert!(check_private(&at("share")) > 10, "the client has written its own");
    drop((a, b));
    check_private(&at("net"));
}

#[test]
fn an_own_folder_that_is_open_is_closed_with_one_warning() {
    let home = tempfile::tempdir().unwrap();
    cantrip(home.path(), &["hello"]);
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    set_mode(&data, 0o755);
    let first = text(&run(binary(home.path()), &["--data", "data", "loom", "ls"]).stderr);
    assert!(first.contains("others of this machine could open") && first.contains("0755"), "{first}");
    assert_eq!(mode(&data), 0o700);
    let again = text(&run(binary(home.path()), &["--data", "data", "loom", "ls"]).stderr);
    assert!(!again.contains("others"), "{again}");
}

#[test]
fn a_shared_place_is_left_as_it_is_and_gets_a_private_folder() {
    let home = tempfile::tempdir().unwrap();
    cantrip(home.path(), &["hello"]);
    let shared = home.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    set_mode(&shared, 0o1777);
    let cast = run(careless(home.path()), &["--data", "shared", "cast", "cantrip.toml", "say it", "--quiet"]);
    assert!(text(&cast.stderr).contains("is shared"), "{}", text(&cast.stderr));
    assert_eq!(mode(&shared), 0o1777);
    let within: Vec<_> = std::fs::read_dir(&shared).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [own] = within.as_slice() else { panic!("{within:?}") };
    check_private(own);
    let listed = run(binary(home.path()), &["--data", "shared", "loom", "ls"]);
    assert!(done(&listed).contains("say it"), "the next command finds it again");
}

/// Gives a folder to another user, where the test may.
fn give_away(path: &Path) -> bool {
    std::os::unix::fs::lchown(path, Some(65_534), Some(65_534)).is_ok()
}

#[test]
fn another_users_folder_is_refused_and_its_owner_named() {
    let home = tempfile::tempdir().unwrap();
    cantrip(home.path(), &["hello"]);
    for mode in [0o700, 0o755, 0o777] {
        let data = home.path().join(format!("data-{mode:o}"));
        std::fs::create_dir(&data).unwrap();
        set_mode(&data, mode);
        if !give_away(&data) {
            return;
        }
        let name = data.to_str().unwrap();
        for command in [&["loom", "ls"][..], &["loom", "verify"], &["cast", "cantrip.toml", "x"], &["guests", "ls"]] {
            let refused = run(binary(home.path()), &[&["--data", name], command].concat());
            let said = text(&refused.stderr);
            assert_eq!(refused.status.code(), Some(3), "{said}");
            assert!(said.contains("65534") && said.contains("permission denied") && said.contains("--data"), "{said}");
            assert!(!text(&refused.stdout).contains("no loom yet"));
        }
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "nothing is written there");
    }
}

#[test]
fn a_link_that_another_user_has_made_is_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let (target, link) = (home.path().join("mine"), home.path().join("link"));
    std::fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    if !give_away(&link) {
        return;
    }
    let refused = run(binary(home.path()), &["--data", "link", "loom", "ls"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("is a link that"), "{}", text(&refused.stderr));
}

#[test]
fn machine_code_that_another_user_has_put_there_is_not_looked_at() {
    let home = tempfile::tempdir().unwrap();
    cantrip(home.path(), &["hello"]);
    let artefacts = home.path().join("data/artefacts");
    std::fs::create_dir_all(&artefacts).unwrap();
    if !give_away(&artefacts) {
        return;
    }
    let refused = run(binary(home.path()), &["--data", "data", "cast", "cantrip.toml", "x"]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("artefacts belongs to"), "{}", text(&refused.stderr));
}

#[test]
fn what_a_model_says_cannot_drive_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    with_compiled(home.path());
    cantrip(home.path(), &[HOSTILE]);
    let cast = run(binary(home.path()), &["--data", "data", "cast", "cantrip.toml", HOSTILE]);
    check_harmless("progress", &cast.stderr);
    assert!(text(&cast.stderr).contains("\\u{1b}]0;title\\u{7}"), "it is seen: {}", text(&cast.stderr));
    assert_eq!(done(&cast), HOSTILE, "a pipe gets the result as it is");
    for view in [&["loom", "show"][..], &["loom", "ls"], &["loom", "verify"], &["loom", "status"]] {
        let output = run(binary(home.path()), &[&["--data", "data"], view].concat());
        check_harmless(&format!("{view:?}"), &output.stdout);
        check_harmless(&format!("{view:?}"), &output.stderr);
    }
    let json = run(binary(home.path()), &["--data", "data", "loom", "show", "--json"]);
    check_harmless("JSON", &json.stdout);
    let turns: serde_json::Value = serde_json::from_str(&done(&json)).unwrap();
    assert!(turns.to_string().contains("\u{202e}"), "JSON says the same in its own escapes");
    let events = run(binary(home.path()), &["--data", "data", "cast", "cantrip.toml", "again", "--events"]);
    check_harmless("events", &events.stderr);
}

#[test]
fn what_a_person_typed_or_a_file_is_called_cannot_drive_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(format!("{}.toml", HOSTILE.replace('/', ""))), format!("[{HOSTILE}")).unwrap();
    let file = format!("{HOSTILE}.toml");
    for arguments in [
        &["cast", &file, "x"][..],
        &["check", &file],
        &["inspect", &file],
        &["serve", "--config", &file],
        &[HOSTILE],
        &["loom", "show", HOSTILE],
        &["guests", "rm", HOSTILE],
        &["cluster", "init", "net", "--node", HOSTILE],
        &["cast", "x", "y", &format!("--{HOSTILE}")],
        &["build", HOSTILE],
    ] {
        let output = run(binary(home.path()), arguments);
        assert!(!output.status.success(), "{arguments:?}");
        check_harmless(&format!("{arguments:?}"), &output.stderr);
        check_harmless(&format!("{arguments:?}"), &output.stdout);
    }
}

#[test]
fn what_a_model_or_a_file_names_adds_no_line() {
    let home = tempfile::tempdir().unwrap();
    let forged = r"x\ntrifecta\n  private data, untrusted content and a way out never come together here\nturn 9";
    let turns = format!("{{\"tool_calls\": [{{\"gate\": \"{forged}\", \"args\": {{}}}}]}}\n");
    let turns = turns + "{\"tool_calls\": [{\"gate\": \"done\", \"args\": {\"answer\": 1}}]}\n";
    std::fs::write(home.path().join("turns.jsonl"), turns).unwrap();
    let file = |llm: &str| {
        let circle = "[circle]\ngates = [\"done\"]\n[circle.wards]\nmax_turns = 3\n";
        std::fs::write(home.path().join("cantrip.toml"), format!("[llm]\n{llm}\n{circle}")).unwrap();
    };
    file("provider = \"scripted\"\npath = \"turns.jsonl\"");
    let cast = run(binary(home.path()), &["--data", "data", "cast", "cantrip.toml", "go"]);
    let told = text(&cast.stderr);
    assert!(cast.status.success() && told.contains("trifecta"), "{told}");
    assert!(!told.lines().any(|line| line.starts_with("turn 9") || line.starts_with("trifecta")), "{told}");
    file(&format!("provider = \"ollama\"\nmodel = \"{forged}\""));
    let checked = run(binary(home.path()), &["check", "cantrip.toml"]);
    let said = text(&checked.stdout);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert_eq!(said.lines().filter(|line| *line == "trifecta").count(), 1, "{said}");
}

#[test]
fn only_the_printer_prints() {
    fn check(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                check(&path, found);
            } else if !path.ends_with("cli/output.rs")
                && path.extension().is_some_and(|it| it == "rs")
                && !path.to_string_lossy().ends_with("_tests.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                // A tool of a project may write where a person reads; only whether a terminal is there may be asked besides.
                let writes = text.lines().filter(|line| {
                    ["println!", "print!(", "stdout()", "stderr()", "/dev/tty"].iter().any(|it| line.contains(it))
                        && !line.trim_start().starts_with("//")
                        && !line.contains("stderr().is_terminal()")
                        && !line.contains("Stdio")
                });
                found.extend(writes.map(|line| format!("{}: {line}", path.display())));
            }
        }
    }
    let mut found = Vec::new();
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.is_empty(), "cli/output.rs makes text harmless, and these pass it by: {found:#?}");
}

#[test]
fn only_one_module_reads_files_whole() {
    fn check(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                check(&path, found);
            } else if !path.ends_with("adapters/reading.rs") && path.extension().is_some_and(|it| it == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // What a module's own tests read is theirs.
                if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("tests.rs")) {
                    continue;
                }
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let reads = code.lines().filter(|line| {
                    ["fs::read(", "fs::read_to_string("].iter().any(|it| line.contains(it))
                        && !line.trim_start().starts_with("//")
                });
                found.extend(reads.map(|line| format!("{}: {line}", path.display())));
            }
        }
    }
    let mut found = Vec::new();
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.is_empty(), "adapters/reading.rs has the bounds, and these have none: {found:#?}");
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let home = tempfile::tempdir().unwrap();
    with_compiled(home.path());
    cantrip(home.path(), &["hello"]);
    done(&run(binary(home.path()), &["--data", "data", "cast", "cantrip.toml", "x", "--quiet"]));
    for arguments in [
        &["completions", "bash"][..],
        &["loom", "export", "--format", "car", "--raw"],
        &["loom", "export"],
        &["loom", "export", "--format", "parquet"],
        &["loom", "show"],
        &["--help"],
    ] {
        let mut command = binary(home.path());
        command.args(["--data", "data"]).args(arguments).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("error") && !said.contains("panic"), "{arguments:?}: {said}");
    }
}

#[test]
fn who_keeps_one_guest_at_once_never_gets_half_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(guest()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let shelf = Shelf::new(folder.path().join("guests"));
                for _ in 0..10 {
                    shelf.add("reader", &bytes).unwrap();
                }
            });
        }
    });
    let shelf = Shelf::new(folder.path().join("guests"));
    assert_eq!(shelf.get("reader").unwrap().1, bytes);
    let names = std::fs::read_dir(folder.path().join("guests/names")).unwrap().count();
    assert_eq!(names, 1, "nothing is left beside");
    check_private(&folder.path().join("guests"));
}

/// Programs that write down what they are given, in the place of compilers.
fn tools(folder: &Path) -> String {
    std::fs::create_dir(folder).unwrap();
    std::fs::create_dir_all(folder.join("lib")).unwrap();
    std::fs::write(folder.join("lib/libstd-x.rlib"), "").unwrap();
    let rustc = format!(
        "#!/bin/sh\nenv >> {0}/env\ncase $1 in --version) echo rustc 1;; *) echo {0}/lib;; esac\n",
        folder.display()
    );
    let cargo = format!("#!/bin/sh\nenv >> {}/env\nexit 1\n", folder.display());
    for (name, script) in [("rustc", rustc), ("cargo", cargo)] {
        std::fs::write(folder.join(name), script).unwrap();
        set_mode(&folder.join(name), 0o755);
    }
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[test]
fn a_projects_code_gets_no_keys_when_it_is_built() {
    let home = tempfile::tempdir().unwrap();
    let path = tools(&home.path().join("tools"));
    done(&run(binary(home.path()), &["new", "reader", "--lang", "rust"]));
    let build = |more: &[&str]| {
        let mut command = binary(home.path());
        command.env("PATH", &path).env("ANTHROPIC_API_KEY", "sk-secret-1").env("CARGO_REGISTRY_TOKEN", "sk-secret-2");
        command.env("https_proxy", "http://me:sk-secret-3@proxy").env("RUSTFLAGS", "-Cpassed").env("EXTRA", "sk-named");
        let output = run(command, &[&["build", "reader"], more].concat());
        (std::fs::read_to_string(home.path().join("tools/env")).unwrap(), text(&output.stderr))
    };
    let (given, said) = build(&[]);
    assert!(!given.contains("sk-"), "{given}");
    assert!(given.contains("RUSTFLAGS=-Cpassed") && given.contains("HOME="), "{given}");
    assert!(said.contains("--env NAME"), "{said}");
    let (given, _) = build(&["--env", "EXTRA"]);
    assert!(given.contains("EXTRA=sk-named") && !given.contains("sk-secret"), "{given}");
}

#[test]
fn a_new_project_is_made_as_its_users_mask_says() {
    let home = tempfile::tempdir().unwrap();
    done(&run(careless(home.path()), &["new", "reader", "--lang", "rust"]));
    assert_eq!(mode(&home.path().join("reader/Cargo.toml")) & 0o044, 0o044, "a project is shared with a team");
}

#[test]
fn what_a_gate_writes_is_made_as_its_users_mask_says() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("turns.jsonl"), r#"{"code": "write_file('made/new.txt', 'x', true); done(1)"}"#)
        .unwrap();
    let circle = "[circle]\nmedium = \"javascript\"\ngates = [\"write_file\", \"done\"]\nwards = { max_turns = 2 }\n";
    let llm = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n";
    std::fs::write(home.path().join("c.toml"), format!("{llm}{circle}[gate.write_file]\nroot = \".\"\n")).unwrap();
    done(&run(careless(home.path()), &["--data", "d", "cast", "c.toml", "write", "-q"]));
    assert_eq!(mode(&home.path().join("made/new.txt")), 0o666, "a file of the user's, under the user's mask of 0");
    assert_eq!(mode(&home.path().join("made")), 0o777);
    assert_eq!(mode(&home.path().join("d")), 0o700, "and what is the runtime's stays its own");
}

#[test]
fn certificates_of_a_cluster_end_after_ninety_days_and_are_told_apart() {
    let home = tempfile::tempdir().unwrap();
    let nodes = [format!("a@127.0.0.1:{}", port()), format!("b@127.0.0.1:{}", port())];
    done(&run(binary(home.path()), &["cluster", "init", "net", "--node", &nodes[0], "--node", &nodes[1]]));
    let shown = done(&run(binary(home.path()), &["cluster", "show", "net", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let mut fingerprints = BTreeSet::new();
    for (node, name) in shown.as_array().unwrap().iter().zip(["a", "b"]) {
        let us = |key: &str| node[key].as_u64().unwrap();
        let days = (us("until_us") - us("from_us")) / (24 * 60 * 60 * 1_000_000);
        assert_eq!((days, &node["names"]), (90, &serde_json::json!([name])), "{node}");
        assert!(fingerprints.insert(node["fingerprint"].as_str().unwrap().parse::<Fingerprint>().unwrap()));
    }
    let authority = std::fs::read_to_string(home.path().join("net/ca.pem")).unwrap();
    let authority = CertificateInfo::from_pem(&authority).unwrap().period;
    let years = (authority.until_us - authority.from_us) / (365 * 24 * 60 * 60 * 1_000_000);
    assert_eq!(years, 10);
    let refused = run(binary(home.path()), &["cluster", "init", "net", "--node", "local@127.0.0.1:1"]);
    assert_eq!(refused.status.code(), Some(2), "`local` is the machine's own user");
}

#[test]
fn a_certificate_is_renewed_while_its_node_serves() {
    let home = tempfile::tempdir().unwrap();
    let node = format!("a@127.0.0.1:{}", port());
    done(&run(binary(home.path()), &["cluster", "init", "net", "--node", &node]));
    let at = |file: &str| home.path().join("net/a").join(file);
    let read = |file: &str| std::fs::read_to_string(at(file)).unwrap();
    let identity = Identity::from_files(&at("ca.pem"), &at("node.pem"), &at("node.key")).unwrap();
    let (before, key) = (identity.certificate(), read("node.key"));
    done(&run(careless(home.path()), &["cluster", "renew", "--config", "net/a/node.toml"]));
    let after = identity.certificate();
    assert!(after.fingerprint != before.fingerprint && read("node.key") != key, "a new certificate has a new key");
    assert_eq!((after.names, after.period.until_us >= before.period.until_us), (before.names, true));
    check_private(&home.path().join("net"));
    done(&run(binary(home.path()), &["cluster", "renew", "net"]));
    assert!(identity.certificate().fingerprint != after.fingerprint, "and again, by the cluster's folder");
    let (_, stranger) = make_authority().unwrap();
    std::fs::write(home.path().join("other.key"), stranger).unwrap();
    let kept = read("node.pem");
    let refused = run(binary(home.path()), &["cluster", "renew", "net", "--authority-key", "other.key"]);
    assert_eq!((refused.status.code(), read("node.pem")), (Some(2), kept), "{}", text(&refused.stderr));
}

#[test]
fn half_of_a_renewal_leaves_a_pair_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
    let (authority, authority_key) = make_authority().unwrap();
    let (old, old_key) = make_certificate(&authority_key, &"a".parse().unwrap()).unwrap();
    let (new, new_key) = make_certificate(&authority_key, &"a".parse().unwrap()).unwrap();
    write("ca.pem", &authority);
    write("node.pem", &old);
    write("node.key", &old_key);
    let load = || Identity::from_files(&at("ca.pem"), &at("node.pem"), &at("node.key"));
    let serving = load().unwrap();
    let fingerprint = |pem: &str| CertificateInfo::from_pem(pem).unwrap().fingerprint;
    // A certificate alone, as it is copied by hand: the old pair stays in use.
    write("node.pem", &new);
    assert_eq!(serving.certificate().fingerprint, fingerprint(&old));
    assert!(load().is_err());
    // The steps of `cluster renew`, cut off after each.
    write("node.pem", &old);
    std::fs::write(next_key(&at("node.key")), &new_key).unwrap();
    assert_eq!(load().unwrap().certificate().fingerprint, fingerprint(&old));
    write("node.pem", &new);
    assert_eq!(load().unwrap().certificate().fingerprint, fingerprint(&new));
    assert_eq!(serving.certificate().fingerprint, fingerprint(&new));
    write("node.key", &new_key);
    assert_eq!(load().unwrap().certificate().fingerprint, fingerprint(&new));
}

#[test]
fn a_node_says_at_its_start_what_no_peer_would_take() {
    let home = tempfile::tempdir().unwrap();
    let node = format!("a@127.0.0.1:{}", port());
    done(&run(binary(home.path()), &["cluster", "init", "net", "--node", &node]));
    let at = |file: &str| home.path().join("net/a").join(file);
    let authority_key = std::fs::read_to_string(home.path().join("net/ca.key")).unwrap();
    let day_us = 24 * 60 * 60 * 1_000_000;
    let now_us = CertificateInfo::from_pem(&std::fs::read_to_string(at("node.pem")).unwrap()).unwrap().period.from_us;
    let serve = |name: &str, from_us: u64, until_us: u64, mode: u32| {
        let made = make_certificate_for(&authority_key, &name.parse().unwrap(), Period { from_us, until_us }).unwrap();
        std::fs::write(at("node.pem"), made.0).unwrap();
        std::fs::write(at("node.key"), made.1).unwrap();
        set_mode(&at("node.key"), mode);
        let mut command = binary(home.path());
        command.args(["serve", "--config", "net/a/node.toml"]);
        Heard::start(command)
    };
    serve("a", now_us - day_us, now_us + 60 * day_us, 0o644).until(&["mode 0644", "node.key"]);
    serve("a", now_us - 9 * day_us, now_us - 2 * day_us, 0o600).until(&["expired", "cluster renew"]);
    serve("a", now_us + 2 * day_us, now_us + 9 * day_us, 0o600).until(&["not valid before"]);
    serve("a", now_us - day_us, now_us + 5 * day_us, 0o600).until(&["ends in 4 days"]);
    serve("c", now_us - day_us, now_us + 60 * day_us, 0o600).until(&["is for c, and this node is a"]);
}

/// A node whose words are read.
struct Heard {
    process: std::process::Child,
    lines: Receiver<String>,
}

impl Heard {
    fn start(mut command: Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (sender, lines) = std::sync::mpsc::sync_channel(1_000);
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines }
    }

    /// Reads until a line has all of these.
    fn until(&mut self, words: &[&str]) -> String {
        let mut heard = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_mins(1)) {
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
            heard.push(line);
        }
        panic!("it did not say {words:?}: {heard:#?}")
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn a_denied_certificate_is_cut_off_and_refused_while_the_node_serves() {
    let home = tempfile::tempdir().unwrap();
    let ports = [port(), port()];
    let whole = |name: &str, at: usize| format!("{name}@127.0.0.1:{}", ports[at]);
    let (a, b) = (whole("a", 0), whole("b", 1));
    done(&run(binary(home.path()), &["cluster", "init", "net", "--node", &a, "--node", &b]));
    let at = |file: &str| home.path().join("net").join(file);
    let mut command = binary(home.path());
    command.args(["serve", "--config", "net/a/node.toml"]);
    let mut node = Heard::start(command);
    node.until(&["serves on"]);
    let identity = Identity::from_files(&at("b/ca.pem"), &at("b/node.pem"), &at("b/node.key")).unwrap();
    let fingerprint = identity.certificate().fingerprint;
    let way = Way::Tls { net: Arc::new(TcpNet), identity: Arc::new(identity) };
    let nodes = PeerNodes::new(vec![a.parse().unwrap()], way, PeerLimits::default());
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tokio.block_on(nodes.describe("a")).unwrap();
    let file = std::fs::read_to_string(at("a/node.toml")).unwrap();
    let denied = file.replace("[tls]\n", &format!("[tls]\ndeny = [\"{fingerprint}\"]\n"));
    std::fs::write(at("a/node.toml"), &denied).unwrap();
    node.until(&["a connection was cut", &fingerprint.to_string(), "of b"]);
    // The first may still find the connection that was cut.
    for _ in 0..3 {
        assert!(tokio.block_on(nodes.describe("a")).is_err(), "a new connection is refused");
    }
    node.until(&["WARN", &fingerprint.to_string(), "tls.deny"]);
    std::fs::write(at("a/node.toml"), denied.replace("sha256:", "md5:")).unwrap();
    node.until(&["cannot be read", "stays as it was"]);
    assert!(tokio.block_on(nodes.describe("a")).is_err(), "a mistake in the file lets nobody in");
    std::fs::write(at("a/node.toml"), file).unwrap();
    node.until(&["0 certificates are denied"]);
    tokio.block_on(nodes.describe("a")).unwrap();
}
