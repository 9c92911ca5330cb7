//! A job that is stopped or killed goes on where it was, to the same bits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};

use palimpsest_tests::{
    ONE_THREAD, SMALL_JOB, palimpsest, read_json, read_json_lines, run, signal, succeed, write_job,
};

fn weights(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("model/model.safetensors")).unwrap()
}

fn losses(folder: &Path) -> Vec<(u64, f64)> {
    let records = read_json_lines(&folder.join("metrics.jsonl"));
    records.iter().map(|record| (record["step"].as_u64().unwrap(), record["loss"].as_f64().unwrap())).collect()
}

/// Starts a run and waits until it has told of some step of its.
fn start_until_step(job: &Path, output: &Path, step: u64) -> Child {
    let arguments = [job.to_str().unwrap(), "--output", output.to_str().unwrap()];
    let mut child = palimpsest()
        .arg("run")
        .args(arguments)
        .args(ONE_THREAD)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let metrics = output.join("metrics.jsonl");
    while std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count() as u64) < step {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before step {step}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child
}

#[test]
fn the_same_job_twice_gives_the_same_bits_and_a_finished_run_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    for output in [&first, &second] {
        succeed(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    }
    assert_eq!(weights(&first), weights(&second));
    assert_eq!(losses(&first), losses(&second));

    let before = std::fs::metadata(first.join("metrics.jsonl")).unwrap().modified().unwrap();
    let again = succeed(&["run", job.to_str().unwrap(), "--output", first.to_str().unwrap()]);
    assert!(format!("{}{}", again.stdout, again.stderr).contains("finished"), "{again:?}");
    assert_eq!(std::fs::metadata(first.join("metrics.jsonl")).unwrap().modified().unwrap(), before);
}

#[test]
fn two_threads_give_the_same_bits_again() {
    let folder = tempfile::tempdir().unwrap();
    // Wide enough for libtorch to divide its work.
    let job = write_job(folder.path(), &SMALL_JOB.replace("hidden_size: 32", "hidden_size: 128"));
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    for output in [&first, &second] {
        let mut command = palimpsest();
        command.args(["run", job.to_str().unwrap(), "--threads", "2", "--output", output.to_str().unwrap()]);
        assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    }
    assert_eq!(read_json(&first.join("summary.json"))["threads"], 2);
    assert!(weights(&first) == weights(&second));
    assert_eq!(losses(&first), losses(&second));
}

#[test]
fn a_run_killed_in_the_middle_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    succeed(&["run", job.to_str().unwrap(), "--output", whole.to_str().unwrap()]);
    for step in [3, 14, 31] {
        let mut child = start_until_step(&job, &killed, step);
        signal(child.id(), "KILL");
        child.wait().unwrap();
        // The agent and the rank notice that nobody listens any more and end.
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    succeed(&["run", job.to_str().unwrap(), "--output", killed.to_str().unwrap()]);
    assert_eq!(losses(&whole), losses(&killed));
    assert_eq!(weights(&whole), weights(&killed));
}

#[test]
fn interrupt_checkpoints_says_how_to_go_on_and_exits_130() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let output = folder.path().join("out");
    let mut child = start_until_step(&job, &output, 4);
    signal(child.id(), "INT");
    let mut told = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{told}");
    assert!(told.contains("palimpsest run"), "{told}");
    let steps = losses(&output).len();
    let checkpoint = output.join(format!("checkpoints/step-{steps:08}/manifest.json"));
    assert!(checkpoint.exists(), "{} is not there", checkpoint.display());
    succeed(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
}

#[test]
fn a_changed_job_is_refused_with_the_fields_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let output = folder.path().join("out");
    let mut child = start_until_step(&job, &output, 1);
    signal(child.id(), "INT");
    child.wait().unwrap();
    let changed = write_job(
        folder.path(),
        &SMALL_JOB.replace("3e-3", "2e-3").replace("  checkpoint:", "  seed: 8\n  checkpoint:"),
    );
    let ended = run(&["run", changed.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let fields = "spec.stages[0].optimizer.learningRate, spec.seed";
    assert!(ended.stderr.contains(fields), "{}", ended.stderr);
}

#[test]
fn a_second_run_on_the_same_folder_is_refused_while_the_first_lives() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let output = folder.path().join("out");
    let mut child = start_until_step(&job, &output, 1);
    let ended = run(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let sentence = format!("is in use by process {}; wait for it, stop it, or choose another folder", child.id());
    assert!(ended.stderr.contains(&sentence), "{}", ended.stderr);
    signal(child.id(), "INT");
    child.wait().unwrap();
}

#[test]
fn plain_lines_are_written_where_there_is_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let ended = succeed(&["run", job.to_str().unwrap(), "--output", folder.path().join("out").to_str().unwrap()]);
    assert!(!ended.stderr.contains('\u{1b}') && !ended.stdout.contains('\u{1b}'), "{ended:?}");
    let stages = BufReader::new(ended.stderr.as_bytes())
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.contains("stage"))
        .count();
    assert!(stages >= 2, "{}", ended.stderr);
}

