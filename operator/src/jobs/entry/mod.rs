//! A job under way: its coordinator, what its agents told, what its pods came to.

mod agents;
mod pods;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use palimpsest_api::{TrainingJobSpec, TrainingJobStatus};
use palimpsest_control::Session;
use palimpsest_coordinator::{Config, Observation, State};
use tokio::time::Instant;

use super::last_written::LastWritten;
use super::pace::Pace;
use super::run_plan::run_plan;
use crate::plan::{Agents, Coordination, Failures, Refused, Told};
use crate::resource::{TrainingJob, Version};

/// How long agents are waited for by the coordinator itself: for ever. Why they do not come is known here, so it is here that
/// one loses patience.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86400);

/// The longest delay before a visit that failed is made again.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What is known of a job.
#[derive(Debug)]
pub(crate) struct Entry {
    uid: String,
    written: LastWritten,
    /// Where its checkpoints lie.
    checkpoints: String,
    began: Instant,
    session: Option<Session>,
    waiting_since: Option<Timestamp>,
    told: Told,
    pace: Pace,
    /// Why the user has to mend something, as the worker called it.
    reason: Option<String>,
    refused: Option<Refused>,
    /// The lowest number of a pod's name that was given out and that the API server refused.
    unused: Option<u64>,
    /// The newest generation whose template the API server has judged, by a pod that was made or tried.
    judged: Option<i64>,
    /// Why its Workload could not be written.
    kept_from_queue: Option<String>,
    failures: Failures,
    /// Restarts and disruptions of coordinators before.
    counted: (u32, u32),
    /// The attempt that had crashed, and was counted, when an operator before this one left the job backing off.
    crashed: Option<u64>,
    /// The attempt that an operator before this one left under way, until its end is looked into.
    left: Option<u64>,
    /// The pods of the last visit, and whether each had ended by then.
    seen: BTreeMap<String, bool>,
    /// When figures may be written next, once that was reserved, and when they were last.
    slot: Option<Duration>,
    figures_written: Option<Duration>,
    /// Whether a visit is due that will look at the newest figures.
    is_dirty: bool,
    lost_work: Duration,
    is_new: bool,
    failed_visits: u32,
    /// Whether the finalizer was written, and the watch has not told of it yet.
    is_keeping: bool,
}

impl Entry {
    /// Of a job that is visited for the first time.
    pub(super) fn new(job: &TrainingJob) -> Self {
        let status = &job.status;
        let progressing = status.condition("Progressing");
        let is_backing_off = progressing.is_some_and(|condition| condition.reason == "BackingOff");
        let crashed = status.attempt.filter(|_| is_backing_off);
        let left = status.running_attempt;
        let counted = (status.restarts.unwrap_or(0), status.disruptions.unwrap_or(0));
        Self {
            uid: job.uid().to_owned(),
            written: LastWritten::of(job),
            checkpoints: String::new(),
            began: Instant::now(),
            session: None,
            waiting_since: None,
            told: Told::default(),
            pace: Pace::default(),
            reason: None,
            refused: None,
            unused: None,
            judged: None,
            kept_from_queue: None,
            failures: Failures::default(),
            counted,
            crashed,
            left,
            seen: BTreeMap::new(),
            slot: None,
            figures_written: None,
            is_dirty: false,
            lost_work: Duration::ZERO,
            is_new: false,
            failed_visits: 0,
            is_keeping: false,
        }
    }

    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    /// What was written last.
    pub(crate) fn status(&self) -> &TrainingJobStatus {
        self.written.status()
    }

    /// Whether the job holds a status that nobody wrote who leads now. Then nothing that is known of it counts any more: its agents dial
    /// again, and it is taken over as from any other leader.
    pub(crate) fn is_overtaken(&mut self, job: &TrainingJob) -> bool {
        let is_overtaken = self.written.take_in(job);
        if is_overtaken {
            self.end_session();
        }
        is_overtaken
    }

    /// A status is about to be written: gives which sight of the job it goes by.
    pub(crate) fn writes(&mut self, status: &TrainingJobStatus) -> Version {
        self.written.writes(status)
    }

