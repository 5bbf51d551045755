//! A guest of the tests: a step for each turn, which reads a file each time and counts in its memory.

use std::sync::atomic::{AtomicU64, Ordering};

use cantrip_guest::{Error, Progress, Turn, read_file};
use serde_json::{Value, json};

static COUNT: AtomicU64 = AtomicU64::new(0);

#[cantrip_guest::steps]
pub fn step(turn: Turn) -> Result<Progress<Value>, Error> {
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let text = read_file::read("a.txt")?;
    println!("turn {} says {text} {}", turn.number, turn.heard.join(","));
    let until: u64 = turn.intent.parse()?;
    Ok(if count < until { Progress::More } else { Progress::Finished(json!({ "count": count, "turn": turn.number })) })
}
