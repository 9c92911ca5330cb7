//! A job that is killed wherever it writes, and run on, leaves what an undisturbed one leaves, to the bit.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use palimpsest_tests::{Ended, ONE_THREAD, SMALL_JOB, palimpsest, read_json_lines, succeed, write_job};

/// A job, and what it leaves when nothing disturbs it.
struct Undisturbed {
    _folder: tempfile::TempDir,
    job: PathBuf,
    library: PathBuf,
    weights: Vec<u8>,
    losses: Vec<(u64, f64)>,
    measurements: Vec<serde_json::Value>,
    /// How often its rank waits for the disk.
    syncs: u64,
}

fn undisturbed() -> &'static Undisturbed {
    static UNDISTURBED: OnceLock<Undisturbed> = OnceLock::new();
    UNDISTURBED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let job = write_job(folder.path(), SMALL_JOB);
        let library = folder.path().join("kill_at_sync.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kill_at_sync.c");
        let mut compiler = Command::new("gcc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compiler.status().unwrap().success());
        let output = folder.path().join("undisturbed");
        let plan = folder.path().join("plan");
        write_plan(&plan, &["1000000"]);
        let ended = run(&job, &output, Some((&library, &plan)));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let counted = fs::read_to_string(plan.join("syncs")).unwrap();
        let syncs = counted.trim().parse().unwrap();
        Undisturbed {
            weights: weights(&output),
            losses: losses(&output),
            measurements: measurements(&output),
            syncs,
            job,
            library,
            _folder: folder,
        }
    })
}

fn weights(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("model/model.safetensors")).unwrap()
}

fn losses(folder: &Path) -> Vec<(u64, f64)> {
    let records = read_json_lines(&folder.join("metrics.jsonl"));
    records.iter().map(|record| (record["step"].as_u64().unwrap(), record["loss"].as_f64().unwrap())).collect()
}

fn measurements(folder: &Path) -> Vec<serde_json::Value> {
    let path = folder.join("evaluations.jsonl");
    if path.exists() { read_json_lines(&path) } else { Vec::new() }
}

fn write_plan(plan: &Path, turns: &[&str]) {
    fs::create_dir_all(plan).unwrap();
    for (number, turn) in turns.iter().enumerate() {
        fs::write(plan.join(number.to_string()), turn).unwrap();
    }
}

