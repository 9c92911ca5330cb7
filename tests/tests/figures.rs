//! What a run tells of itself while it trains and afterwards.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use palimpsest_tests::{SMALL_JOB, read_json_lines, succeed, write_job};

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
