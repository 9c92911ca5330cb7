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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn mk_status(change: &Value) -> TrainingJobStatus {
        let progressing = |reason: &str, message: &str| {
            json!({"type": "Progressing", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
                "reason": reason, "message": message})
        };
        let mut status = json!({
            "conditions": [progressing("Training", "the workers train the model")], "attempt": 1, "restarts": 0,
            "progress": {"step": 7, "steps": 20, "tokens": 700, "progressPercentage": 35, "lastUpdatedTime": "2026-01-01T00:00:00Z"},
        });
        for (field, value) in change.as_object().unwrap() {
            status[field] = match value.as_array().map(Vec::as_slice) {
                Some([reason, message]) => json!([progressing(reason.as_str().unwrap(), message.as_str().unwrap())]),
                _ => value.clone(),
            };
        }
        serde_json::from_value(status).unwrap()
    }

    fn check(change: Value, expected: Urgency) {
        assert_eq!(urgency(&mk_status(&json!({})), &mk_status(&change)), expected, "{change}");
    }

    #[test]
    fn figures_have_time_and_turns_have_none() {
        check(json!({}), Urgency::Unchanged);
        check(json!({"progress": step_of(8)}), Urgency::Progress);
        check(json!({"stage": {"name": "one", "index": 0, "count": 1, "bucket": 2, "buckets": 10}}), Urgency::Progress);
        check(
            json!({"checkpoint": {"uri": "pvc://c/c", "step": 5, "time": "2026-01-01T00:00:00Z"}}),
            Urgency::Progress,
        );
        check(json!({"evaluation": [{"name": "zh", "score": "0.9"}]}), Urgency::Progress);
        check(json!({"conditions": ["Training", "in other words"]}), Urgency::Progress);
        check(json!({"conditions": ["Evaluating", "the workers evaluate the model"]}), Urgency::Transition);
        check(json!({"restarts": 1}), Urgency::Transition);
        check(json!({"incarnation": 2, "progress": step_of(8)}), Urgency::Transition);
        check(json!({"resolved": {"precision": "Float32"}}), Urgency::Transition);
        check(json!({"readyReplicas": 1}), Urgency::Transition);
    }

    fn step_of(step: u64) -> Value {
        json!({"step": step, "steps": 20, "tokens": 0, "progressPercentage": 0, "lastUpdatedTime": "2026-01-01T00:00:01Z"})
    }
}