/// How many updates the optimizer of the newest checkpoint has given to a parameter.
fn updates(checkpoints: &Path, parameter: &str) -> f32 {
    let newest = std::fs::read_dir(checkpoints).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let bytes = std::fs::read(newest.join("optimizer.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let count = tensors.tensor(&format!("{parameter}.steps")).unwrap();
    f32::from_le_bytes(count.data().try_into().unwrap())
}

#[test]
fn another_jobs_checkpoint_gives_weights_alone_or_the_moments_too() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_job(folder.path(), SMALL_JOB);
    let output = folder.path().join("first");
    succeed(&["run", first.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    let done = updates(&output.join("checkpoints"), "model.norm.weight");
    assert!(done > 0.0);
    let architecture = SMALL_JOB.lines().find(|line| line.contains("architecture:")).unwrap();
    let learned = SMALL_JOB.lines().filter(|line| line.contains("learn") || line.contains("tokenizer:"));
    let forked = learned.fold(SMALL_JOB.to_owned(), |yaml, line| yaml.replace(&format!("{line}\n"), ""));
    let mut losses_of_forks = Vec::new();
    for (state, carry_over) in [("Full", "WeightsAndOptimizer"), ("Weights", "Weights")] {
        let checkpoint = format!("    checkpoint: {{uri: \"file://first/checkpoints\", state: {state}}}");
        let yaml = forked
            .replace(architecture, &checkpoint)
            .replace("    - name: text\n", &format!("    - name: text\n      carryOver: {carry_over}\n"));
        let job = write_job(folder.path(), &yaml);
        let output = folder.path().join(state);
        succeed(&[
            "run",
            job.to_str().unwrap(),
            "--output",
            output.to_str().unwrap(),
            "--set",
            "spec.stages[1].carryOver=WeightsAndOptimizer",
        ]);
        let steps = losses(&output).len() as f32;
        let taken_over = if state == "Full" { done } else { 0.0 };
        assert_eq!(updates(&output.join("checkpoints"), "model.norm.weight"), taken_over + steps, "{state}");
        losses_of_forks.push(losses(&output));
    }
    assert_eq!(losses_of_forks[0][0], losses_of_forks[1][0], "both begin from the same weights");
    assert_ne!(losses_of_forks[0][1], losses_of_forks[1][1], "and step otherwise");
}

#[test]
fn the_losses_of_the_datasets_add_up_to_those_of_the_steps_also_after_a_resume() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let output = folder.path().join("out");
    let mut child = start_until_step(&job, &output, 13);
    signal(child.id(), "KILL");
    child.wait().unwrap();
    succeed(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    let telemetry = read_json(&output.join("telemetry.json"));
    for stage in ["text", "questions"] {
        let parts: Vec<(f64, f64)> = telemetry["perDataset"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|part| part["stage"] == stage)
            .map(|part| (part["loss"].as_f64().unwrap(), part["targets"].as_f64().unwrap()))
            .collect();
        assert_eq!(parts.len(), if stage == "text" { 2 } else { 1 });
        let steps: Vec<(f64, f64)> = read_json_lines(&output.join("metrics.jsonl"))
            .iter()
            .filter(|step| step["stage"] == stage)
            .map(|step| (step["loss"].as_f64().unwrap(), step["targets"].as_f64().unwrap()))
            .collect();
        let sum = |of: &[(f64, f64)]| of.iter().fold((0.0, 0.0), |(loss, n), (l, t)| (loss + l * t, n + t));
        let (by_dataset, by_step) = (sum(&parts), sum(&steps));
        assert_eq!(by_dataset.1, by_step.1, "{stage}: targets");
        assert!((by_dataset.0 / by_step.0 - 1.0).abs() < 1e-6, "{stage}: {by_dataset:?} {by_step:?}");
    }
}
