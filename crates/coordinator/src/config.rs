//! What a job asks of its coordination.

use std::time::Duration;

use palimpsest_api::TrainingJob;

use crate::Patience;

/// What a job asks of its coordination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many agents make up the world.
    pub agents: usize,
    /// The newest attempt that was ever claimed; the first one here follows it.
    pub last_attempt: u64,
    /// The step of the newest checkpoint that is known, and the crashes since: what a coordinator before this one counted.
    pub checkpoint: Option<u64>,
    /// See `checkpoint`.
    pub crashes: u32,
    /// The attempt whose crash is the newest of these, where none was begun since: agents tell of it again.
    pub crashed: Option<u64>,
    /// The attempt that a coordinator before this one left under way. If it has ended meanwhile, nobody has counted how.
    pub under_way: Option<u64>,
    /// How many crashes are put up with between two checkpoints.
    pub backoff_limit: u32,
    /// How long all agents may take to be attached and idle.
    pub start_timeout: Duration,
    /// How long the job may take, if that is limited.
    pub active_deadline: Option<Duration>,
    /// How long a last checkpoint may take when the job is told to stop.
    pub termination: Duration,
    /// When ranks count as hanging.
    pub patience: Patience,
}

impl Config {
    /// Of a job whose newest attempt so far is `last_attempt`.
    pub fn new(job: &TrainingJob, last_attempt: u64) -> Self {
        let policy = &job.spec.run_policy;
        Self {
            agents: job.spec.workers.replicas as usize,
            last_attempt,
            checkpoint: None,
            crashes: 0,
            crashed: None,
            under_way: None,
            backoff_limit: policy.backoff_limit,
            start_timeout: Duration::from_secs(policy.start_timeout_seconds),
            active_deadline: policy.active_deadline_seconds.map(Duration::from_secs),
            termination: Duration::from_secs(job.spec.checkpoint.termination_seconds),
            patience: Patience::default(),
        }
    }
}
