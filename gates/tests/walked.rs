//! A text is walked once: whatever a stranger wrote, twice as much of it costs at most a little more than twice the steps.
//!
//! Steps are counted where a text is walked, so the answer is the same on every machine and under any load.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use cantrip_gates::{redact, redact_counted, redact_json, redact_start, steps};
use proptest::prelude::*;
use serde_json::json;

/// A text of so many pieces and one twice as long: the second takes at most 2.5 times the steps.
fn in_proportion(about: &str, made: impl Fn(usize) -> String, walk: impl Fn(&str)) {
    const PIECES: usize = 1_000;
    let steps_of = |text: &str| steps::taken_by(|| walk(text)).1;
    let (single, double) = (made(PIECES), made(2 * PIECES));
    // What is made ready at the first use is not the text's.
    walk(&single);
    // How many passes a text takes, within their limit, can hang on whether its pieces are odd or even in number: the single text
    // is the costliest of some neighbours.
    let neighbours = (0..4).map(|more| steps_of(&made(PIECES + 3 * more)));
    let (one, two) = (neighbours.max().unwrap_or(0), steps_of(&double));
    assert!(one > 0, "{about}: nothing was counted");
    assert!(two * 2 <= one * 5, "{about}: {one} steps for {} bytes, {two} for {}", single.len(), double.len());
    // Far more steps for each byte than passes over it would be the same fault with another face.
    let bytes = u64::try_from(double.len()).expect("a length");
    assert!(two <= bytes.saturating_mul(2_000), "{about}: {two} steps for {bytes} bytes");
}

/// The alphabets of every rule, and the ends that make a rule give up late.
const PIECES: &[&str] = &[
    "a_key:",
    "a_key=",
    "A_KEY=",
    "api_key: x ",
    "password:",
    "token:a",
    "secret=>",
    "a_key:=",
    "?a_key=b",
    "&a_key=&b",
    "?a_key=a_key:",
    "a_key=\"",
    "a_key='b_key=\"",
    "a_key=\"\\n",
    "a_key=`\\'",
    "a_key=\\\"x\\n",
    "\"a_key\": \"",
    "\\\"a_key\\\": \\\"",
    "a_key:,;)",
    "a_key:[redacted:secret]",
    "[redacted:",
    "a_key=[redacted:x]=",
    "PASSWORD=${A}",
    "a_key:{",
    "x_key:f(",
    "authorization:",
    "Authorization: ",
    "authorization:,",
    "authorization: digest ",
    "authorization: digest,",
    "authorization: bearer",
    "authorization:aws4-hmac-sha256 ",
    "bearer ",
    "Bearer%20",
    "basic ",
    "Basic YWJjZGVmZ2g= ",
    "https://a:",
    "a://b:c@",
    "a://b:c",
    "://",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\n",
    "-----BEGIN PRIVATE KEY-----Comment:",
    "-----BEGIN PRIVATE KEY----- \\n",
    "-----BEGIN PRIVATE KEY-----MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "-----BEGIN PRIVATE KEY-----\"",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n",
    "sk-",
    "sk-proj-",
    "sk-proj-abcdefgh",
    "AIza",
    "gsk_",
    "hf_a",
    "AKIA",
    "ghp_",
    "github_pat_",
    "xoxb-",
    "eyJ",
    "eyJabcdefgh.",
    "eyJabcdefgh.abcd.",
    "--token ",
    "--a-",
    "--password a",
    "\\",
    "\\n",
    "\"",
    "'",
    "`",
    "\\\\\"",
    "key",
    "é",
    " ",
    "\t",
    ".",
    "-",
    "_key",
    "x",
    "{\"password\":\"",
];

/// What comes behind all the pieces: the sign by which a rule decides about everything before it.
const ENDS: &[&str] = &["", " x y z", "\n", "\" x y z", "@h", ",,,,,,", "-----END PRIVATE KEY-----", ")]"];

#[test]
fn redaction_takes_steps_in_proportion_to_the_text() {
    for piece in PIECES {
        for end in ENDS {
            let made = |count: usize| format!("{}{end}", piece.repeat(count));
            in_proportion(&format!("{piece:?} … {end:?}"), made, |text| drop(redact_counted(text)));
        }
    }
}

#[test]
fn a_text_that_takes_more_passes_for_an_even_number_of_pieces_is_redacted_in_proportion() {
    let made = |count: usize| format!("{}@h", "a://b:c@.password:`x".repeat(count / 3));
    in_proportion("a password in a quote in an address", made, |text| drop(redact(text)));
}