    /// Remembers what was written, and when figures were.
    pub(crate) fn wrote(&mut self, job: TrainingJob) {
        self.written.wrote(job);
        self.figures_written = Some(self.now());
        self.slot = None;
    }

    /// There is to be a visit when the time for figures has come: none has to be asked for until then.
    pub(crate) fn await_slot(&mut self) {
        self.is_dirty = true;
    }

    /// As `kubectl get` shows it.
    pub(crate) fn shown_state(&self) -> &str {
        self.status().condition("Progressing").map_or("Unknown", |condition| condition.reason.as_str())
    }

    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    pub(crate) fn refused(&self) -> Option<&Refused> {
        self.refused.as_ref()
    }

    pub(crate) fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Why the workers failed last, as far as this operator was told.
    pub(crate) fn failure(&self) -> Option<String> {
        let (_, why) = self.session.as_ref()?.coordinator().crash_of()?;
        Some(why.to_owned())
    }

    /// Why the newest pod of a generation could not be made, or that it could; true where that is another reason than before.
    pub(crate) fn refuse(&mut self, refused: Option<Refused>, generation: Option<i64>) -> bool {
        self.judged = generation;
        let before = std::mem::replace(&mut self.refused, refused);
        before.map(|refused| refused.reason()) != self.refused.as_ref().map(Refused::reason)
    }

    /// From which number on the names of pods were given out and refused, as the API server said itself.
    pub(crate) fn keep_unused(&mut self, unused: Option<u64>) {
        self.unused = unused;
    }

    pub(crate) fn unused(&self) -> Option<u64> {
        self.unused
    }

    /// Whether the template of a job that makes no pods yet is to be tried. What was wrong with another one counts no more.
    pub(crate) fn is_to_try(&mut self, job: &TrainingJob, is_idle: bool) -> bool {
        let generation = job.metadata.generation;
        if self.judged == generation {
            return false;
        }
        self.refused.take_if(|refused| matches!(refused, Refused::Invalid(_)));
        let status = self.status();
        let was_bad = status.condition("Progressing").is_some_and(|condition| condition.reason == "InvalidTemplate");
        // An operator before this one tried it before it said anything.
        is_idle && (was_bad || status.observed_generation != generation)
    }

    /// Why the job's Workload could not be written, where it could not.
    pub(crate) fn kept_from_queue(&self) -> Option<&str> {
        self.kept_from_queue.as_deref()
    }

    /// Why the job's Workload could not be written, or that it could; true where that is new.
    pub(crate) fn keep_from_queue(&mut self, why: Option<String>) -> bool {
        std::mem::replace(&mut self.kept_from_queue, why.clone()) != why
    }

    /// The work that was lost since this was asked last.
    pub(crate) fn take_lost_work(&mut self) -> Duration {
        std::mem::take(&mut self.lost_work)
    }

    /// When figures may be written: `reserve` is asked once for each time, with the earliest one.
    pub(crate) fn slot(&mut self, interval: Duration, reserve: impl FnOnce(Duration) -> Duration) -> Duration {
        let earliest = self.figures_written.map_or(Duration::ZERO, |written| written + interval).max(self.now());
        *self.slot.get_or_insert_with(|| reserve(earliest))
    }

    /// Whether nothing more is to come of the job.
    pub(crate) fn is_over(&self) -> bool {
        crate::plan::is_over(self.status())
    }

    /// Whether there is a coordinator that was not looked at yet.
    pub(crate) fn is_new(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }

    /// Whether the job has its finalizer, which is told later than it is written. One that is taken away is missed once it was seen.
    pub(crate) fn is_kept(&mut self, is_told: bool) -> bool {
        self.is_keeping &= !is_told;
        is_told || self.is_keeping
    }

    /// The finalizer was written: the job is like this now.
    pub(crate) fn keep(&mut self, job: Option<&TrainingJob>) {
        self.is_keeping = true;
        if let Some(job) = job {
            // Where another has written, too, the next status is late, and that is looked into then.
            self.written.take_in(job);
        }
    }

    /// When a visit that failed is made again: later with each.
    pub(crate) fn retry_delay(&mut self) -> Duration {
        self.failed_visits = (self.failed_visits + 1).min(10);
        Duration::from_millis(50 << self.failed_visits).min(LONGEST_RETRY)
    }

