//! How soon a new status has to be written.

use palimpsest_api::TrainingJobStatus;

/// How soon a new status has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Nothing in it is new.
    Unchanged,
    /// Figures of a job under way: when its turn comes.
    Progress,
    /// The job took a turn: now.
    Transition,
}

/// How soon `new` has to be written where `old` was.
pub(crate) fn urgency(old: &TrainingJobStatus, new: &TrainingJobStatus) -> Urgency {
    if old == new {
        return Urgency::Unchanged;
    }
    if without_figures(old) == without_figures(new) { Urgency::Progress } else { Urgency::Transition }
}

fn without_figures(status: &TrainingJobStatus) -> TrainingJobStatus {
    let mut status =
        TrainingJobStatus { stage: None, progress: None, checkpoint: None, evaluation: Vec::new(), ..status.clone() };
    for condition in &mut status.conditions {
        // How long nothing has come is a figure too.
        condition.message = String::new();
    }
    status
}
