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
fn a_config_gives_the_shape_and_the_share_of_the_rate_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    let fields = r#"{"model_type": "llama", "vocab_size": 64, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 1, "max_position_embeddings": 128}"#;
    std::fs::write(&config, fields).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_palimpsest-worker"))
        .args(["bench", "train", "--rows", "2", "--positions", "64", "--threads", "1", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = told.lines().last().unwrap_or_default().split_whitespace().collect();
    let [seconds, _, _, _, gigaflops, mfu, "%"] = words[..] else { panic!("{told}") };
    // 6 a weight and position: of 2 layers 4 * 64^2 + 3 * 64 * 96, of the head 64^2; and 12 * 2 * 64 * 64 a position.
    let flops = 128.0 * (6.0 * (2.0 * (4.0 * 4096.0 + 18432.0) + 4096.0) + 98304.0);
    let number = |word: &str| word.parse::<f64>().unwrap();
    assert!((number(gigaflops) / (flops / number(seconds) / 1e9) - 1.0).abs() < 0.05, "{told}");
    assert!(number(mfu) > 0.0 && number(mfu) < 100.0, "{told}");
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