    /// A visit succeeded.
    pub(crate) fn succeeded(&mut self) {
        self.failed_visits = 0;
    }

    /// The time as the coordinator counts it.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn observe(&mut self, observation: Observation) {
        let now = self.now();
        let Some(session) = &mut self.session else { return };
        let attempt = session.coordinator().attempt();
        session.observe(now, observation);
        if session.coordinator().attempt() != attempt {
            self.lose_work();
            self.told.activity = None;
            self.pace = Pace::default();
        }
    }

    /// Steps that are taken again, in the time that one takes.
    fn lose_work(&mut self) {
        let step = self.told.progress.as_ref().map_or(0, |progress| progress.step);
        let kept = self.told.checkpoint.as_ref().or(self.status().checkpoint.as_ref());
        let kept = kept.map_or(0, |checkpoint| checkpoint.step);
        let steps = u32::try_from(step.saturating_sub(kept)).unwrap_or(u32::MAX);
        self.lost_work += self.pace.usual().unwrap_or_default().saturating_mul(steps);
    }

    /// Takes in that time went by.
    fn tick(&mut self, now: Timestamp) {
        self.observe(Observation::TimePassed);
        let is_waiting =
            self.session.as_ref().is_some_and(|session| matches!(session.coordinator().state(), State::Waiting { .. }));
        self.waiting_since = is_waiting.then(|| self.waiting_since.unwrap_or(now));
        let elapsed = self.now();
        self.told.still = self.pace.still_since(elapsed).map(|since| {
            let seconds = self.pace.usual().unwrap_or_default().as_secs().max(1);
            (now - (elapsed - since), seconds)
        });
    }

    /// Where the coordinator stands.
    pub(crate) fn coordination(&self, now: Timestamp) -> Option<Coordination> {
        let coordinator = self.session.as_ref()?.coordinator();
        let elapsed = self.now();
        let deadline =
            coordinator.next_deadline().into_iter().chain(self.pace.due().filter(|due| *due > elapsed)).min();
        Some(Coordination {
            state: coordinator.state().clone(),
            attempt: coordinator.attempt(),
            under_way: coordinator.under_way(),
            restarts: self.counted.0 + coordinator.restarts(),
            failures: coordinator.crashes(),
            disruptions: self.counted.1 + coordinator.disruptions(),
            waiting_since: self.waiting_since,
            next_deadline: deadline.and_then(|deadline| now.checked_add(deadline.saturating_sub(elapsed)).ok()),
            reason: self.reason.clone(),
        })
    }

    /// Tells the agents what a plan says.
    pub(crate) fn tell(&mut self, agents: Agents, job: &TrainingJob, spec: &TrainingJobSpec, now: Timestamp) {
        match agents {
            Agents::Continue => {}
            Agents::Coordinate => {
                if self.session.is_none() {
                    self.begin(job, spec, now);
                }
            }
            Agents::Stop => self.observe(Observation::StopRequested),
            Agents::Abort => self.observe(Observation::AbortRequested),
            Agents::Dismiss => {
                if let Some(session) = &self.session {
                    session.dismiss();
                }
                self.end_session();
            }
        }
    }

    fn begin(&mut self, job: &TrainingJob, spec: &TrainingJobSpec, now: Timestamp) {
        let config = Config {
            checkpoint: self.status().checkpoint.as_ref().map(|checkpoint| checkpoint.step),
            crashes: self.status().failures_since_checkpoint.unwrap_or(0),
            crashed: self.crashed.take(),
            under_way: self.left.take(),
            start_timeout: FOR_EVER,
            active_deadline: None,
            ..Config::new(&job.as_job(spec), self.status().attempt.unwrap_or(0))
        };
        self.session = Some(Session::new(config, &self.uid, run_plan(job, spec), self.now()));
        self.waiting_since = Some(now);
        self.is_new = true;
    }

    fn end_session(&mut self) {
        if let Some(session) = self.session.take() {
            self.counted.0 += session.coordinator().restarts();
            self.counted.1 += session.coordinator().disruptions();
        }
        self.pace = Pace::default();
        self.reason = None;
        self.failures = Failures::default();
    }
}
