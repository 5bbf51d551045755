//! What redaction hides, what it leaves alone, and that doing it twice changes nothing.

use cantrip_gates::{redact, redact_counted, redact_json};
use proptest::prelude::*;
use serde_json::json;

/// `«…»` marks the secret: it must be gone, and everything around it must stay.
fn check(marked: &str, kind: &str) {
    let text = marked.replace(['«', '»'], "");
    let mut expected = String::new();
    for (at, part) in marked.split(['«', '»']).enumerate() {
        if at % 2 == 0 { expected.push_str(part) } else { expected.extend(["[redacted:", kind, "]"]) }
    }
    assert_eq!(redact(&text), expected, "from {text}");
    assert_eq!(redact(&expected), expected, "a second time, from {text}");
}

fn untouched(text: &str) {
    let (redacted, count) = redact_counted(text);
    assert_eq!(redacted, text);
    assert_eq!(count, 0, "{text}");
}

#[test]
fn prod_8_keys_of_providers() {
    check("using key «sk-proj-very-secret»", "api_key");
    check("«sk-ant-api03-AbC_d-1234» and «sk-or-v1-0123456789abcdef»", "api_key");
    check("(«sk-0123456789abcdefghijABCDEFGHIJ0123456789abcdefgh»)", "api_key");
    check("x=«sk-svcacct-abc123DEF», y", "api_key");
    check("the «AIzaSyA1234567890abcdefghijklmnopqrstuvw» one", "api_key");
    check(
        "«gsk_abcdefghijklmnop1234567890», «xai-abcdefghijklmnop1234567890», «hf_abcdefghijklmnopqrstuvwx»",
        "api_key",
    );
    check("line\\n«sk-proj-very-secret»\\nline", "api_key");
    check("id «AKIAIOSFODNN7EXAMPLE» and «ASIAIOSFODNN7EXAMPLE»", "aws_key");
}

#[test]
fn prod_8_tokens_of_hosts() {
    check("«ghp_abcdefghijklmnopqrstuvwxyz0123456789»", "github_token");
    check(
        "«gho_abcdefghijklmnop» «ghs_abcdefghijklmnop» «ghu_abcdefghijklmnop» «ghr_abcdefghijklmnop»",
        "github_token",
    );
    check("«github_pat_11AAAAAAA0abcdefghijkl_mnopqrstuvwxyz»", "github_token");
    check("«xoxb-123456789012-abcdefGHIJ» «xoxp-1-2-3-abcdef» «xapp-1-A02-abcdef»", "slack_token");
    check("«eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-DEF_123», next", "jwt");
}

