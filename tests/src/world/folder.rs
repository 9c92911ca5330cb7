//! What a job leaves in its folder, as far as the operator has to do with it: claims, steps, checkpoints, the output. And how
//! the job is to go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a job is to go.
#[derive(Clone, Debug)]
pub struct Script {
    /// Of the whole job.
    pub steps: u64,
    /// How long each takes.
    pub step_millis: u64,
    /// After how many steps there is a checkpoint.
    pub checkpoint_every: u64,
    /// What happens when a step is to be taken: each once.
    pub mishaps: BTreeMap<u64, Mishap>,
    /// Whether a pod that ends has published the output.
    pub published_unheard: bool,
    /// Whether ranks are too busy to write a checkpoint when they are told to.
    pub is_deaf: bool,
    /// Whether agents say only what those of the version before said.
    pub agents_of_before: bool,
    /// What pods come to before their agents live, by their number: those beyond the list live.
    pub pods: Vec<Stillborn>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            steps: 20,
            step_millis: 10,
            checkpoint_every: 5,
            mishaps: BTreeMap::new(),
            published_unheard: false,
            is_deaf: false,
            agents_of_before: false,
            pods: Vec::new(),
        }
    }
}

impl Script {
    /// A life to which the crash of a rank and the loss of a pod belong.
    pub fn eventful() -> Self {
        Self {
            steps: 12,
            checkpoint_every: 3,
            mishaps: BTreeMap::from([(5, Mishap::Crash), (8, Mishap::Evicted)]),
            ..Self::default()
        }
    }
}

/// What happens to a rank.
#[derive(Clone, Debug)]
pub enum Mishap {
    /// It crashes.
    Crash,
    /// It finds something that the user has to mend: the reason and the message.
    UserError(&'static str, &'static str),
    /// It does not take the step.
    Wait,
    /// Its pod ends with an exit code and a termination message, without a word on the stream.
    PodEnds(i32, &'static str),
    /// Its pod is evicted.
    Evicted,
}

/// What a pod comes to whose agent does not live.
#[derive(Clone, Debug)]
pub enum Stillborn {
    /// It stays unscheduled, with this message.
    Unschedulable(&'static str),
    /// Its image cannot be had.
    NoImage(&'static str),
    /// It ends with an exit code and a termination message.
    Ends(i32, &'static str),
}

/// What a job has left in its folder.
#[derive(Clone, Debug)]
pub struct Folder {
    /// How the job goes.
    pub script: Script,
    /// The newest attempt that was claimed.
    pub claimed: u64,
    /// The step of the newest checkpoint.
    pub checkpoint: u64,
    /// The newest step that was taken.
    pub step: u64,
    /// Whether the output is there, and how often it was written.
    pub published: u32,
    /// Steps that were taken more than once.
    pub repeated: u64,
    /// The pods whose agents live, by index.
    pub live: BTreeMap<String, String>,
    /// Every pod that a kubelet has begun, in order.
    pub begun: Vec<String>,
    /// What should never be, where it was.
    pub harm: Vec<String>,
}

impl Folder {
    pub(super) fn new(script: Script) -> Self {
        Self {
            script,
            claimed: 0,
            checkpoint: 0,
            step: 0,
            published: 0,
            repeated: 0,
            live: BTreeMap::new(),
            begun: Vec::new(),
            harm: Vec::new(),
        }
    }

    /// Expects what such a life leaves, whatever else went wrong; `when` says what did.
    pub fn check_eventful(&self, when: &str) {
        assert_eq!(self.harm, Vec::<String>::new(), "{when}");
        assert_eq!((self.step, self.published), (12, 1), "{when}: {self:#?}");
        // A step is taken again only where no checkpoint has it: after the crash, the eviction, and nothing else.
        assert!(self.repeated <= 4, "{when}: {self:#?}");
        assert!(self.begun.len() <= 3, "{when}: {self:#?}");
    }

    /// Claims an attempt, if none as new is claimed.
    pub(super) fn claim(&mut self, attempt: u64) -> bool {
        let is_new = attempt > self.claimed;
        self.claimed = self.claimed.max(attempt);
        is_new
    }

    /// A rank of the newest attempt takes a step; writes what is due after it. Gives the step of a checkpoint that was written.
    pub(super) fn take(&mut self, step: u64) -> Option<u64> {
        if step <= self.step {
            self.repeated += 1;
        }
        if step <= self.checkpoint {
            self.harm.push(format!("step {step} was taken again although {} is kept", self.checkpoint));
        }
        self.step = self.step.max(step);
        step.is_multiple_of(self.script.checkpoint_every).then(|| self.keep(step))
    }

    /// Writes a checkpoint.
    pub(super) fn keep(&mut self, step: u64) -> u64 {
        self.checkpoint = self.checkpoint.max(step);
        step
    }

    pub(super) fn publish(&mut self) {
        self.published += 1;
        if self.published > 1 {
            self.harm.push("the output was published twice".to_owned());
        }
    }
}

/// The folders of all jobs, by name.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<BTreeMap<String, Arc<Mutex<Folder>>>>);

impl Folders {
    /// A job's.
    pub(super) fn of(&self, job: &str) -> Arc<Mutex<Folder>> {
        let make = || Arc::new(Mutex::new(Folder::new(Script::default())));
        lock(&self.0).entry(job.to_owned()).or_insert_with(make).clone()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
