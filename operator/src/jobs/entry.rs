//! A job under way: its coordinator, what its agents told, what its pods came to.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use palimpsest_api::{TrainingJobSpec, TrainingJobStatus};
use palimpsest_control::{Attached, LinkId, Reported, Session};
use palimpsest_coordinator::{AgentId, Config, Observation, State};
use palimpsest_proto::control::{failure, report};
use tokio::time::Instant;

use super::pace::Pace;
use super::run_plan::run_plan;
use super::telling;
use crate::observe::{End, Life, PodView};
use crate::plan::{Activity, Agents, Coordination, Failures, Refused, Told};
use crate::resource::TrainingJob;

/// How long agents are waited for by the coordinator itself: for ever. Why they do not come is known here, so it is here that
/// one loses patience.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86400);

/// The longest delay before a visit that failed is made again.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What is known of a job.
#[derive(Debug)]
pub(crate) struct Entry {
    uid: String,
    /// What was written last. Only this operator writes it, so that no cache knows better.
    status: TrainingJobStatus,
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
        let status = job.status.clone();
        let progressing = status.condition("Progressing");
        let is_backing_off = progressing.is_some_and(|condition| condition.reason == "BackingOff");
        let crashed = status.attempt.filter(|_| is_backing_off);
        let left = status.running_attempt;
        let counted = (status.restarts.unwrap_or(0), status.disruptions.unwrap_or(0));
        Self {
            uid: job.uid().to_owned(),
            status,
            checkpoints: String::new(),
            began: Instant::now(),
            session: None,
            waiting_since: None,
            told: Told::default(),
            pace: Pace::default(),
            reason: None,
            refused: None,
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
        &self.status
    }

    /// Remembers what was written, and when figures were.
    pub(crate) fn wrote(&mut self, status: TrainingJobStatus) {
        self.status = status;
        self.figures_written = Some(self.now());
        self.slot = None;
    }

    /// There is to be a visit when the time for figures has come: none has to be asked for until then.
    pub(crate) fn await_slot(&mut self) {
        self.is_dirty = true;
    }

