//! A rank of an older attempt that is stopped, and woken after a newer attempt has gone on, does no harm; nor does another job
//! that is given the same folder.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// A rank process, told what to run on its standard input as an agent would.
struct Rank {
    child: Child,
    _stdin: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
}

impl Rank {
    fn start(folder: &Path, attempt: u64, interval: u64) -> Self {
        let checkpoint = json!({"intervalSteps": interval, "keep": 2});
        Self::with("uid-a", folder, folder, attempt, &checkpoint, &json!({"steps": 300}))
    }

    /// Of a job that leaves its checkpoints in one folder and its output in another.
    fn of_job(uid: &str, folder: &Path, checkpoints: &Path, attempt: u64, checkpoint: &Value) -> Self {
        Self::with(uid, folder, checkpoints, attempt, checkpoint, &json!({"tokens": 1_000_000}))
    }

    fn with(uid: &str, folder: &Path, checkpoints: &Path, attempt: u64, checkpoint: &Value, budget: &Value) -> Self {
        Self::in_environment(&[], uid, folder, checkpoints, attempt, checkpoint, budget)
    }

    fn in_environment(
        environment: &[(&str, PathBuf)],
        uid: &str,
        folder: &Path,
        checkpoints: &Path,
        attempt: u64,
        checkpoint: &Value,
        budget: &Value,
    ) -> Self {
        let mut checkpoint = checkpoint.clone();
        checkpoint["uri"] = format!("file://{}/checkpoints", checkpoints.display()).into();
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/corpora/en/recipes.jsonl");
        let job = json!({
            "apiVersion": "palimpsest.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "fenced"},
            "spec": {
                "model": {"architecture": {
                    "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                    "num_attention_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": true,
                }},
                "tokenizer": {"learn": {"vocabularySize": 400, "from": ["recipes"]}},
                "data": {"sequenceLength": 64, "datasets": [{"name": "recipes", "uri": format!("file://{}", corpus.display())}]},
                "stages": [{
                    "name": "only", "buckets": 1, "mixture": [{"dataset": "recipes", "weight": 1}],
                    "budget": budget, "maxRepeats": 100, "batch": {"sequences": 2, "microBatch": 2},
                }],
                "checkpoint": checkpoint,
                "output": {"uri": format!("file://{}/model", folder.display())},
            },
        });
        let request = json!({"run": {
            "job": job, "jobFolder": "/", "mounts": {}, "jobUid": uid, "attempt": attempt, "rank": 0, "world": 1, "threads": 1,
            "device": "cpu", "profileSteps": 0,
        }});
        let mut child = Command::new(env!("CARGO_BIN_EXE_palimpsest-worker"))
            .arg("rank")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{request}").unwrap();
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, _stdin: stdin, events }
    }

    /// Reads events until one is as wanted; panics where the rank ends before.
    fn until(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        for line in self.events.by_ref() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if is_wanted(&event) {
                return event;
            }
            assert!(event["failed"].is_null(), "{event}");
        }
        panic!("the rank ended");
    }

    fn until_step(&mut self, step: u64) {
        self.until(|event| event["progress"]["step"].as_u64().is_some_and(|there| there >= step));
    }

    /// Reads to the end.
    fn end(&mut self) -> Value {
        self.events.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()).last().unwrap()
    }

    /// Reads to the end, which must tell that the attempt is over.
    fn is_superseded(&mut self) {
        let end = self.end();
        let message = end["failed"]["message"].as_str().unwrap_or_else(|| panic!("{end}"));
        assert!(message.contains("attempt 1 is over: attempt 2 has been begun"), "{message}");
        assert_eq!(end["failed"]["user"], false);
        self.child.wait().unwrap();
    }

    /// Stops the process and waits until it has stopped.
    fn stop(&self) {
        self.signal("STOP");
        self.until_stopped();
    }

    /// Waits until each of its threads has stopped: one may be waiting for the disk.
    fn until_stopped(&self) {
        let tasks = format!("/proc/{}/task", self.child.id());
        let is_stopped = |task: std::fs::DirEntry| {
            let status = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            status.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('T'))
        };
        while !std::fs::read_dir(&tasks).unwrap().all(|task| is_stopped(task.unwrap())) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn signal(&self, name: &str) {
        assert!(
            Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap().success()
        );
    }
}

impl Drop for Rank {
    fn drop(&mut self) {
        // One that is stopped would stay.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes of every file of a folder by its path, but for TensorBoard's, of which each attempt has one of its own.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("tensorboard") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}

fn is_unchanged(before: &[(PathBuf, Vec<u8>)], after: &[(PathBuf, Vec<u8>)]) {
    let differing = |these: &[(PathBuf, Vec<u8>)], those: &[(PathBuf, Vec<u8>)]| -> Vec<PathBuf> {
        these.iter().filter(|file| !those.contains(file)).map(|(path, _)| path.clone()).collect()
    };
    let (gone, new) = (differing(before, after), differing(after, before));
    assert!(gone.is_empty() && new.is_empty(), "the stale attempt has changed {gone:?} {new:?}");
}

#[test]
fn a_rank_that_wakes_among_a_newer_attempts_checkpoints_leaves_them_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut stale = Rank::start(folder.path(), 1, 20);
    stale.until_step(45);
    stale.stop();
    let mut newer = Rank::start(folder.path(), 2, 20);
    newer.until_step(150);
    newer.stop();
    let checkpoints = folder.path().join("checkpoints");
    let before = contents(&checkpoints);
    stale.signal("CONT");
    stale.is_superseded();
    is_unchanged(&before, &contents(&checkpoints));
    newer.signal("CONT");
    newer.until(|event| event["finished"]["outcome"] == "succeeded");
    let steps = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap().lines().count();
    assert_eq!(steps, 300, "one line a step");
}

#[test]
fn a_rank_that_wakes_after_a_newer_attempt_has_published_publishes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // No checkpoint between the first and the last: its end is where the stale rank gets to.
    let mut stale = Rank::start(folder.path(), 1, 1000);
    stale.until_step(45);
    stale.stop();
    let mut newer = Rank::start(folder.path(), 2, 1000);
    newer.until(|event| event["finished"]["outcome"] == "succeeded");
    let before = contents(folder.path());
    stale.signal("CONT");
    stale.is_superseded();
    is_unchanged(&before, &contents(folder.path()));
}

