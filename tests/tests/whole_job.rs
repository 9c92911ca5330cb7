//! A whole job trained again by transformers and torch.optim from our packed files: every step's loss is the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use palimpsest_tests::{parity_python, read_json, read_json_lines, repository, succeed, write_job};

const BASE: &str = include_str!("../src/parity_base.yaml");
const JOB: &str = include_str!("../src/parity_job.yaml");

/// The largest relative difference of a field over all steps.
fn largest_difference(ours: &Path, theirs: &Path, field: &str) -> f64 {
    let (ours, theirs) = (read_json_lines(ours), read_json_lines(theirs));
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.len() >= 200, "{} steps", ours.len());
    let differences = ours.iter().zip(&theirs).map(|(ours, theirs)| {
        let (ours, theirs) = (ours[field].as_f64().unwrap(), theirs[field].as_f64().unwrap());
        (ours - theirs).abs() / theirs.abs().max(1e-12)
    });
    differences.fold(0.0, f64::max)
}

#[test]
fn every_step_of_a_job_equals_pytorchs() {
    let Some(python) = parity_python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let base = write_job(folder.path(), BASE);
    succeed(&["run", base.to_str().unwrap(), "--output", folder.path().join("base").to_str().unwrap()]);
    let first_new = read_json(&folder.path().join("base/model/config.json"))["vocab_size"].as_u64().unwrap();

    for (precision, kind, loss_tolerance) in [("Float64", "float64", 1e-9), ("Float32", "float32", 1e-4)] {
        let job = write_job(folder.path(), &JOB.replace("precision: Float64", &format!("precision: {precision}")));
        let run = folder.path().join(precision);
        succeed(&["run", job.to_str().unwrap(), "--output", run.to_str().unwrap()]);
        let theirs = folder.path().join(format!("{kind}.jsonl"));
        let status = Command::new(&python)
            .env("OMP_NUM_THREADS", "1")
            .arg(repository().join("tests/parity/whole_job.py"))
            .args([&run, &run.join("checkpoints/step-00000000")])
            .args([kind, &first_new.to_string()])
            .arg(&theirs)
            .status()
            .unwrap();
        assert!(status.success());
        let ours = run.join("metrics.jsonl");
        let loss = largest_difference(&ours, &theirs, "loss");
        let norm = largest_difference(&ours, &theirs, "gradNorm");
        let rate = largest_difference(&ours, &theirs, "learningRate");
        eprintln!(
            "{precision}: the largest relative difference of loss {loss:.1e}, gradient norm {norm:.1e}, learning rate {rate:.1e}"
        );
        assert!(loss <= loss_tolerance, "{precision}: {loss:e}");
        assert!(norm <= 100.0 * loss_tolerance, "{precision}: {norm:e}");
        assert!(rate <= 1e-12, "{precision}: {rate:e}");
    }
}