    /// As `kubectl get` shows it.
    pub(crate) fn shown_state(&self) -> &str {
        self.status.condition("Progressing").map_or("Unknown", |condition| condition.reason.as_str())
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

    /// Why the newest pod could not be made, or that it could.
    pub(crate) fn refuse(&mut self, refused: Option<Refused>) {
        self.refused = refused;
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
        crate::plan::is_over(&self.status)
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

    /// The finalizer was written.
    pub(crate) fn keep(&mut self) {
        self.is_keeping = true;
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

    /// Takes in what has become of the pods and of the time; `may_run` says that the job is neither suspended nor held by a queue.
    pub(crate) fn look_at(
        &mut self,
        job: &TrainingJob,
        spec: &TrainingJobSpec,
        may_run: bool,
        pods: &[PodView],
        now: Timestamp,
    ) {
        let was_stopped = self.session.as_ref().is_some_and(|session| *session.coordinator().state() == State::Stopped);
        if was_stopped && may_run {
            self.end_session();
            self.told = Told::default();
        }
        let takes_over = self.takes_over(job, may_run);
        if takes_over {
            self.begin(job, spec, now);
        }
        // Figures that come from here on are not in what this visit writes.
        self.is_dirty = false;
        self.observe(Observation::LimitChanged { backoff_limit: spec.run_policy.backoff_limit });
        self.checkpoints = telling::checkpoints(spec);
        let mut before = std::mem::take(&mut self.seen);
        for pod in pods {
            // Those that the operator before has replaced were counted by it.
            let is_counted = takes_over && newest(pods, pod.identity.index).is_some_and(|newest| newest.uid != pod.uid);
            let had_ended = before.remove(&pod.name).unwrap_or(false) || is_counted;
            match &pod.life {
                Life::Ended(end) if !had_ended => self.see_end(pod, end, now),
                Life::Ended(_) => {}
                // Its machine cannot say any more that it is gone.
                _ if !pod.may_run(now) => self.lose(&pod.name, true),
                _ if pod.leaves_by.is_some() || pod.disruption.is_some() => self.observe_of(&pod.name, false),
                _ => {}
            }
        }
        for gone in before.iter().filter(|(_, had_ended)| !**had_ended).map(|(name, _)| name) {
            self.lose(gone, true);
        }
        self.look_for_those_left(spec, pods, now);
        self.seen = pods.iter().map(|pod| (pod.name.clone(), pod.has_ended())).collect();
        self.tick(now);
    }

    /// Whether an attempt that an operator before this one left under way is to be taken up now. Where the job was to stop, it ended so.
    fn takes_over(&mut self, job: &TrainingJob, may_run: bool) -> bool {
        if !may_run || job.is_deleted() || self.is_over() {
            self.left = None;
        }
        self.is_left()
    }

    fn is_left(&self) -> bool {
        self.left.is_some() && self.session.is_none()
    }

    /// Whether pods that ran when an operator before this one was last heard of are to be looked for.
    pub(crate) fn is_to_find(&self, spec: &TrainingJobSpec, pods: &[PodView]) -> bool {
        let is_missing = |index| newest(pods, index).is_none();
        self.is_left() && (0..spec.workers.replicas).any(is_missing)
    }

    /// Of an attempt that an operator before this one left under way, a pod that is gone with no end of its own was taken away.
    fn look_for_those_left(&mut self, spec: &TrainingJobSpec, pods: &[PodView], now: Timestamp) {
        let is_settled = self.told.is_published || self.failures.of_user.is_some();
        let is_gone = |index| newest(pods, index).is_none_or(|pod| !pod.may_run(now));
        if !is_settled && (0..spec.workers.replicas).any(is_gone) {
            self.observe(Observation::DisruptedBeforehand);
        }
    }

    /// Whether the last look at the pods saw one of this name.
    pub(crate) fn has_seen(&self, pod: &str) -> bool {
        self.seen.contains_key(pod)
    }

    fn see_end(&mut self, pod: &PodView, end: &End, now: Timestamp) {
        let is_disrupted = pod.disruption.is_some() || pod.leaves_by.is_some();
        let Some(session) = &self.session else { return };
        let coordinator = session.coordinator();
        if coordinator.state().is_end() {
            return;
        }
        let was_running = *coordinator.state() == State::Running;
        // Where the job ends by it, nothing is started anew, and nothing is counted.
        if end.is_success {
            self.told.is_published = true;
            return;
        }
        if end.is_users && !is_disrupted {
            let reason = end.reason.clone().unwrap_or_else(|| "UserError".to_owned());
            self.failures.of_user = Some((reason, end.message.clone()));
            return;
        }
        if !was_running && !is_disrupted {
            // Nobody was coordinated: the coordinator knows nothing of it.
            self.fail_beforehand(pod, end, now);
        }
        self.lose(&pod.name, is_disrupted);
    }

    /// The pod that follows waits for as long as the coordinator does.
    fn fail_beforehand(&mut self, pod: &PodView, end: &End, now: Timestamp) {
        let message = format!("the pod {} failed: {}", pod.name, end.message);
        self.observe(Observation::CrashedBeforehand { message });
        let elapsed = self.now();
        let state = self.session.as_ref().map(|session| session.coordinator().state());
        if let Some(State::BackingOff { until, .. }) = state {
            self.failures.not_before = now.checked_add(until.saturating_sub(elapsed)).ok();
        }
    }

    fn lose(&mut self, pod: &str, is_disrupted: bool) {
        if is_disrupted {
            self.observe_of(pod, false);
        }
        self.observe_of(pod, true);
    }

    fn observe_of(&mut self, pod: &str, is_lost: bool) {
        let agent = AgentId(pod.to_owned());
        self.observe(if is_lost { Observation::Lost { agent } } else { Observation::Leaving { agent } });
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
        let kept = self.told.checkpoint.as_ref().or(self.status.checkpoint.as_ref());
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
            checkpoint: self.status.checkpoint.as_ref().map(|checkpoint| checkpoint.step),
            crashes: self.status.failures_since_checkpoint.unwrap_or(0),
            crashed: self.crashed.take(),
            under_way: self.left.take(),
            start_timeout: FOR_EVER,
            active_deadline: None,
            ..Config::new(&job.as_job(spec), self.status.attempt.unwrap_or(0))
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

    /// Takes an agent's stream. Without a session there is nobody to take it: it is given back.
    pub(crate) fn attach(&mut self, attached: Attached) -> Result<(), Box<Attached>> {
        let Some(session) = &mut self.session else { return Err(Box::new(attached)) };
        let observation = session.attach(attached)?;
        self.observe(observation);
        Ok(())
    }

    /// Takes in a report. True where the job is to be visited.
    pub(crate) fn report(&mut self, reported: &Reported, now: Timestamp) -> bool {
        let Some(session) = &self.session else { return false };
        let is_newest = reported.attempt.number == session.coordinator().attempt();
        let observation = session.report(reported);
        let before = (session.coordinator().state().clone(), self.told.activity);
        if is_newest {
            telling::take_in(&mut self.told, &self.checkpoints, &reported.report, now);
        }
        match &reported.report {
            report::Report::Progress(_) if is_newest => {
                let elapsed = self.now();
                self.pace.step(elapsed);
                self.failures.not_before = None;
            }
            report::Report::Failure(failure) if is_newest && failure.cause() == failure::Cause::User => {
                self.reason = Some(failure.reason.clone()).filter(|reason| !reason.is_empty());
            }
            report::Report::Phase(_) if self.told.activity != Some(Activity::Training) => self.pace.pause(),
            _ => {}
        }
        if let Some(observation) = observation {
            self.observe(observation);
        }
        let Some(session) = &self.session else { return false };
        let is_turn = before != (session.coordinator().state().clone(), self.told.activity);
        let has_figures = is_figure(&reported.report) && !std::mem::replace(&mut self.is_dirty, true);
        is_turn || has_figures
    }

    /// Whether a pod's agent has a stream.
    pub(crate) fn is_attached(&self, pod: &str) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_attached(&AgentId(pod.to_owned())))
    }

    /// Forgets a stream that has ended.
    pub(crate) fn detach(&mut self, link: LinkId) {
        if let Some(agent) = self.session.as_mut().and_then(|session| session.detach(link)) {
            // Its pod is watched.
            self.observe(Observation::CutOff { agent });
        }
    }
}

/// The newest pod of a worker.
fn newest(pods: &[PodView], index: u32) -> Option<&PodView> {
    pods.iter().filter(|pod| pod.identity.index == index).max_by_key(|pod| pod.identity)
}

/// Whether a report changes what the status says of a job under way.
fn is_figure(report: &report::Report) -> bool {
    matches!(
        report,
        report::Report::Progress(_)
            | report::Report::CheckpointCommitted(_)
            | report::Report::Evaluation(_)
            | report::Report::Phase(_)
    )
}
