//! What a coordinator that comes later has to be told: an operator that was away, or one that has just begun, knows nothing of
//! a plan, a step, a checkpoint or a measurement that was told before.

use std::collections::BTreeMap;

use palimpsest_proto::control::{CheckpointCommitted, report};

/// What was told and still holds.
#[derive(Debug, Default)]
pub(super) struct Memory {
    planned: Option<report::Report>,
    resolved: Option<report::Report>,
    /// The newest measurement of each name and dataset.
    evaluations: BTreeMap<(String, String), report::Report>,
    checkpoint: Option<CheckpointCommitted>,
    progress: Option<report::Report>,
    /// The newest step that any rank took.
    step: u64,
}

impl Memory {
    /// Keeps what a rank tells, where that matters later.
    pub(super) fn keep(&mut self, report: &report::Report) {
        match report {
            report::Report::Planned(_) => self.planned = Some(report.clone()),
            report::Report::Resolved(_) => self.resolved = Some(report.clone()),
            report::Report::Evaluation(evaluation) => {
                let key = (evaluation.name.clone(), evaluation.dataset.clone());
                self.evaluations.insert(key, report.clone());
            }
            report::Report::CheckpointCommitted(committed) => self.checkpoint = Some(*committed),
            report::Report::Progress(progress) => {
                self.progress = Some(report.clone());
                self.step = progress.step;
            }
            report::Report::Finished(finished) => self.step = finished.step,
            _ => {}
        }
    }

    /// All that is to be told again.
    pub(super) fn retold(&self) -> impl Iterator<Item = report::Report> {
        let checkpoint = self.checkpoint.map(report::Report::CheckpointCommitted);
        let told = self.planned.iter().chain(&self.resolved).cloned().chain(checkpoint);
        told.chain(self.evaluations.values().chain(&self.progress).cloned())
    }

    /// The newest step.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// The step of the newest checkpoint.
    pub(super) fn checkpoint(&self) -> Option<u64> {
        self.checkpoint.map(|committed| committed.step)
    }
}
