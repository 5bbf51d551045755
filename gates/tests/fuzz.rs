//! Whatever bytes come in where gates read what strangers wrote, the answer is a value or a sentence, never a panic, and it
//! is there in steps that the length of the bytes bounds.
//!
//! `cargo test -p cantrip-gates --test fuzz` changes the seeds in `gates/tests/fuzz` a bounded number of times. With
//! `cargo bolero test NAME` the same targets are led by coverage. A seed that found something is added to its folder.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "a test reads its seeds and lays out the files that a gate then meets")]

use std::panic::AssertUnwindSafe;
use std::path::Path;

use bolero::check;
use cantrip_gates::{
    ArgumentCheck, CallContext, Exposure, GateName, GateSpec, Reach, Root, builtin, limits, redact, redact_json,
    redact_start, steps,
};
use serde_json::{Value, json};

/// Which seed, what of it becomes which byte, how often it is said again, and where it is cut.
type Change = (u8, Vec<(u16, u8)>, u8, Option<u16>);

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "the target {target} has no seeds");
    paths.iter().map(|path| std::fs::read(path).expect("a seed")).collect()
}

fn changed(seeds: &[Vec<u8>], (which, bytes, again, cut): &Change) -> Vec<u8> {
    let mut seed = seeds.get(usize::from(*which) % seeds.len()).cloned().unwrap_or_default();
    for (at, byte) in bytes.iter().take(1 + usize::from(*which) / 32) {
        let at = usize::from(*at) % seed.len().max(1);
        if let Some(place) = seed.get_mut(at) {
            *place = *byte;
        }
    }
    if let Some(cut) = cut {
        seed.truncate(usize::from(*cut) % (seed.len() + 1));
    }
    seed.repeat(1 + usize::from(*again) / 32)
}

fn target(name: &str, times: usize, body: impl Fn(Vec<u8>)) {
    let seeds = seeds(name);
    let body = AssertUnwindSafe(body);
    check!().with_type::<Change>().with_iterations(times).for_each(|change| {
        let body = &body;
        body(changed(&seeds, change));
    });
}

#[test]
fn redaction() {
    target("redaction", 3_000, |bytes| {
        let text = String::from_utf8_lossy(&bytes);
        let (once, taken) = steps::taken_by(|| redact(&text).into_owned());
        let most = 2_000 * u64::try_from(text.len() + 1).expect("a length");
        assert!(taken <= most, "{taken} steps for {} bytes", text.len());
        assert_eq!(redact(&once), once, "a second time, from {text:?}");
        let (start, _) = redact_start(&text, text.len() / 2);
        assert!(start.len() <= text.len() / 2);
        if let Ok(mut value) = serde_json::from_str::<Value>(&text) {
            redact_json(&mut value);
            let once = value.clone();
            redact_json(&mut value);
            assert_eq!(value, once);
        }
    });
}

#[test]
fn schemas() {
    target("schemas", 3_000, |bytes| {
        let Ok(mut both) = serde_json::from_slice::<Value>(&bytes) else { return };
        let spec = GateSpec {
            name: GateName::parse("strange").expect("a name"),
            description: String::new(),
            // A number or a list has no part of this name, and is another input.
            parameters: both.get_mut("schema").map(Value::take).unwrap_or_default(),
            positional: Vec::new(),
            reach: Reach::Read,
            exposure: Exposure::default(),
            ephemeral: false,
        };
        let Ok(check) = ArgumentCheck::new(&spec) else { return };
        let (result, taken) = steps::taken_by(|| check.check(&both["value"]));
        assert!(taken <= 2 * u64::try_from(limits::CHECK_STEPS_MAX).expect("a number"));
        assert!(result.map_or(0, |()| 0) == 0);
    });
}

#[test]
fn patterns() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let gate = builtin::search(Root::open(folder.path()).expect("a root"));
    target("patterns", 1_000, |bytes| {
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        let (Some(pattern), Some(glob)) = (lines.next(), lines.next()) else { return };
        std::fs::write(folder.path().join("a.txt"), text.as_bytes()).expect("a file");
        let arguments = json!({"pattern": pattern, "glob": glob});
        let context = CallContext::default();
        let mut call = gate.call(arguments, &context);
        let polled = call.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        assert!(polled.is_ready());
    });
}
