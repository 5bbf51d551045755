//! Files that are found or made: node files, projects, links and pipes; and what a file may say in its long form.

use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;

use super::node_support::text;
use super::workspace::Desk;

const SCRIPTED: &str = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n";
const CIRCLE: &str = "[circle]\nmedium = \"javascript\"\ngates = [\"done\"]\n[circle.wards]\nmax_turns = 3\n";

#[test]
fn a_node_file_that_is_merely_found_is_judged() {
    let desk = Desk::new();
    desk.ends(0, &["cluster", "init", "net", "--node", "a@127.0.0.1:1", "--node", "b@127.0.0.1:2"]);
    let serve = |line: &[&str]| {
        let mut command = desk.command(line);
        command.current_dir(desk.at("net/a"));
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (code, told) = serve(&["serve"]);
    assert_eq!(code, Some(2), "{told}");
    for part in
        ["takes connections at 127.0.0.1:1", "lets the peer b at 127.0.0.1:2 cast, deploy, keep", "trust node.toml"]
    {
        assert!(told.contains(part), "{told}");
    }
    // Named or trusted, it is the user's word; that port is nobody's to listen on, or is taken by this very node.
    let port = "127.0.0.1:99999";
    let file = std::fs::read_to_string(desk.at("net/a/node.toml")).unwrap();
    std::fs::write(desk.at("net/a/node.toml"), file.replacen("data = ", &format!("listen = \"{port}\"\ndata = "), 1))
        .unwrap();
    let (code, told) = serve(&["serve", "--config", "node.toml"]);
    assert!(code == Some(2) && told.contains("cannot be listened on"), "{told}");
    assert_eq!(serve(&["trust", "node.toml"]).0, Some(0));
    let (code, told) = serve(&["serve"]);
    assert!(code == Some(2) && told.contains("cannot be listened on"), "{told}");
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let desk = Desk::new();
    let pipe = |path: &str| assert!(Command::new("mkfifo").arg(desk.at(path)).status().unwrap().success());
    pipe("repository/cantrip.toml");
    for line in [
        &["cast", "repository/cantrip.toml", "go"][..],
        &["check", "repository/cantrip.toml"],
        &["familiar", "x", "--root", "repository"],
    ] {
        assert!(desk.ends(2, line).contains("a pipe or a device"));
    }
    std::fs::remove_file(desk.at("repository/cantrip.toml")).unwrap();
    symlink("/dev/zero", desk.at("repository/cantrip.toml")).unwrap();
    assert!(desk.ends(2, &["cast", "repository/cantrip.toml", "go"]).contains("a pipe or a device"));
    std::fs::remove_file(desk.at("repository/cantrip.toml")).unwrap();
    pipe("repository/pipe.jsonl");
    desk.write("repository/cantrip.toml", &(SCRIPTED.replace("turns", "pipe") + CIRCLE));
    assert!(desk.ends(2, &["cast", "repository/cantrip.toml", "go"]).contains("a pipe or a device"));
    pipe("repository/pipe.wasm");
    desk.write(
        "repository/cantrip.toml",
        &format!("[guest]\ncomponent = \"pipe.wasm\"\n{}", CIRCLE.replace("medium = \"javascript\"\n", "")),
    );
    assert!(desk.ends(2, &["cast", "repository/cantrip.toml", "go"]).contains("could not be read"));
}

#[test]
fn a_linked_file_is_judged_where_it_lies_and_for_what_it_reaches_from_there() {
    let desk = Desk::new();
    let file = format!("{SCRIPTED}{CIRCLE}[gate.read_file]\nroot = \"../outside\"\n");
    desk.write("mine/cantrip.toml", &file);
    desk.write("mine/turns.jsonl", "{\"code\": \"done(7)\"}\n");
    desk.ends(0, &["trust", "mine/cantrip.toml"]);
    desk.ends(0, &["cast", "mine/cantrip.toml", "go", "--scratch", "-q"]);
    // From a folder elsewhere the same text reaches something else.
    std::fs::create_dir_all(desk.at("deep/repository")).unwrap();
    symlink(desk.at("mine/cantrip.toml"), desk.at("deep/repository/cantrip.toml")).unwrap();
    desk.write("deep/repository/turns.jsonl", "{\"code\": \"done(7)\"}\n");
    std::fs::create_dir_all(desk.at("deep/outside")).unwrap();
    let told = desk.ends(2, &["cast", "deep/repository/cantrip.toml", "go", "--scratch"]);
    assert!(told.contains("deep/outside"), "{told}");
}

#[test]
fn what_new_writes_is_free_of_questions_and_replaces_nothing() {
    let desk = Desk::new();
    for folder in ["made", "home/made"] {
        desk.ends(0, &["new", folder]);
        let reader = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/reader/reader.wasm");
        std::fs::copy(reader, desk.at(folder).join("made.wasm")).unwrap();
        let told = desk.ends(0, &["check", &format!("{folder}/cantrip.toml")]);
        assert!(!told.contains("not trusted"), "{told}");
    }
    // In the home folder itself nothing is a project, and what it wrote is trusted as it is.
    let mut command = desk.command(&["new", "."]);
    std::fs::create_dir(desk.at("empty")).unwrap();
    let made = command
        .env("HOME", desk.at("empty"))
        .env("XDG_CONFIG_HOME", desk.at("xdg"))
        .current_dir(desk.at("empty"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let told = desk
        .command(&["check", "cantrip.toml", "--json"])
        .env("HOME", desk.at("empty"))
        .env("XDG_CONFIG_HOME", desk.at("xdg"))
        .current_dir(desk.at("empty"))
        .output()
        .unwrap();
    assert!(!text(&told.stdout).contains("\"trusted\": false"), "{}", text(&told.stdout));
    // A folder of somebody else's making is not added to.
    desk.ends(2, &["new", "repository"]);
    // Neither does the file of a project say what is overwritten elsewhere.
    desk.write("repository/cantrip.toml", "[guest]\ncomponent = \"../outside/precious.wasm\"\n");
    desk.write("repository/guest.py", "");
    assert!(desk.ends(2, &["build", "repository"]).contains("outside of its own project"));
}

#[test]
fn a_file_that_reaches_more_than_a_person_reads_is_refused() {
    let desk = Desk::new();
    let hosts: Vec<String> = (0..201).map(|number| format!("\"h{number}.example\"")).collect();
    let fetch = |hosts: &[String]| format!("{SCRIPTED}{CIRCLE}[gate.http_fetch]\nhosts = [{}]\n", hosts.join(", "));
    desk.write("repository/cantrip.toml", &fetch(&hosts));
    assert!(desk.ends(2, &["cast", "repository/cantrip.toml", "go"]).contains("at most 200"));
    assert!(desk.ends(2, &["trust", "repository/cantrip.toml"]).contains("at most 200"));
    desk.write("repository/cantrip.toml", &fetch(&hosts[..200]));
    desk.ends(0, &["trust", "repository/cantrip.toml"]);
    desk.ends(0, &["cast", "repository/cantrip.toml", "go", "--scratch", "-q"]);
}

#[test]
fn a_statement_that_is_longer_than_a_person_reads_is_refused() {
    let desk = Desk::new();
    let llm = |path: usize| {
        let path = "x".repeat(path);
        format!(
            "[llm]\nprovider = \"openai_compatible\"\nmodel = \"m\"\nbase_url = \"https://a.example/{path}\"\n{CIRCLE}"
        )
    };
    desk.write("repository/cantrip.toml", &llm(16 * 1024));
    for line in [&["cast", "repository/cantrip.toml", "go"][..], &["trust", "repository/cantrip.toml"]] {
        let told = desk.ends(2, line);
        assert!(told.contains("at most 16384") && told.len() < 1_000, "{}", told.len());
    }
    assert!(!desk.ends(0, &["trust", "ls"]).contains("cantrip.toml"));
    desk.write("repository/cantrip.toml", &llm(15 * 1024));
    desk.ends(0, &["trust", "repository/cantrip.toml"]);
}

#[test]
fn values_changed_for_a_fork_send_no_key_to_an_address_of_the_file() {
    let desk = Desk::new();
    // The table makes no sense as it stands; with another provider it would send the user's own key there.
    let file = format!("{SCRIPTED}{CIRCLE}");
    desk.write("repository/cantrip.toml", &file);
    desk.ends(0, &["cast", "repository/cantrip.toml", "go", "-q"]);
    let shown = desk.ends(0, &["loom", "show"]);
    let entry = shown.split_whitespace().find(|word| word.starts_with("bafyr")).unwrap().to_owned();
    let fork = |file: &str, sets: &[&str]| {
        desk.write("repository/cantrip.toml", file);
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        desk.run(&[&["loom", "fork", &entry], sets.as_slice()].concat())
    };
    let hidden = SCRIPTED
        .replace("path = \"turns.jsonl\"", "base_url = \"http://127.0.0.1:1\"\nkey_env = \"AWS_SECRET_ACCESS_KEY\"");
    let told = fork(&(hidden + CIRCLE), &["llm.provider=openai", "llm.model=m"]);
    assert_eq!(told.status.code(), Some(2));
    assert!(text(&told.stderr).contains("AWS_SECRET_ACCESS_KEY"), "{}", text(&told.stderr));
    let hidden = SCRIPTED.replace("path = \"turns.jsonl\"", "base_url = \"http://127.0.0.1:1\"");
    let told = fork(&(hidden + CIRCLE), &["llm.provider=openai", "llm.model=m"]);
    assert_eq!(told.status.code(), Some(2));
    assert!(text(&told.stderr).contains("OPENAI_API_KEY"), "{}", text(&told.stderr));
    // A ward of the user's own is nobody's business.
    assert!(fork(&file, &["circle.wards.max_turns=2"]).status.success());
}

#[test]
fn each_documented_form_of_a_new_cantrip_can_be_cast() {
    let desk = Desk::new();
    let forms = [
        "{}",
        "{ circle: {} }",
        "{ circle: { medium: 'javascript' } }",
        "{ circle: { gates: ['done'] } }",
        "{ circle: { wards: { max_turns: 2 } } }",
        "{ circle: { wards: [{ max_turns: 2 }] } }",
        "{ identity: {} }",
        "{ identity: { system_prompt: 'x' }, circle: { medium: 'javascript', gates: ['done'], wards: { max_turns: 2 } } }",
        "{ system_prompt: 'x', medium: 'javascript', gates: ['done'], wards: { max_turns: 2 } }",
        "{ identity: { temperature: 0.5 }, circle: { medium: 'javascript', gates: [{ name: 'done' }] } }",
    ];
    let casts: Vec<String> = forms.iter().map(|form| format!("cantrip.cast(cantrip.new({form}), 'x')")).collect();
    let first = json!({ "code": format!("done([{}])", casts.join(", ")) }).to_string();
    let child = json!({ "code": "done(1)" }).to_string();
    let lines: Vec<String> = std::iter::once(first).chain(std::iter::repeat_n(child, forms.len())).collect();
    desk.write("repository/turns.jsonl", &lines.join("\n"));
    let circle = CIRCLE.replace("[\"done\"]", "[\"call_entity\", \"done\"]");
    desk.write("repository/cantrip.toml", &format!("{SCRIPTED}{circle}"));
    let output = desk.run(&["cast", "repository/cantrip.toml", "go", "--scratch", "-q", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(told["result"], json!(vec![1; forms.len()]), "{}{}", text(&output.stdout), text(&output.stderr));
}
