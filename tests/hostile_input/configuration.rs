//! The user's own configuration: where it is, what it may say, who may name its models, and who may never open it.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use super::node_support::text;
use super::workspace::Desk;

const CANTRIP: &str = "[circle]\nmedium = \"javascript\"\ngates = [\"done\"]\n[circle.wards]\nmax_turns = 3\n";

impl Desk {
    fn config(&self, content: &str) {
        self.write("home/.config/cantrip/config.toml", content);
    }

    /// Two models that say what they are.
    fn two_models(&self) {
        self.config(
            "default_model = \"one\"\n[models.one]\nprovider = \"scripted\"\npath = \"one.jsonl\"\n[models.two]\nprovider = \
             \"scripted\"\npath = \"two.jsonl\"\n",
        );
        for name in ["one", "two"] {
            let turn = json!({ "code": format!("done({name:?})") }).to_string();
            self.write(&format!("home/.config/cantrip/{name}.jsonl"), &turn);
        }
    }

    fn answer(&self, line: &[&str]) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }
}

#[test]
fn files_name_the_users_models_and_the_user_has_the_last_word() {
    let desk = Desk::new();
    desk.two_models();
    let cast: &[&str] = &["cast", "repository/cantrip.toml", "go", "--scratch", "-q"];
    let familiar: &[&str] = &["familiar", "go", "--root", "repository", "-q"];
    for (head, expected) in [("", "one"), ("llm = \"two\"\n", "two")] {
        desk.write("repository/cantrip.toml", &format!("{head}{CANTRIP}"));
        for line in [cast, familiar] {
            assert_eq!(desk.answer(line), expected, "{head} {line:?}");
            assert_eq!(desk.answer(&[line, &["--llm", "one"]].concat()), "one");
            assert_eq!(desk.answer(&[line, &["--llm", "scripted/repository/turns.jsonl"]].concat()), "7");
        }
    }
    // A child is given one of the user's models by its name.
    let child = "done(call_entity({intent: 'x', medium: 'javascript', gates: []}))";
    desk.write("repository/turns.jsonl", &json!({ "code": child }).to_string());
    let file = CANTRIP.replace("[\"done\"]", "[\"call_entity\", \"done\"]");
    let head = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[children]\nllm = \"two\"\n";
    desk.write("repository/cantrip.toml", &format!("{head}{file}"));
    assert_eq!(desk.answer(cast), "two");
    // One that is not there is named, with those that are.
    desk.write("repository/cantrip.toml", &format!("llm = \"three\"\n{CANTRIP}"));
    let told = desk.ends(2, cast);
    assert!(told.contains("cantrip.toml:1: llm") && told.contains("[models.three]; it has one, two"), "{told}");
    // The names of a file are not the user's: what it defines takes no name of the configuration in the Familiar.
    let shadow = "[models.two]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n";
    desk.write("repository/turns.jsonl", "{\"code\": \"done('the file')\"}");
    desk.write("repository/cantrip.toml", &format!("{shadow}{CANTRIP}"));
    let code = "done(call_entity({intent: 'x', llm: 'two', medium: 'javascript', gates: []}))";
    desk.write("ask.jsonl", &json!({ "code": code }).to_string());
    assert_eq!(desk.answer(&["familiar", "go", "--root", "repository", "-q", "--llm", "scripted/ask.jsonl"]), "two");
}