fn command(job: &Path, output: &Path, kills: Option<(&Path, &Path)>) -> Command {
    let mut command = palimpsest();
    command.args(["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]).args(ONE_THREAD);
    if let Some((library, plan)) = kills {
        command.env("LD_PRELOAD", library).env("KILL_ROLE", "rank").env("KILL_PLAN", plan);
    }
    command
}

fn run(job: &Path, output: &Path, kills: Option<(&Path, &Path)>) -> Ended {
    command(job, output, kills).output().unwrap().into()
}

/// Runs the job again and again while it is killed as planned, and compares what it leaves.
fn check(turns: &[String]) {
    let Undisturbed { job, library, weights: expected, losses: expected_losses, .. } = undisturbed();
    let folder = tempfile::tempdir().unwrap();
    let (output, plan) = (folder.path().join("out"), folder.path().join("plan"));
    write_plan(&plan, &turns.iter().map(String::as_str).collect::<Vec<_>>());
    let mut tries = 0;
    loop {
        let ended = run(job, &output, Some((library, &plan)));
        tries += 1;
        match ended.code {
            Some(0) => break,
            // Killed along with its rank.
            None if tries <= turns.len() => {}
            _ => panic!("{turns:?}, try {tries}: {ended:?}"),
        }
    }
    assert!(weights(&output) == *expected, "{turns:?}: other weights");
    assert_eq!(losses(&output), *expected_losses, "{turns:?}");
    let left = fs::read_dir(&plan).unwrap().filter(|entry| {
        entry
            .as_ref()
            .is_ok_and(|entry| entry.file_name().to_str().is_some_and(|name| !name.contains('.') && name != "syncs"))
    });
    assert_eq!(left.count(), 0, "{turns:?}: every kill was made");
}

/// Kills that are spread over all that a job writes: the tokenizer, packed data, checkpoints before and after the rename of
/// their files, manifests and folders, a stage's boundary, and the export, of which the last fifth is.
#[test]
fn a_job_killed_at_any_write_goes_on_to_the_same_bits() {
    let syncs = undisturbed().syncs;
    assert!(syncs > 100, "{syncs}");
    let mut kills = 0;
    for chain in 0..8u64 {
        // The first of a chain falls in its eighth of the whole job; the others soon after the process before went on.
        let first = syncs * chain / 8 + chain % 3;
        let turns: Vec<String> = std::iter::once(first)
            .chain((1..4).map(|turn| 8 + (chain * 4 + turn) * 7 % 24))
            .enumerate()
            .map(|(turn, sync)| {
                format!("{sync} {}", if (turn as u64 + chain).is_multiple_of(2) { "rank" } else { "all" })
            })
            .collect();
        kills += turns.len();
        check(&turns);
    }
    for before_the_end in [1, 2, 3, 5, 8, 13, 21, 30] {
        kills += 1;
        check(&[format!("{} {}", syncs - before_the_end, if before_the_end % 2 == 0 { "rank" } else { "all" })]);
    }
    assert_eq!(kills, 40);
}

/// The processes that a process has started.
fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    fs::read_to_string(path).unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn wait_for_step(child: &mut Child, output: &Path, step: usize) {
    while fs::read_to_string(output.join("metrics.jsonl")).map_or(0, |text| text.lines().count()) < step {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before step {step}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Kills a command line and its agent, with which its rank goes.
fn kill_all(child: &mut Child) {
    let agents = children(child.id());
    let ranks: Vec<u32> = agents.iter().flat_map(|agent| children(*agent)).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for agent in agents {
        assert!(Command::new("kill").args(["-KILL", &agent.to_string()]).status().unwrap().success());
    }
    while ranks.iter().any(|rank| Path::new(&format!("/proc/{rank}")).exists()) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Starts a job and kills all of it at its `nth` measurement; false where that was over by then.
fn is_killed_at_measurement(nth: usize, job: &Path, output: &Path) -> bool {
    let mut child = command(job, output, None).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let begun = lines.map(Result::unwrap).filter(|line| line.contains("measuring bits per byte")).nth(nth);
    assert!(begun.is_some(), "there is no measurement {nth}");
    kill_all(&mut child);
    measurements(output).len() == nth
}

#[test]
fn a_job_killed_while_it_measures_measures_again() {
    let Undisturbed { job, weights: expected, losses: expected_losses, measurements: expected_measurements, .. } =
        undisturbed();
    // Before the first step, and after each stage.
    assert_eq!(expected_measurements.len(), 3);
    for nth in 0..3 {
        let mut tries = 0;
        let folder = loop {
            let folder = tempfile::tempdir().unwrap();
            if is_killed_at_measurement(nth, job, &folder.path().join("out")) {
                break folder;
            }
            tries += 1;
            assert!(tries < 20, "measurement {nth} is always over already");
        };
        let output = folder.path().join("out");
        let ended = run(job, &output, None);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(weights(&output) == *expected);
        assert_eq!(losses(&output), *expected_losses);
        assert_eq!(measurements(&output), *expected_measurements);
    }
}

#[test]
fn an_agent_that_is_killed_is_replaced() {
    let Undisturbed { job, weights: expected, losses: expected_losses, .. } = undisturbed();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let mut child = command(job, &output, None).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for step in [5, 17] {
        wait_for_step(&mut child, &output, step);
        let agents = children(child.id());
        assert_eq!(agents.len(), 1);
        assert!(Command::new("kill").args(["-KILL", &agents[0].to_string()]).status().unwrap().success());
        while children(child.id()) == agents {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    assert!(child.wait().unwrap().success());
    assert!(weights(&output) == *expected);
    assert_eq!(losses(&output), *expected_losses);
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_none_that_is_whole_is_an_error() {
    let Undisturbed { job, weights: expected, losses: expected_losses, .. } = undisturbed();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let mut child = command(job, &output, None).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_step(&mut child, &output, 32);
    kill_all(&mut child);
    let checkpoints = output.join("checkpoints");
    let newest = |nth: usize| {
        let mut steps: Vec<PathBuf> = fs::read_dir(&checkpoints).unwrap().map(|entry| entry.unwrap().path()).collect();
        steps.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("step-"));
        steps.sort();
        steps[steps.len() - 1 - nth].clone()
    };
    // The newest is cut short, and one bit is flipped in the one before it.
    let (cut, flipped) = (newest(0).join("optimizer.safetensors"), newest(1).join("model.safetensors"));
    fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(100).unwrap();
    let mut bytes = fs::read(&flipped).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&flipped, bytes).unwrap();
    let ended = run(job, &output, None);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for damaged in [&cut, &flipped] {
        let file = damaged.file_name().unwrap().to_str().unwrap();
        let folder = damaged.parent().unwrap().display();
        let warning = format!("checkpoint {folder} is damaged ({file} is not as it was written)");
        assert!(ended.stderr.contains(&warning), "{warning}: {}", ended.stderr);
    }
    assert!(weights(&output) == *expected);
    assert_eq!(losses(&output), *expected_losses);

    fs::remove_dir_all(output.join("model")).unwrap();
    for nth in 0..3 {
        let optimizer = newest(nth).join("optimizer.safetensors");
        fs::OpenOptions::new().write(true).open(&optimizer).unwrap().set_len(100).unwrap();
    }
    let metrics = fs::read(output.join("metrics.jsonl")).unwrap();
    let ended = run(job, &output, None);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("there is no whole checkpoint before it; restore one, or remove"),
        "{}",
        ended.stderr
    );
    assert_eq!(fs::read(output.join("metrics.jsonl")).unwrap(), metrics, "what was there is intact");
}

#[test]
fn a_refused_job_can_be_mended_and_run_in_the_same_folder() {
    let folder = tempfile::tempdir().unwrap();
    let too_long = SMALL_JOB.replace("sequenceLength: 64", "sequenceLength: 128");
    let job = write_job(folder.path(), &too_long);
    let output = folder.path().join("out");
    let ended = run(&job, &output, None);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("lower it to at most 64"), "{}", ended.stderr);
    let job = write_job(folder.path(), SMALL_JOB);
    succeed(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
}
