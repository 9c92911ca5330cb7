//! A whole job trained again by transformers and torch.optim from our packed files: every step's loss is the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use palimpsest_tests::{parity_python, read_json, read_json_lines, repository, succeed, write_job};
use tempfile::TempDir;

const BASE: &str = include_str!("../src/parity_base.yaml");
const JOB: &str = include_str!("../src/parity_job.yaml");

/// A folder with the job's base model, and the Python to compare with.
struct Bench {
    folder: TempDir,
    python: PathBuf,
    /// The first id that the job appends to the base's.
    first_new: u64,
}

impl Bench {
    fn new() -> Option<Self> {
        let python = parity_python()?;
        let folder = tempfile::tempdir().unwrap();
        let base = write_job(folder.path(), BASE);
        succeed(&["run", base.to_str().unwrap(), "--output", folder.path().join("base").to_str().unwrap()]);
        let first_new = read_json(&folder.path().join("base/model/config.json"))["vocab_size"].as_u64().unwrap();
        Some(Self { folder, python, first_new })
    }

    /// Our run of the job in a precision.
    fn ours(&self, precision: &str) -> PathBuf {
        self.run(precision, &JOB.replace("precision: Float64", &format!("precision: {precision}")))
    }

    fn run(&self, name: &str, job: &str) -> PathBuf {
        let job = write_job(self.folder.path(), job);
        let run = self.folder.path().join(name);
        succeed(&["run", job.to_str().unwrap(), "--output", run.to_str().unwrap()]);
        run
    }

    /// Their steps of the job that `run` holds.
    fn theirs(&self, run: &Path, dtype: &str, options: &[&str]) -> PathBuf {
        let steps = self.folder.path().join(format!("{dtype}{}.jsonl", options.concat()));
        let status = Command::new(&self.python)
            .env("OMP_NUM_THREADS", "1")
            .arg(repository().join("tests/parity/whole_job.py"))
            .args([run, &run.join("checkpoints/step-00000000")])
            .args([dtype, &self.first_new.to_string()])
            .arg(&steps)
            .args(options)
            .status()
            .unwrap();
        assert!(status.success());
        steps
    }

    /// Fails where something done wrong on their side, in Float64, makes no difference.
    fn notices(&self, run: &Path, mutation: &str) {
        let mutated = self.theirs(run, "float64", &["--mutate", mutation, "--steps", "24"]);
        let loss = differences(&run.join("metrics.jsonl"), &mutated, "loss");
        assert!(loss.len() == 24 && largest(&loss) > 1e-6, "{mutation}: {loss:?}");
    }
}

fn values(steps: &Path, field: &str) -> Vec<f64> {
    read_json_lines(steps).iter().map(|step| step[field].as_f64().unwrap()).collect()
}

/// The relative difference of a field at each of the steps that both have.
fn differences(ours: &Path, theirs: &Path, field: &str) -> Vec<f64> {
    let pairs = values(ours, field).into_iter().zip(values(theirs, field));
    pairs.map(|(ours, theirs)| (ours - theirs).abs() / theirs.abs().max(1e-12)).collect()
}

fn largest(differences: &[f64]) -> f64 {
    differences.iter().copied().fold(0.0, f64::max)
}

fn mean(differences: &[f64]) -> f64 {
    differences.iter().sum::<f64>() / differences.len() as f64
}

#[test]
fn every_step_of_a_job_equals_pytorchs() {
    let Some(bench) = Bench::new() else { return };
    for (precision, dtype, loss_tolerance) in [("Float64", "float64", 1e-9), ("Float32", "float32", 1e-4)] {
        let run = bench.ours(precision);
        let (ours, theirs) = (run.join("metrics.jsonl"), bench.theirs(&run, dtype, &[]));
        let steps = values(&ours, "loss").len();
        assert!(steps >= 200 && steps == values(&theirs, "loss").len(), "{steps} steps");
        let loss = largest(&differences(&ours, &theirs, "loss"));
        let norm = largest(&differences(&ours, &theirs, "gradNorm"));
        let rate = largest(&differences(&ours, &theirs, "learningRate"));
        eprintln!(
            "{precision}: the largest relative difference of loss {loss:.1e}, gradient norm {norm:.1e}, learning rate {rate:.1e}"
        );
        assert!(loss <= loss_tolerance, "{precision}: {loss:e}");
        assert!(norm <= 100.0 * loss_tolerance, "{precision}: {norm:e}");
        assert!(rate <= 1e-12, "{precision}: {rate:e}");
        if precision == "Float64" {
            // The comparison above would notice each of these: they are done wrong on the other side.
            for mutation in ["mask", "normalizer", "decay"] {
                bench.notices(&run, mutation);
            }
        }
    }
}

#[test]
fn documents_that_see_each_other_have_running_positions() {
    let Some(bench) = Bench::new() else { return };
    let shorter = JOB.replace("tokens: 31000", "tokens: 8000").replace("tokens: 72000", "tokens: 8000");
    let run = bench.run("Sequence", &shorter.replace("data:\n", "data:\n    attention: Sequence\n"));
    let loss = differences(&run.join("metrics.jsonl"), &bench.theirs(&run, "float64", &[]), "loss");
    assert!(loss.len() > 10 && largest(&loss) <= 1e-9, "{loss:?}");
    bench.notices(&run, "positions");
}

/// Whether the processor multiplies bfloat16 itself; emulated, these runs would take half an hour.
fn has_bfloat16() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("avx512_bf16"))
}

#[test]
fn bfloat16_errs_no_more_than_pytorchs() {
    if !has_bfloat16() {
        eprintln!("skipped: this processor has no bfloat16");
        return;
    }
    let Some(bench) = Bench::new() else { return };
    // The first stage alone is compared.
    let shorter = JOB.replace("tokens: 72000", "tokens: 4000");
    let ours = |precision: &str| {
        bench.run(precision, &shorter.replace("precision: Float64", &format!("precision: {precision}")))
    };
    let (exact, run) = (ours("Float32"), ours("BFloat16"));
    let options = ["--steps", "60"];
    let exact_theirs = bench.theirs(&run, "float32", &options);
    let error_of = |dtype: &str| mean(&differences(&bench.theirs(&run, dtype, &options), &exact_theirs, "loss"));
    let (theirs, autocast) = (error_of("bfloat16"), error_of("autocast"));
    let ours = differences(&run.join("metrics.jsonl"), &exact.join("metrics.jsonl"), "loss");
    let ours = mean(&ours[..60]);
    eprintln!(
        "mean relative error of the loss in bfloat16: ours {ours:.2e}, PyTorch's {theirs:.2e}, under autocast {autocast:.2e}"
    );
    assert!(ours <= 1.2 * theirs, "{ours:e} {theirs:e}");
}