#[test]
fn the_configuration_is_one_file_and_a_wrong_key_is_named() {
    let desk = Desk::new();
    desk.two_models();
    desk.write("repository/cantrip.toml", CANTRIP);
    let line: &[&str] = &["cast", "repository/cantrip.toml", "go", "--scratch", "-q"];
    for (content, told) in [
        ("default_modle = \"x\"\n", "config.toml:1: default_modle"),
        ("default_model = \"x\"\n", "config.toml:1: default_model: there is no [models.x]"),
        ("[models.x]\nprovidr = \"openai\"\n", "config.toml:2: models.x.providr"),
        ("[gate.read_file]\nroot = \"/\"\n", "config.toml:1: gate.read_file"),
    ] {
        desk.config(content);
        let said = desk.ends(2, line);
        assert!(said.contains(told), "{content}: {said}");
    }
    let elsewhere = "[models.x]\nprovider = \"scripted\"\npath = \"x.jsonl\"\n";
    desk.write("named/x.jsonl", "{\"code\": \"done('x')\"}");
    desk.write("named/mine.toml", &format!("default_model = \"x\"\n{elsewhere}"));
    desk.write("xdg/cantrip/x.jsonl", "{\"code\": \"done('xdg')\"}");
    desk.write("xdg/cantrip/config.toml", &format!("default_model = \"x\"\n{elsewhere}"));
    let with = |name: &str, value: &str| {
        let output = desk.command(line).env(name, value).output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    };
    assert!(with("CANTRIP_CONFIG", desk.at("named/mine.toml").to_str().unwrap()).starts_with("x\n"));
    assert!(with("XDG_CONFIG_HOME", desk.at("xdg").to_str().unwrap()).starts_with("xdg\n"));
    // A path that means another file in each folder would let a repository be the configuration.
    assert!(with("CANTRIP_CONFIG", "named/mine.toml").contains("has to be an absolute path"));
    desk.two_models();
    assert!(with("XDG_CONFIG_HOME", "xdg").starts_with("one\n"));
    // What everybody can write is nobody's word.
    let file = desk.at("home/.config/cantrip/config.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(desk.ends(2, line).contains("everybody on this machine can write it"));
}

#[test]
fn each_value_is_shown_with_who_says_so_and_no_key_is_shown() {
    let desk = Desk::new();
    desk.config(
        "[models.gate]\nprovider = \"openai\"\nmodel = \"m\"\n[models.own]\nprovider = \"openai_compatible\"\nmodel = \
         \"n\"\nbase_url = \"https://own.example\"\nkey_env = \"OWN_KEY\"\n",
    );
    desk.write("repository/cantrip.toml", &format!("llm = \"own\"\n{CANTRIP}[gate.http_fetch]\nhosts = [\"a.example\"]\nheaders = {{ Authorization = \"hidden\" }}\n"));
    let shown = |more: &[&str]| {
        let line = [&["config", "show", "--json"], more].concat();
        let mut command = desk.command(&line);
        command
            .env("OPENAI_BASE_URL", "https://gate.example/v1")
            .env("ANTHROPIC_BASE_URL", "https://me:pass@x.example");
        let output = command.output().unwrap();
        let all = text(&output.stdout) + &text(&output.stderr);
        for secret in ["the-secret", "me:pass", "hidden"] {
            assert!(!all.contains(secret), "{all}");
        }
        let lines: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{all}"));
        move |key: &str| {
            let found = lines.iter().find(|line| line["key"] == key).unwrap_or_else(|| panic!("{key}: {lines:?}"));
            (found["value"].as_str().unwrap().to_owned(), found["source"].as_str().unwrap().to_owned())
        }
    };
    let of = shown(&[]);
    let config = desk.at("home/.config/cantrip/config.toml").display().to_string();
    let pair = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(of("config"), pair(&config, "default"));
    assert_eq!(of("data").1, "environment: CANTRIP_DATA");
    assert_eq!(of("models.gate.address"), pair("https://gate.example/v1/", "environment: OPENAI_BASE_URL"));
    assert_eq!(of("models.gate.key"), pair("***", "environment: OPENAI_API_KEY"));
    assert_eq!(of("models.own.address"), pair("https://own.example/v1/", &config));
    assert_eq!(of("models.own.key").0, "not set");
    assert_eq!(of("providers.openai.address"), pair("https://gate.example/v1/", "environment: OPENAI_BASE_URL"));
    assert_eq!(of("providers.anthropic.address").1, "environment: ANTHROPIC_BASE_URL");
    assert_eq!(of("providers.groq.address"), pair("https://api.groq.com/openai/v1/", "default"));
    let of = shown(&["repository/cantrip.toml"]);
    assert_eq!(of("llm"), pair("own", "repository/cantrip.toml"));
    assert_eq!(of("circle.wards.max_turns"), pair("3", "repository/cantrip.toml"));
    assert_eq!(of("circle.wards.max_depth"), pair("1", "default"));
    assert_eq!(of("gate.http_fetch.headers.Authorization"), pair("***", "repository/cantrip.toml"));
    assert_eq!(of("reach").1, "not trusted");
    assert!(desk.ends(0, &["--data", "x", "config", "show"]).contains("flag: --data"));
    assert_eq!(desk.ends(0, &["config", "path"]).trim(), config);
}

#[test]
fn trust_is_not_read_from_where_strangers_write() {
    let desk = Desk::new();
    let file = "[gate.read_file]\nroot = \"../outside\"\n";
    desk.write(
        "repository/cantrip.toml",
        &format!("[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n{CANTRIP}{file}"),
    );
    let cast: &[&str] = &["cast", "repository/cantrip.toml", "go", "--scratch", "-q"];
    desk.ends(0, &["trust", "repository/cantrip.toml"]);
    desk.ends(0, cast);
    let store = desk.at("home/.config/cantrip/trust.json");
    let mode = std::fs::metadata(&store).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::metadata(store.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    // Others could have written it.
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o622)).unwrap();
    assert!(desk.ends(2, cast).contains("what is trusted cannot be read"));
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o600)).unwrap();
    // It is a link to what a repository brings.
    std::fs::rename(&store, desk.at("repository/trust.json")).unwrap();
    symlink(desk.at("repository/trust.json"), &store).unwrap();
    assert!(desk.ends(2, cast).contains("what is trusted cannot be read"));
    assert!(desk.ends(2, &["trust", "ls"]).contains("is not followed"));
    std::fs::remove_file(&store).unwrap();
    // It lies in the repository itself.
    for folder in ["repository", "repository/docs"] {
        desk.write(&format!("{folder}/config.toml"), "");
        let config = desk.at(&format!("{folder}/config.toml"));
        std::fs::copy(desk.at("repository/trust.json"), config.with_file_name("trust.json")).unwrap();
        let output = desk.command(cast).env("CANTRIP_CONFIG", &config).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("lies inside of the project"), "{}", text(&output.stderr));
    }
    // It is none, or of another version.
    for content in ["", "[]", "{\"version\": 2, \"files\": {}}"] {
        desk.write("home/.config/cantrip/trust.json", content);
        std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(desk.ends(2, cast).contains("what is trusted cannot be read"), "{content}");
    }
}

