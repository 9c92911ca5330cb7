//! `bench` measures a small model, by itself and in turns.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

const SMALL: [&str; 8] = ["--shape", "32x2x64", "--rows", "2", "--positions", "8", "--threads", "1"];

/// The lines that `bench ARGUMENTS` prints when it is given `input`.
fn lines_of(arguments: &[&str], input: &str) -> Vec<String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_palimpsest-worker"))
        .arg("bench")
        .args(arguments)
        .args(SMALL)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn steps_are_timed_and_train() {
    let lines = lines_of(&["train", "--repetitions", "30", "--json"], "");
    let [line] = lines.as_slice() else { panic!("one line was expected: {lines:?}") };
    let turn: Value = serde_json::from_str(line).unwrap();
    assert_eq!(turn["seconds"].as_array().unwrap().len(), 30);
    assert!(turn["operators"].as_u64().unwrap() > 50, "{turn}");
    let loss = turn["loss"].as_f64().unwrap();
    assert!(loss > 0.0 && loss < (64f64).ln() + 0.1, "{loss}");
}

#[test]
fn turns_are_taken_when_told() {
    for kind in ["train", "loss"] {
        let lines = lines_of(&[kind, "--turns"], "3\n1\n");
        assert_eq!(lines[0], "ready");
        let counts = lines[1..]
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["seconds"].as_array().unwrap().len());
        assert_eq!(counts.collect::<Vec<_>>(), [3, 1]);
    }
}