/// The stale rank is stopped where it is about to make something durable: its claim, the run's records, files of a checkpoint before its
/// manifest and after, the rename, the summary, files of the model and their rename.
#[test]
fn a_rank_that_wakes_at_any_write_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let library = place.path().join("kill_at_sync.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/src/kill_at_sync.c");
    let compiled =
        Command::new("gcc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(compiled.unwrap().success());
    let start = |folder: &Path, attempt: u64, environment: &[(&str, PathBuf)]| {
        let checkpoint = json!({"intervalSteps": 10, "keep": 2});
        Rank::in_environment(environment, "uid-a", folder, folder, attempt, &checkpoint, &json!({"steps": 25}))
    };
    let environment = |plan: &Path| {
        [("LD_PRELOAD", library.clone()), ("KILL_ROLE", PathBuf::from("rank")), ("KILL_PLAN", plan.to_owned())]
    };
    let plan_of = |name: &str, turn: &str| {
        let plan = place.path().join(name);
        std::fs::create_dir(&plan).unwrap();
        std::fs::write(plan.join("0"), turn).unwrap();
        plan
    };
    // An undisturbed one counts.
    let plan = plan_of("counted", "1000000");
    let folder = place.path().join("undisturbed");
    let mut counted = start(&folder, 1, &environment(&plan));
    counted.until(|event| event["finished"]["outcome"] == "succeeded");
    counted.child.wait().unwrap();
    let syncs: u64 = std::fs::read_to_string(plan.join("syncs")).unwrap().trim().parse().unwrap();
    for nth in 0..12 {
        // The last is the rename of the model: what has its name then is published.
        let sync = (syncs - 2) * (nth + 1) / 12;
        let plan = plan_of(&format!("plan-{nth}"), &format!("{sync} stop"));
        let folder = place.path().join(format!("run-{nth}"));
        let mut stale = start(&folder, 1, &environment(&plan));
        stale.until_stopped();
        let mut newer = start(&folder, 2, &[]);
        newer.until(|event| event["finished"]["outcome"] == "succeeded");
        newer.child.wait().unwrap();
        // Prepared data is the same whoever prepares it, and each has a place of its own to do so. A claim that comes late is one that is
        // over at once.
        let outcome = || {
            let mut files = contents(&folder);
            let aside = ["prepared", "checkpoints/attempts"].map(|name| folder.join(name));
            files.retain(|(path, _)| !aside.iter().any(|aside| path.starts_with(aside)));
            files
        };
        let is_unfinished = |path: &Path| path.to_string_lossy().contains(".writing");
        let mut before = outcome();
        before.retain(|(path, _)| !is_unfinished(path));
        stale.signal("CONT");
        stale.is_superseded();
        let at = std::fs::read_dir(&plan).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        println!("stopped at {}", at.collect::<String>().trim());
        is_unchanged(&before, &outcome());
    }
}

#[test]
fn another_job_gets_the_checkpoints_of_a_worker_that_lives_by_no_means_and_those_of_a_dead_one_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let often = json!({"intervalSteps": 20, "keep": 2});
    let mut first = Rank::of_job("uid-a", folder.path(), folder.path(), 1, &often);
    first.until_step(25);
    // The same fields, and so the same digest, but an object of its own.
    let refused = Rank::of_job("uid-b", other.path(), folder.path(), 7, &often).end();
    assert_eq!((&refused["failed"]["reason"], &refused["failed"]["user"]), (&"CheckpointInUse".into(), &true.into()));
    let message = refused["failed"]["message"].as_str().unwrap();
    assert!(message.contains("in use by the job \"fenced\""), "{message}");
    first.until_step(45);
    let _ = first.child.kill();
    first.child.wait().unwrap();
    // Nobody renews the lease any more; the new job's first attempt follows the dead one's, and goes on from its checkpoint.
    let mut second = Rank::of_job("uid-b", other.path(), folder.path(), 1, &often);
    let step = second.until(|event| !event["progress"].is_null())["progress"]["step"].as_u64().unwrap();
    assert!(step > 1 && (step - 1).is_multiple_of(20), "step {step} follows no checkpoint");
    assert!(folder.path().join("checkpoints/attempts/attempt-00000002").exists());
}

#[test]
fn the_checkpoints_of_a_job_that_differs_are_refused_before_anything_is_claimed() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let often = json!({"intervalSteps": 20, "keep": 2});
    let mut first = Rank::start(folder.path(), 1, 20);
    first.until_step(25);
    first.stop();
    let before = contents(&folder.path().join("checkpoints"));
    let mut differs = Rank::with("uid-b", other.path(), folder.path(), 9, &often, &json!({"tokens": 5000}));
    let refused = differs.end();
    assert_eq!(refused["failed"]["reason"], "CheckpointConflict", "{refused}");
    is_unchanged(&before, &contents(&folder.path().join("checkpoints")));
    first.signal("CONT");
    first.until_step(45);
}
