//! The job that all tests run, what it leaves, and what it would have left undisturbed.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use palimpsest_tests::{repository, succeed, wait_until};
use serde_json::Value;

use crate::setting::Setting;

/// The job: a minute or two on one CPU. Its worker's container has one, so that its rank has as many threads as a run on this
/// machine with `--threads 1`.
pub(crate) const JOB: &str = include_str!("job.yaml");

/// Its steps.
pub(crate) const STEPS: usize = 700;

/// What it leaves in its folder.
const WEIGHTS: &str = "model/model.safetensors";

/// More steps than lie between two checkpoints of it, and are taken while one is written.
pub(crate) const FEW: u64 = 40;

/// The same job by another name, with the same checkpoints and output. It makes do with what the first leaves of a node.
pub(crate) fn job_called(name: &str) -> String {
    JOB.replace("metadata: {name: recipes}", &format!("metadata: {{name: {name}}}")).replace("cpu: 1", "cpu: 200m")
}

/// A job under way, by what it leaves in its folder.
pub(crate) struct Run<'s> {
    setting: &'s Setting,
}

/// Something that was done to a job.
pub(crate) struct Blow {
    what: &'static str,
    time: f64,
}

impl Blow {
    /// Something that is done now.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, time: SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs_f64()).unwrap() }
    }
}

impl<'s> Run<'s> {
    pub(crate) fn of(setting: &'s Setting) -> Self {
        Self { setting }
    }

    /// One that has got under way on a node.
    pub(crate) fn on(setting: &'s Setting, node: &str, job: &str) -> Self {
        setting.apply_on(node, job);
        let run = Self::of(setting);
        run.more_steps(30);
        run
    }

    /// The steps that are written down so far.
    pub(crate) fn steps(&self) -> usize {
        self.setting.results.lines("recipes/metrics.jsonl").len()
    }

    /// The attempts that were claimed so far.
    pub(crate) fn attempts(&self) -> usize {
        let names = self.setting.results.names("recipes/checkpoints/attempts");
        names.iter().filter(|name| name.starts_with("attempt-")).count()
    }

    /// Waits for more steps than there are, so many.
    pub(crate) fn more_steps(&self, more: usize) {
        let wanted = self.steps() + more;
        wait_until("more steps", || self.steps() >= wanted);
    }

    /// Waits for the job's success, and compares all that it leaves with what an undisturbed run leaves.
    pub(crate) fn succeeds(&self) {
        self.setting.kubectl_succeed(&["wait", "tj/recipes", "--for=condition=Succeeded", "--timeout=600s"]);
        assert!(
            self.setting.results.read(&format!("recipes/{WEIGHTS}")) == undisturbed(),
            "the weights are those of a run that nothing disturbed"
        );
        let taken: Vec<usize> =
            self.lines("metrics.jsonl").iter().map(|step| step["step"].as_u64().unwrap() as usize).collect();
        assert!(taken.iter().copied().eq(1..=STEPS), "one line a step: {taken:?}");
    }

    /// The same of a job that had to go on in another pod, within so many seconds. Gives the steps that were taken twice.
    pub(crate) fn succeeds_after(&self, blow: &Blow, seconds: f64) -> u64 {
        self.succeeds();
        let attempts = self.lines("attempts.jsonl");
        let lost = attempts.iter().map(|attempt| attempt["lostSteps"].as_u64().unwrap()).sum();
        let next = attempts.iter().find(|attempt| attempt["began"].as_f64().unwrap() > blow.time).unwrap();
        let first = next["fromStep"].as_u64().unwrap() + 1;
        let metrics = self.lines("metrics.jsonl");
        let first = metrics.iter().find(|step| step["step"] == first).unwrap();
        let gap = first["time"].as_f64().unwrap() - blow.time;
        println!("from {} to the next step: {gap:.1} s, {lost} steps taken again", blow.what);
        assert!(gap < seconds, "{gap:.1} s are too long");
        lost
    }

    fn lines(&self, file: &str) -> Vec<Value> {
        let lines = self.setting.results.lines(&format!("recipes/{file}"));
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What the status counts: restarts and disruptions.
    pub(crate) fn counted(&self) -> String {
        let counted = "--output=jsonpath={.status.restarts} {.status.disruptions}";
        self.setting.kubectl_succeed(&["get", "tj", "recipes", counted]).stdout
    }
}

/// The weights of the job by `palimpsest run`, once for all tests.
fn undisturbed() -> &'static [u8] {
    static UNDISTURBED: OnceLock<Vec<u8>> = OnceLock::new();
    UNDISTURBED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let job = folder.path().join("job.yaml");
        fs::write(&job, JOB).unwrap();
        let output = folder.path().join("recipes");
        let corpora = format!("corpora={}", repository().join("examples/corpora/en").display());
        let results = format!("results={}", folder.path().display());
        let [job, run] = [&job, &output].map(|path| path.to_str().unwrap());
        succeed(&["run", job, "--mount", &corpora, "--mount", &results, "--output", run]);
        fs::read(output.join(WEIGHTS)).unwrap()
    })
}
