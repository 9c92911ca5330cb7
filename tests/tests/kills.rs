//! A job that is killed wherever it writes, and run on, leaves what an undisturbed one leaves, to the bit.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use palimpsest_tests::{
    Ended, ONE_THREAD, SMALL_JOB, children, is_alive, palimpsest, read_json_lines, signal, succeed, write_job,
};

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

/// Runs the job again and again while it is killed as planned, and compares what it leaves. Gives what was being written at
/// each kill, below the run's folder.
fn check(turns: &[String]) -> Vec<String> {
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
    let mut places = Vec::new();
    for entry in fs::read_dir(&plan).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.file_name().is_some_and(|name| name != "syncs") {
            let told = fs::read_to_string(&entry).unwrap();
            let place = told.trim().strip_prefix(output.to_str().unwrap());
            places.push(place.unwrap_or_else(|| panic!("{turns:?}: a kill was not made: {told}")).to_owned());
        }
    }
    assert_eq!(places.len(), turns.len());
    places
}

/// Kills that are spread over all that a job writes: the tokenizer, packed data, checkpoints before and after the rename of
/// their files, manifests and folders, a stage's boundary, and the export, of which the last fifth is.
#[test]
fn a_job_killed_at_any_write_goes_on_to_the_same_bits() {
    let syncs = undisturbed().syncs;
    assert!(syncs > 100, "{syncs}");
    let mut places = Vec::new();
    for chain in 0..8u64 {
        // The first of a chain falls in its eighth of the whole job; the others soon after the process before went on.
        let first = syncs * chain / 8 + chain % 3;
        let turns: Vec<String> = std::iter::once(first)
            .chain((1..4).map(|turn| 8 + (chain * 4 + turn) * 7 % 24))
            .enumerate()
            .map(|(turn, sync)| {
                // The rank outlives its command line, and no other takes a turn after it.
                let last = if chain % 2 == 0 { "command" } else { "rank" };
                let kills = ["rank", "all", "agent", last];
                format!("{sync} {}", kills[if turn == 3 { 3 } else { (turn + chain as usize) % 3 }])
            })
            .collect();
        places.extend(check(&turns));
    }
    for (number, before_the_end) in [1, 2, 3, 5, 8, 13, 21, 30].into_iter().enumerate() {
        let kills = ["rank", "all", "agent", "command"][number % 4];
        places.extend(check(&[format!("{} {kills}", syncs - before_the_end)]));
    }
    for kill in ["1 rank /checkpoints", "3 all /checkpoints", "4 agent /checkpoints"] {
        places.extend(check(&[kill.to_owned()]));
    }
    assert_eq!(places.len(), 43);
    let count = |matches: &dyn Fn(&str) -> bool| places.iter().filter(|place| matches(place)).count();
    let of_checkpoint = |place: &str| place.starts_with("/checkpoints/.step-");
    for (what, kills) in [
        ("preparation", count(&|place| place.starts_with("/prepared"))),
        ("a checkpoint's file", count(&|place| of_checkpoint(place) && place.matches('/').count() == 3)),
        (
            "a checkpoint's folder, before its rename",
            count(&|place| of_checkpoint(place) && place.matches('/').count() == 2),
        ),
        ("a checkpoint's place, after its rename", count(&|place| place == "/checkpoints")),
        ("the export", count(&|place| place.starts_with("/.model."))),
        ("the run's folder, after a rename", count(&str::is_empty)),
    ] {
        assert!(kills >= 2, "{what}: {kills} of {places:#?}");
    }
}

/// Two minutes, for which a rank is waited for: `make e2e`.
#[cfg(feature = "e2e")]
#[test]
fn a_rank_that_lives_but_stands_still_is_started_again() {
    let Undisturbed { job, library, syncs, weights: expected, losses: expected_losses, .. } = undisturbed();
    let folder = tempfile::tempdir().unwrap();
    let (output, plan) = (folder.path().join("out"), folder.path().join("plan"));
    write_plan(&plan, &[&format!("{} hang", syncs / 2)]);
    let ended = run(job, &output, Some((library, &plan)));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("a step takes far longer than those before"), "{}", ended.stderr);
    assert!(weights(&output) == *expected);
    assert_eq!(losses(&output), *expected_losses);
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
    agents.into_iter().for_each(|agent| signal(agent, "KILL"));
    while ranks.iter().copied().any(is_alive) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Starts a job and kills its rank, its agent or all of it at its `nth` measurement. `None` where that was over by then.
fn killed_at_measurement(nth: usize, kill: &str, job: &Path, output: &Path) -> Option<Child> {
    let mut child = command(job, output, None).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let begun = lines.by_ref().filter(|line| line.contains("measuring bits per byte")).nth(nth);
    assert!(begun.is_some(), "there is no measurement {nth}");
    let agent = children(child.id())[0];
    match kill {
        "rank" => signal(children(agent)[0], "KILL"),
        "agent" => signal(agent, "KILL"),
        _ => kill_all(&mut child),
    }
    let is_under_way = measurements(output).len() == nth;
    // It is not to be held up by a pipe that is full.
    std::thread::spawn(move || lines.for_each(drop));
    if !is_under_way {
        child.wait().unwrap();
    }
    is_under_way.then_some(child)
}

#[test]
fn a_job_killed_while_it_measures_measures_again() {
    let Undisturbed { job, weights: expected, losses: expected_losses, measurements: expected_measurements, .. } =
        undisturbed();
    // Before the first step, and after each stage.
    assert_eq!(expected_measurements.len(), 3);
    for (nth, kill) in [(0, "rank"), (0, "all"), (1, "all"), (1, "agent"), (2, "agent"), (2, "rank")] {
        let mut tries = 0;
        let (folder, mut child) = loop {
            let folder = tempfile::tempdir().unwrap();
            if let Some(child) = killed_at_measurement(nth, kill, job, &folder.path().join("out")) {
                break (folder, child);
            }
            tries += 1;
            assert!(tries < 20, "measurement {nth} is always over already");
        };
        let output = folder.path().join("out");
        if kill == "all" {
            succeed(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
        } else {
            assert!(child.wait().unwrap().success(), "measurement {nth}, {kill}");
        }
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
        signal(agents[0], "KILL");
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

/// A small file system that is gone with the value; `None` where the system lets us mount none.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(folder.path());
        mount.output().is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }

    /// Writes a file until there is no room for more.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.path().join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_job_whose_disk_was_full_goes_on_from_the_checkpoint_before() {
    let Some(disk) = SmallDisk::mount(64) else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "a tmpfs cannot be mounted");
        eprintln!("skipped: mounting a tmpfs is not allowed here");
        return;
    };
    let Undisturbed { job, weights: expected, losses: expected_losses, .. } = undisturbed();
    let output = disk.0.path().join("out");
    let mut child = command(job, &output, None).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let checkpoint = output.join("checkpoints/step-00000010/manifest.json");
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let ballast = disk.fill();
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("the disk is full while writing"), "{}", ended.stderr);

    fs::remove_file(ballast).unwrap();
    let ended = run(job, &output, None);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("going on from the checkpoint of step"), "{}", ended.stderr);
    assert!(weights(&output) == *expected);
    assert_eq!(losses(&output), *expected_losses);
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