#[test]
fn prod_8_authorization() {
    check("Authorization: Bearer «abcdef»", "authorization");
    check("authorization: Basic «dXNlcjpwYXNz»\nAccept: */*", "authorization");
    check("curl -H 'Authorization: token «abcd1234»' https://example.com", "authorization");
    check(r#"{"Authorization": "Bearer «abc.def»", "x": 1}"#, "authorization");
    check(r#"{\"authorization\": \"Bearer «abcdef123»\"}"#, "authorization");
    check("Authorization: Digest «username=\u{75}, response=0123»", "authorization");
    check("Proxy-Authorization: «0123456789»", "authorization");
    check("sent Bearer «abcdef0123456789» with it", "authorization");
    check("sent Basic «dXNlcjpwYXNzd29yZA==» with it", "authorization");
}

#[test]
fn prod_8_assignments() {
    check("OPENAI_API_KEY=«whatever»", "secret");
    check("export DB_PASSWORD=«p@ss(word»", "secret");
    check("SECRET: «abc»", "secret");
    check("AWS_SECRET_ACCESS_KEY = «wJalrXUtnFEMI/K7MDENG»", "secret");
    check("GITHUB_TOKEN=\"«two words»\" make", "secret");
    check("password = '«it\\'s»'", "secret");
    check("password: «swordfish»", "secret");
    check("  client_secret: «q7»", "secret");
    check(r#"{"api_key": "«abc»", "model": "x"}"#, "secret");
    check(r#"{\"api_key\": \"«ab\\\"c»\", \"model\": \"x\"}"#, "secret");
    check(r#"{"apiKey":"«abc»","accessToken":"«d\"ef»"}"#, "secret");
    check("mistral_api_key: '«abc»'", "secret");
    check("COHERE_API_KEY: «abc»", "secret");
    check("https://example.com/x?api_key=«abc»&page=2", "secret");
    check("x-api-key: «abcdefgh1»", "secret");
    check("tool --api-key «abcdef123456» --verbose", "secret");
    check("A_KEY=«one»\nB_KEY=«two»\n", "secret");
    check("PASSWORD=«12345»", "secret");
    check("config[\"api_key\"] = \"«abc»\"", "secret");
    check("'private_key' => '«abc»'", "secret");
    check("PASSWORD=«ab[redacted:api_key]cd»", "secret");
}

#[test]
fn prod_8_private_keys() {
    let body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";
    check(
        &format!("«-----BEGIN PRIVATE KEY-----\n{body}\n{body}\nabc=\n-----END PRIVATE KEY-----»\nafter"),
        "private_key",
    );
    check(
        &format!(
            "«-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB\n\n{body}\n-----END RSA PRIVATE KEY-----»"
        ),
        "private_key",
    );
    check(&format!("\"«-----BEGIN EC PRIVATE KEY-----\\n{body}\\n-----END EC PRIVATE KEY-----»\\n\""), "private_key");
    check(&format!("«-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n{body}»\n"), "private_key");
    check(&format!("«-----BEGIN PRIVATE KEY-----\n{body}\nabcd»\nand then we went home"), "private_key");
    check(&format!("«-----BEGIN PRIVATE KEY----- {body} {body}» and so on"), "private_key");
    check("«-----BEGIN PRIVATE KEY-----» is how such a block begins", "private_key");
    check(
        &format!(
            "«-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n{body}\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----»"
        ),
        "private_key",
    );
}

#[test]
fn prod_8_passwords_in_urls() {
    check("postgres://bo:«hunter2»@db.example/x", "url_password");
    check("redis://:«p@ss:w»@127.0.0.1:6379", "url_password");
    check("fetch https://u:«t»@example.com/a?b=c", "url_password");
}

#[test]
fn prose_and_settings_stay() {
    for text in [
        "the key is under the mat",
        "max_tokens: 5",
        "max_token: 4096",
        "token count = 3",
        "tokens: 12, token: 7",
        "a task-list of risk-based items, sk-learn, ask-me-anything-really",
        "sk-learn-contrib-something",
        "the secret: always be kind",
        "Password: must have letters",
        "a bearer of bad news, Bearer certificates, basic authentication, Basic knowledge",
        "Authorization: required for every endpoint",
        "keyboard = qwerty, monkey: banana, hotkey: ctrl",
        "primary_key: id, public_key: abc, sort_key = created_at",
        "if token == expected_token_value { }",
        "let token = parser.next();",
        "secret: String, token: &str",
        "Token::new(password)",
        "api_key = os.environ[\"OPENAI_API_KEY\"]",
        "api_key: process.env.API_KEY",
        "API_KEY=$OTHER_KEY, API_KEY=${KEY}",
        "password: \"\"",
        "PASSWORD=",
        "api_key: <your key>",
        "token: null, secret: none",
        "see https://example.com:8080/path and mailto:a@b.c",
        "http://[::1]:80/@x",
        "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\n-----END CERTIFICATE-----",
        "key_env = \"ANTHROPIC_API_KEY\"",
        "ghp_ is the prefix, AKIA too, hf_hub, xai-org, gsk_",
        "eyJ is how a JWT begins",
        "PWD=/home/bo",
        "",
    ] {
        untouched(text);
    }
}

#[test]
fn json_values_lose_what_their_keys_name() {
    let mut value = json!({
        "api_key": "abc",
        "nested": [{"password": 12345, "max_tokens": 5, "token": 9, "secrets": {"a": "sk-proj-very-secret"}}],
        "note": "use ghp_abcdefghijklmnopqrstuvwxyz0123456789 here",
        "authorization": "Bearer x",
        "env": [{"name": "API_KEY", "value": "v"}, {"name": "HOME", "value": "/root"}],
        "tokens": ["kept"],
        "refresh_token": ["gone", null, true],
        "empty_password": "",
    });
    let expected = json!({
        "api_key": "[redacted:secret]",
        "nested": [{"password": "[redacted:secret]", "max_tokens": 5, "token": 9, "secrets": {"a": "[redacted:api_key]"}}],
        "note": "use [redacted:github_token] here",
        "authorization": "[redacted:secret]",
        "env": [{"name": "API_KEY", "value": "[redacted:secret]"}, {"name": "HOME", "value": "/root"}],
        "tokens": ["kept"],
        "refresh_token": ["[redacted:secret]", null, true],
        "empty_password": "",
    });
    assert_eq!(redact_json(&mut value), 7);
    assert_eq!(value, expected);
    assert_eq!(redact_json(&mut value), 0);
}

#[test]
fn json_keys_can_be_secrets_and_keep_their_order() {
    let mut value = json!({"z": 1, "sk-proj-abc123def": 2, "a": 3});
    assert_eq!(redact_json(&mut value), 1);
    assert_eq!(value.to_string(), r#"{"z":1,"[redacted:api_key]":2,"a":3}"#);
}

#[test]
fn a_text_made_to_be_slow_is_redacted_all_the_same() {
    // Each of these took minutes while a part of the work was done again for every name on the line.
    for piece in [
        "a_key=\"b_key=",
        "password=\"\\\"",
        "password=f(",
        "secret: a b ",
        "authorization: a ",
        "authorization: digest a ",
        "https://a:",
        "-----BEGIN PRIVATE KEY-----\n",
        "AAAAAAAAAAAAAAAAAAAA",
    ] {
        let (once, _) = redact_counted(&piece.repeat(20_000)).to_owned_pair();
        assert!(!once.is_empty());
    }
    let line = format!("{} key=1 a.b-c {}\n", "x".repeat(500), "sk-proj-very-secret");
    let (redacted, count) = redact_counted(&line.repeat(1_000)).to_owned_pair();
    assert_eq!(count, 1_000);
    assert!(!redacted.contains("very-secret"));
}

trait OwnedPair {
    fn to_owned_pair(self) -> (String, usize);
}

impl OwnedPair for (std::borrow::Cow<'_, str>, usize) {
    fn to_owned_pair(self) -> (String, usize) {
        (self.0.into_owned(), self.1)
    }
}

/// Pieces that make secrets, halves of secrets and what stands between.
fn piece() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "sk-proj-very-secret",
        "sk-",
        "API_KEY=",
        "api_key: ",
        "\"password\": \"",
        "password='",
        "\\\"token\\\": \\\"",
        "Bearer ",
        "Authorization: ",
        "Basic ",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
        "://u:",
        "https://u:p@h",
        "@",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJI.eyJzdWI.x",
        "[redacted:api_key]",
        "[redacted:",
        "]",
        "\"",
        "'",
        "\\",
        "\\n",
        "\n",
        " ",
        "=",
        ":",
        ",",
        "&",
        "?",
        "{",
        "}",
        "ghp_abcdefghijklmnop",
        "--token ",
        "hunter2",
        "$",
        "<",
        ">",
        "é",
    ]);
    prop_oneof![6 => known.prop_map(str::to_owned), 1 => "[ -~]{0,12}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn redacting_twice_changes_nothing(pieces in prop::collection::vec(piece(), 0..14)) {
        let text = pieces.concat();
        let (once, _) = redact_counted(&text).to_owned_pair();
        let (twice, again) = redact_counted(&once).to_owned_pair();
        prop_assert_eq!(&once, &twice);
        prop_assert_eq!(again, 0);
    }

    #[test]
    fn a_known_key_never_survives(before in "[ -~]{0,20}", after in "[ -~]{0,20}") {
        let text = format!("{before} sk-ant-api03-0123456789abcdef {after}");
        prop_assert!(!redact(&text).contains("0123456789abcdef"));
    }

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        let _ = redact(&text);
    }
}
