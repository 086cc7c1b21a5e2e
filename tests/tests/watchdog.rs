//! A seed that never comes to its end is named, and ends the program `simulate`.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

use std::process::{Command, Output};

fn simulate(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_simulate")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

#[test]
fn a_seed_that_hangs_is_named() {
    // A bug that makes a session hang with its second connection.
    let (output, text) = simulate(&["--seeds", "20", "--mutant", "Hang", "--patience", "1"]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let named = text.lines().find(|line| line.contains("hangs")).expect("a seed that hangs");
    let seed = named.strip_prefix("seed ").and_then(|rest| rest.split(':').next()).unwrap();
    let replay = format!("--bin simulate -- --seed {seed} --verbose --mutant Hang");
    assert!(text.lines().last().unwrap().ends_with(&replay), "{text}");
    assert!(!text.contains("violations"), "it does not claim to have ended: {text}");
    // It is that seed, and it is the bug.
    let (output, text) = simulate(&["--seed", seed, "--mutant", "Hang", "--patience", "1"]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("seed {seed}: hangs")), "{text}");
    let (output, text) = simulate(&["--seed", seed]);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.ends_with("0 violations\n"), "{text}");
}