#[test]
fn quotes_with_more_and_more_backslashes_take_steps_in_proportion() {
    let made = |pieces: usize| {
        let mut text = String::new();
        let mut backslashes = 0;
        while text.len() < pieces * 20 {
            backslashes += 1;
            text.push_str("a_key=");
            text.push_str(&"\\".repeat(backslashes));
            text.push_str("\"v\\n ");
        }
        text
    };
    in_proportion("more and more backslashes", made, |text| drop(redact(text)));
}

#[test]
fn json_is_redacted_in_proportion_to_its_size() {
    let texts = |count: usize| format!("{}end", "a_key:".repeat(count));
    let walk = |mut value: serde_json::Value| {
        redact_json(&mut value);
    };
    in_proportion("a text", texts, |text| walk(json!({"said": text})));
    in_proportion("a key", texts, |text| walk(json!({text: 1})));
    in_proportion("json in a text", texts, |text| {
        let inner = json!({"password": text, "note": [text]}).to_string();
        walk(json!({"body": json!({"inner": inner}).to_string()}));
    });
    in_proportion(
        "many keys",
        |count| "k".repeat(count),
        |text| {
            let keys = (0..text.len()).map(|at| (format!("a_key{at}"), json!("sk-proj-abcdefgh")));
            walk(serde_json::Value::Object(keys.collect()));
        },
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_mixture_of_pieces_is_redacted_in_proportion(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 1..6),
        end in prop::sample::select(ENDS),
    ) {
        let piece = pieces.concat();
        in_proportion(&piece, |count| format!("{}{end}", piece.repeat(count / 3)), |text| drop(redact(text)));
    }

    #[test]
    fn no_half_of_a_secret_is_shown_wherever_the_cut_falls(
        before in "[a-z \\n]{0,40}",
        secret in prop::sample::select(SECRETS),
        cut in 0_usize..120,
    ) {
        let text = format!("{before} {secret} and {}", "more words ".repeat(2_000));
        let (shown, is_cut) = redact_start(&text, cut);
        prop_assert!(is_cut && shown.len() <= cut);
        prop_assert!(!shown.contains("S3cr"), "{shown}");
    }
}

/// Each has its secret part begin with `S3cr`.
const SECRETS: &[&str] = &[
    "API_KEY=S3crabcdefgh",
    "sk-proj-S3crabcdefghijkl",
    "ghp_S3crabcdefghijklmnopqrstuvwxyz",
    "https://user:S3crabcdefgh@example.com/path",
    "Authorization: Bearer S3crabcdefgh",
    "eyJhbGciOiJI.S3creyJzdWIiOiIx.S3crabc",
    "-----BEGIN PRIVATE KEY-----\nS3crvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n-----END PRIVATE KEY-----",
    "password: S3crabcdefgh\n",
    "{\"password\": \"S3crab cd ef gh\"}",
];

#[test]
fn no_half_of_a_secret_is_shown_at_a_cut() {
    for secret in SECRETS {
        let text = format!("{secret} {}", "x ".repeat(20_000));
        for cut in 0..secret.len() {
            let (shown, _) = redact_start(&text, cut);
            assert!(!shown.contains("S3cr"), "{secret} cut at {cut}: {shown}");
        }
    }
    // Longer than any credential is: the end of it is never seen.
    for opening in ["https://user:S3cr", "eyJhbGciOiJI.S3cr", "password: S3cr", "{\"password\":\"S3cr"] {
        let text = format!("before {opening}{} x y", "S3cr".repeat(10_000));
        let (shown, is_cut) = redact_start(&text, 200);
        assert!(is_cut && shown.starts_with("before") && !shown.contains("S3cr"), "{shown}");
    }
}

#[test]
fn the_start_of_a_text_costs_what_is_shown_of_it_and_not_its_length() {
    let long = "a_key:".repeat(100_000);
    let (_, short) = steps::taken_by(|| redact_start(&long[..60_000], 1_000).0.len());
    let (_, whole) = steps::taken_by(|| redact_start(&long, 1_000).0.len());
    assert_eq!(short, whole);
    let (shown, is_cut) = redact_start("plain words", 100);
    assert_eq!((&*shown, is_cut), ("plain words", false));
    let (shown, is_cut) = redact_start("plain words", 5);
    assert_eq!((&*shown, is_cut), ("plain", true));
    let blob = "x".repeat(50_000);
    assert_eq!(redact_start(&blob, 10).0, "xxxxxxxxxx");
}
