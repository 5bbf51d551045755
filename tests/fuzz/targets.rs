//! What every fuzz target does: valid input first, then a few changes to it.
//!
//! A target runs a bounded number of times with every test. `BOLERO_RANDOM_TEST_TIME_MS` and `BOLERO_RANDOM_ITERATIONS` set
//! another bound (docs/ARCHITECTURE.md, "Tests that run long"), and `cargo bolero test` leads the same targets by coverage.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use bolero::check;

/// Which seed, what of it becomes which byte, and where it is cut or doubled.
pub(crate) type Change = (u8, Vec<(u16, u8)>, Option<u16>);

/// A seed with some bytes changed, and cut or doubled.
pub(crate) fn changed(seeds: &[Vec<u8>], (which, bytes, length): &Change) -> Vec<u8> {
    let mut seed = seeds.get(usize::from(*which) % seeds.len().max(1)).cloned().unwrap_or_default();
    // Mostly few changes: what is wrong in eight places is refused for the first of them.
    for (at, byte) in bytes.iter().take(1 + usize::from(*which) / 64) {
        let at = usize::from(*at) % seed.len().max(1);
        if let Some(place) = seed.get_mut(at) {
            *place = *byte;
        }
    }
    match length {
        Some(length) if length % 4 > 1 => {}
        Some(length) if length % 4 == 0 => seed.truncate(usize::from(*length) % (seed.len() + 1)),
        Some(at) => {
            let tail = seed.get(usize::from(*at) % (seed.len() + 1)..).unwrap_or_default().to_vec();
            seed.extend(tail);
        }
        None => {}
    }
    seed
}

/// What a value of a file is exchanged for.
const VALUES: [&str; 16] = [
    "0",
    "-1",
    "1",
    "18446744073709551615",
    "9223372036854775808",
    "1e308",
    "true",
    "\"\"",
    "\"a\"",
    "\"../a\"",
    "\"http://a/\"",
    "[]",
    "[\"a\", \"a\"]",
    "{}",
    "{ a = 1 }",
    "1979-05-27",
];

/// A file of lines with some of them left out, doubled, moved, given another value or taken from another file. A byte that is
/// changed mostly makes it no file of its kind at all; so every fourth file is changed in a byte, and the others in their lines.
pub(crate) fn changed_lines(seeds: &[Vec<u8>], change: &Change) -> Vec<u8> {
    let (which, changes, _) = change;
    let texts: Vec<String> = seeds.iter().map(|seed| String::from_utf8_lossy(seed).into_owned()).collect();
    let Some(text) = texts.get(usize::from(*which) % texts.len().max(1)).filter(|_| which % 4 > 0) else {
        return changed(seeds, change);
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (number, how) in changes.iter().take(1 + usize::from(*which) / 64) {
        let (at, other) = (usize::from(*number) % lines.len().max(1), usize::from(*how) / 5);
        let Some(line) = lines.get(at).cloned() else { break };
        match how % 5 {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, line),
            2 => {
                let moved = lines.remove(at);
                lines.insert(other % (lines.len() + 1), moved);
            }
            3 => {
                let value = VALUES.get(other % VALUES.len()).copied().unwrap_or_default();
                if let (Some((key, _)), Some(line)) = (line.split_once('='), lines.get_mut(at)) {
                    *line = format!("{key}= {value}");
                }
            }
            _ => {
                let from =
                    texts.get(other % texts.len()).and_then(|text| text.lines().nth(usize::from(*number) / 7 % 97));
                lines.insert(at, from.unwrap_or_default().to_owned());
            }
        }
    }
    lines.push(String::new());
    lines.join("\n").into_bytes()
}

/// Runs a target on so many changed seeds. A panic ends the test, so nothing is looked at after one.
///
/// `body` says whether the bytes were taken: if no change ever is, the target looks at nothing but the first check.
pub(crate) fn target_of(name: &str, seeds: &[Vec<u8>], times: usize, body: impl Fn(Vec<u8>) -> bool) {
    target_by(name, seeds, times, changed, body);
}

/// The same, changed in its own way.
pub(crate) fn target_by(
    name: &str,
    seeds: &[Vec<u8>],
    times: usize,
    change_seed: impl Fn(&[Vec<u8>], &Change) -> Vec<u8>,
    body: impl Fn(Vec<u8>) -> bool,
) {
    let (tried, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let (body, change_seed) = (AssertUnwindSafe(body), AssertUnwindSafe(change_seed));
    check!().with_type::<Change>().with_iterations(times).for_each(|change| {
        let (body, change_seed) = (&body, &change_seed);
        let bytes = change_seed(seeds, change);
        let is_changed = !seeds.contains(&bytes);
        tried.fetch_add(1, Ordering::Relaxed);
        taken.fetch_add(u64::from(body(bytes) && is_changed), Ordering::Relaxed);
    });
    println!("{name}: {tried:?} tried, {taken:?} changed and taken");
    assert!(taken.into_inner() > 0, "{name}");
}