#[test]
fn a_trust_file_that_is_too_long_is_refused() {
    let desk = Desk::new();
    desk.write("repository/cantrip.toml", &format!("llm = \"x\"\n{CANTRIP}[gate.read_file]\nroot = \"../outside\"\n"));
    desk.write("home/.config/cantrip/trust.json", &" ".repeat(1024 * 1024 + 1));
    let store = desk.at("home/.config/cantrip/trust.json");
    std::fs::set_permissions(store, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(desk.ends(2, &["trust", "repository/cantrip.toml"]).contains("longer than 1048576 bytes"));
}

#[test]
fn no_gate_opens_configuration_trust_or_records() {
    let desk = Desk::new();
    desk.two_models();
    desk.write("home/.config/cantrip/trust.json", "{\"version\": 1, \"files\": {}}");
    desk.write("data/secret.txt", "the-secret");
    // Links, and another name of the whole place, lead to the same.
    symlink(desk.at("home/.config"), desk.at("home/way")).unwrap();
    symlink(desk.at("data"), desk.at("home/record")).unwrap();
    std::fs::hard_link(desk.at("data/secret.txt"), desk.at("data/other.txt")).unwrap();
    let tries = [
        "read_file('home/.config/cantrip/config.toml')",
        "read_file('home/way/cantrip/config.toml')",
        "read_file('home/.config/./cantrip/../cantrip/trust.json')",
        "list_dir('home/.config/cantrip')",
        "write_file('home/.config/cantrip/config.toml', 'x')",
        "write_file('home/.config/cantrip/new.toml', 'x')",
        "write_file('home/.config/cantrip/trust.json', 'x')",
        "read_file('data/secret.txt')",
        "read_file('home/record/secret.txt')",
        "list_dir('data')",
        "write_file('data/loom/x', 'x')",
    ];
    let code: Vec<String> =
        tries.iter().map(|gate| format!("try {{ {gate}; out.push(1) }} catch (e) {{ out.push(e.kind) }}")).collect();
    let code = format!("const out = []; {}; done(out.join())", code.join("; "));
    desk.write("ask.jsonl", &json!({ "code": code }).to_string());
    let line: &[&str] = &["familiar", "go", "--root", ".", "--write", "-q", "--llm", "scripted/ask.jsonl"];
    assert_eq!(desk.answer(line), vec!["denied"; tries.len()].join(","));
    let find = "done(JSON.stringify([search('the-secret'), search('default_model')]))";
    desk.write("ask.jsonl", &json!({ "code": find }).to_string());
    let found = desk.answer(line);
    assert!(!found.contains("secret.txt") && !found.contains("config.toml"), "{found}");
    // It is closed before it is there, too.
    std::fs::remove_dir_all(desk.at("home/.config")).unwrap();
    let make = "try { write_file('home/.config/cantrip/config.toml', 'x', true); done(1) } catch (e) { done(e.kind) }";
    desk.write("ask.jsonl", &json!({ "code": make }).to_string());
    assert_eq!(desk.answer(line), "denied");
}

#[test]
fn no_key_goes_over_plain_http_to_another_machine() {
    let desk = Desk::new();
    desk.write("repository/cantrip.toml", CANTRIP);
    for (table, variable) in [
        ("provider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://gate.example/v1\"", ""),
        (
            "provider = \"openai_compatible\"\nmodel = \"m\"\nbase_url = \"HTTP://10.0.0.1\"\nkey_env = \"OPENAI_API_KEY\"",
            "",
        ),
        ("provider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://localhost.evil:1\"", ""),
        ("provider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://[::ffff:10.0.0.1]:1\"", ""),
        ("provider = \"openai\"\nmodel = \"m\"", "http://gate.example/v1"),
    ] {
        desk.config(&format!("default_model = \"x\"\n[models.x]\n{table}\n"));
        let mut command = desk.command(&["cast", "repository/cantrip.toml", "go", "--scratch"]);
        if !variable.is_empty() {
            command.env("OPENAI_BASE_URL", variable);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{table}");
        assert!(text(&output.stderr).contains("no key is sent over plain http to"), "{}", text(&output.stderr));
    }
    desk.config(
        "default_model = \"x\"\n[models.x]\nprovider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://[::1]:1\"\n",
    );
    desk.ends(0, &["check", "repository/cantrip.toml"]);
}
