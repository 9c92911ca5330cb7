//! What a job's agents tell.

use k8s_openapi::jiff::Timestamp;
use palimpsest_control::{Attached, LinkId, Reported};
use palimpsest_coordinator::{AgentId, Observation};
use palimpsest_proto::control::{failure, report};

use super::Entry;
use crate::jobs::telling;
use crate::plan::Activity;

impl Entry {
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
