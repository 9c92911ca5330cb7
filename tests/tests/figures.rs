//! What a run tells of itself while it trains and afterwards.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use palimpsest_tests::{SMALL_JOB, read_json, read_json_lines, succeed, write_job};

fn run_small_job(folder: &Path, options: &[&str]) -> PathBuf {
    let job = write_job(folder, SMALL_JOB);
    let output = folder.join("out");
    let arguments = ["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()];
    succeed(&[&arguments, options].concat());
    output
}

#[test]
fn the_parts_of_a_step_are_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_small_job(folder.path(), &[]);
    let steps = read_json_lines(&output.join("metrics.jsonl"));
    assert!(steps.len() > 20);
    let (mut in_parts, mut in_all) = (0.0, 0.0);
    for step in &steps {
        let number = |field: &str| step[field].as_f64().unwrap_or_else(|| panic!("{field}: {step}"));
        let parts = ["dataSeconds", "forwardSeconds", "backwardSeconds", "optimizerSeconds"].map(number);
        assert!(parts.iter().all(|part| *part > 0.0), "{step}");
        let sum: f64 = parts.iter().sum();
        assert!(sum <= number("seconds") * (1.0 + 1e-9), "{step}");
        in_parts += sum;
        in_all += number("seconds");
        let filled = (number("fill") * number("slots")).round();
        assert!(number("targets") <= filled && filled <= number("slots"), "{step}");
        assert!(number("residentBytes") > 1e7, "{step}");
    }
    assert!(in_parts > 0.95 * in_all, "{in_parts} s of {in_all} s");
}

#[test]
fn a_profile_shows_the_steps_that_were_asked_for_and_changes_no_bit() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let profiled = run_small_job(one.path(), &["--profile", "3"]);
    let plain = run_small_job(other.path(), &[]);
    let model = |output: &Path| std::fs::read(output.join("model/model.safetensors")).unwrap();
    assert!(model(&profiled) == model(&plain), "a profile changes the weights");
    assert!(!plain.join("traces").exists());

    let trace = read_json(&profiled.join("traces/steps-2-4.json"));
    let events = trace["traceEvents"].as_array().unwrap();
    let seconds_of = |name: &str| -> Vec<f64> {
        let named = events.iter().filter(|event| event["cat"] == "user_annotation" && event["name"] == name);
        named.map(|event| event["dur"].as_f64().unwrap() / 1e6).collect()
    };
    let steps = read_json_lines(&profiled.join("metrics.jsonl"));
    let recorded = seconds_of("step");
    assert_eq!(recorded.len(), 3);
    for (recorded, step) in recorded.iter().zip(&steps[1..4]) {
        let seconds = step["seconds"].as_f64().unwrap();
        assert!((recorded - seconds).abs() < 0.1 * seconds, "{recorded} s, but {step}");
    }
    for part in ["data", "forward", "backward", "losses", "optimizer"] {
        assert!(seconds_of(part).len() >= 3, "{part} is not in the trace");
    }
    assert!(events.iter().any(|event| event["name"] == "aten::mm" && event["args"]["Input Dims"].is_array()));
}
