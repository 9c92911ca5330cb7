//! Ranks that are killed or stopped, and a command line that is killed: training goes on, to the same bits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use palimpsest_tests::{
    ONE_THREAD, SMALL_JOB, children, is_alive, palimpsest, read_json_lines, signal, steps, succeed, write_job,
};

struct Bench {
    folder: tempfile::TempDir,
    job: PathBuf,
    output: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Long enough for something to happen to it meanwhile.
        let longer = SMALL_JOB.replace("budget: {tokens: 20000}", "budget: {tokens: 200000}\n      maxRepeats: 100");
        let job = write_job(folder.path(), &longer);
        Self { job, output: folder.path().join("out"), folder }
    }

    fn start(&self) -> Child {
        let mut command = palimpsest();
        command.arg("run").arg(&self.job).arg("--output").arg(&self.output).args(ONE_THREAD);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn steps(&self) -> usize {
        steps(&self.output.join("metrics.jsonl"))
    }

    fn wait_for_step(&self, step: usize) {
        let began = Instant::now();
        while self.steps() < step {
            assert!(began.elapsed() < Duration::from_secs(120), "step {step} does not come");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The agent, by the file that it holds a lock on.
    fn agent(&self) -> u32 {
        fs::read_to_string(self.output.join(".worker")).unwrap().trim().parse().unwrap()
    }

    /// Compares with a run that nothing disturbs: weights, and one line a step.
    fn check(&self) {
        let undisturbed = self.folder.path().join("undisturbed");
        succeed(&["run", self.job.to_str().unwrap(), "--output", undisturbed.to_str().unwrap()]);
        let weights = |folder: &Path| fs::read(folder.join("model/model.safetensors")).unwrap();
        assert!(weights(&self.output) == weights(&undisturbed), "other weights");
        let losses = |folder: &Path| {
            let records = read_json_lines(&folder.join("metrics.jsonl"));
            records.iter().map(|record| (record["step"].clone(), record["loss"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(losses(&self.output), losses(&undisturbed));
    }

    /// Starts a run and kills its command line at a step; gives its agent and its rank, which go on.
    fn orphans_at(&self, step: usize) -> (u32, u32) {
        let mut child = self.start();
        self.wait_for_step(step);
        let agent = self.agent();
        let rank = children(agent)[0];
        child.kill().unwrap();
        child.wait().unwrap();
        (agent, rank)
    }
}

fn end_of(child: Child) -> String {
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{told}");
    told
}

/// Kills the rank, and tells how long it is until the next one has taken a step.
fn time_to_the_next_step(bench: &Bench) -> Duration {
    let rank = children(bench.agent())[0];
    let modified = || fs::metadata(bench.output.join("metrics.jsonl")).unwrap().modified().unwrap();
    signal(rank, "KILL");
    let began = Instant::now();
    while children(bench.agent()).first().is_none_or(|other| *other == rank) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let started = began.elapsed();
    let killed_at = modified();
    // The file is cut back, and then it grows.
    while modified() == killed_at {
        std::thread::sleep(Duration::from_millis(1));
    }
    let cut_back = bench.steps();
    bench.wait_for_step(cut_back + 1);
    println!("a new process after {started:?}, its first step after {:?}", began.elapsed());
    began.elapsed()
}

#[test]
fn a_rank_that_is_killed_takes_its_next_step_within_two_seconds() {
    let bench = Bench::new();
    let child = bench.start();
    // Whatever else the machine does, it lets one of several through.
    let times = [6, 12, 24, 36].map(|step| {
        bench.wait_for_step(step);
        time_to_the_next_step(&bench)
    });
    assert!(times.iter().any(|time| *time < Duration::from_secs(2)), "{times:?}");
    end_of(child);
    bench.check();
}

#[test]
fn a_rank_that_hangs_is_killed_and_started_again() {
    let bench = Bench::new();
    let child = bench.start();
    bench.wait_for_step(6);
    signal(children(bench.agent())[0], "STOP");
    let told = end_of(child);
    assert!(told.contains("nothing is heard of them"), "{told}");
    bench.check();
}

#[test]
fn training_goes_on_without_its_command_line_and_the_next_one_takes_over() {
    let bench = Bench::new();
    let (agent, rank) = bench.orphans_at(3);
    bench.wait_for_step(bench.steps() + 5);
    let next = bench.start();
    let told = end_of(next);
    assert!(told.contains("still lives; going on with it"), "{told}");
    assert!(!told.contains("warning"), "nothing was started again: {told}");
    assert!(!is_alive(agent) && !is_alive(rank));
    bench.check();
}

#[test]
fn a_rank_that_crashes_without_its_command_line_is_started_again_by_the_next() {
    let bench = Bench::new();
    let (agent, rank) = bench.orphans_at(6);
    signal(rank, "KILL");
    while is_alive(rank) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let steps = bench.steps();
    std::thread::sleep(Duration::from_secs(1));
    assert!(is_alive(agent), "it waits for somebody who says how to go on");
    assert_eq!(bench.steps(), steps, "nobody has said so");
    let told = end_of(bench.start());
    assert!(told.contains("still lives; going on with it"), "{told}");
    assert!(told.contains("warning"), "the crash is told: {told}");
    assert!(!is_alive(agent));
    bench.check();
}
