//! What becomes of a job's pods, and what that is to its attempts.

use k8s_openapi::jiff::Timestamp;
use palimpsest_api::TrainingJobSpec;
use palimpsest_coordinator::{AgentId, Observation, State};

use super::Entry;
use crate::jobs::telling;
use crate::observe::{End, Life, PodView};
use crate::plan::Told;
use crate::resource::TrainingJob;

impl Entry {
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
            self.told.digest = end.digest.clone().or(self.told.digest.take());
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
}

/// The newest pod of a worker.
fn newest(pods: &[PodView], index: u32) -> Option<&PodView> {
    pods.iter().filter(|pod| pod.identity.index == index).max_by_key(|pod| pod.identity)
}
