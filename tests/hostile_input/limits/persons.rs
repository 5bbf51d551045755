//! What is said into an episode, and what of it a person is shown.

use cantrip_runtime::Control;
use serde_json::json;

#[test]
fn what_is_said_into_an_episode_waits_up_to_a_bound() {
    let control = Control::new();
    assert!((0..256).all(|_| control.steer("and another thing")));
    assert!(!control.steer("one too many"));
}

#[test]
fn a_line_of_progress_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let turns = json!({"code": format!("console.log('{}'); done(1)", "y".repeat(400))}).to_string();
    std::fs::write(folder.path().join("turns.jsonl"), turns).unwrap();
    let cantrip = "[llm]\nprovider = \"scripted\"\npath = \"turns.jsonl\"\n[circle]\nmedium = \"javascript\"\n\
                   gates = [\"done\"]\n[circle.wards]\nmax_turns = 3\n";
    std::fs::write(folder.path().join("cantrip.toml"), cantrip).unwrap();
    let mut command = crate::node_support::binary(folder.path());
    command.args(["cast", "cantrip.toml", "go"]).env("CANTRIP_DATA", folder.path().join("data"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // The code is shown whole; what came of it is not.
    let answers = said.lines().filter(|line| !line.contains("console.log"));
    let longest = answers.map(|line| line.chars().filter(|char| *char == 'y').count()).max();
    assert!(output.status.success() && (100..=160).contains(&longest.unwrap()), "{said}");
}
