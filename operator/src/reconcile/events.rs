//! The events that explain a job's turns, as `kubectl describe` shows them. Pure: two statuses go in.

use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use palimpsest_api::TrainingJobStatus;

use crate::children::OPERATOR;
use crate::hash::hash;
use crate::resource::TrainingJob;

/// A turn of a job, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) is_warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
    /// Which of its kind it is, where they are counted.
    pub(crate) count: Option<u32>,
}

/// The turns between two statuses; `failure` is why the workers failed last, where that is known.
pub(crate) fn turns(old: &TrainingJobStatus, new: &TrainingJobStatus, failure: Option<&str>) -> Vec<Turn> {
    let mut turns = Vec::new();
    let disruptions = new.disruptions.unwrap_or(0);
    if disruptions > old.disruptions.unwrap_or(0) {
        let note = "a worker is taken away; another one takes its place, and goes on from the newest checkpoint";
        turns.push(Turn { count: Some(disruptions), ..turn(true, "Disrupted", note) });
    }
    if new.restarts.unwrap_or(0) > old.restarts.unwrap_or(0) {
        let restarts = new.restarts.unwrap_or(0);
        let why = failure.unwrap_or("the workers failed");
        let note = format!("{why}; the job goes on from the newest checkpoint (restart {restarts})");
        turns.push(Turn { count: Some(restarts), ..turn(true, "Restarted", &note) });
    }
    let (before, now) = (old.condition("Progressing"), new.condition("Progressing"));
    if let Some(now) = now
        && before.map(|before| (before.status, &before.reason)) != Some((now.status, &now.reason))
    {
        let is_quiet = ["Succeeded", "Suspended", "Suspending", "Terminating", "Queued", "Evicting", "PodTerminating"]
            .contains(&now.reason.as_str());
        let is_warning = now.status == palimpsest_api::ConditionStatus::False && !is_quiet;
        turns.push(turn(is_warning, &now.reason, &now.message));
    }
    turns
}

fn turn(is_warning: bool, reason: &str, note: &str) -> Turn {
    Turn { is_warning, reason: reason.to_owned(), note: note.to_owned(), count: None }
}

/// A note's end, which Kubernetes sets at 1024 bytes.
const LONGEST_NOTE: usize = 1000;

impl Turn {
    /// As Kubernetes keeps it, of the core's group: `kubectl describe` orders events by a time that the newer group's have not. The same count, or the same turn of the same second, is the same event, whoever tells of it.
    pub(crate) fn event(&self, job: &TrainingJob, now: Timestamp) -> Event {
        let mut end = self.note.len().min(LONGEST_NOTE);
        while !self.note.is_char_boundary(end) {
            end -= 1;
        }
        let which = self.count.map_or(now.as_second(), i64::from);
        let key = format!("{}\n{}\n{which}", job.uid(), self.reason);
        let hash = hash(&key);
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{hash:016x}", job.name())),
                namespace: job.metadata.namespace.clone(),
                ..ObjectMeta::default()
            },
            type_: Some(if self.is_warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(self.reason.clone()),
            message: Some(self.note[..end].to_owned()),
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            involved_object: job.object_ref(&()),
            source: Some(EventSource { component: Some(OPERATOR.to_owned()), host: None }),
            reporting_component: Some(format!("palimpsest.dev/{OPERATOR}")),
            reporting_instance: Some(OPERATOR.to_owned()),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn mk_status(restarts: u32, reason: &str, message: &str) -> TrainingJobStatus {
        let progressing = json!({
            "type": "Progressing", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
            "reason": reason, "message": message,
        });
        serde_json::from_value(json!({"restarts": restarts, "conditions": [progressing]})).unwrap()
    }

    fn check(new: &TrainingJobStatus, failure: Option<&str>, expected: Expect) {
        let old = mk_status(1, "Starting", "the workers are starting");
        let turns = turns(&old, new, failure);
        let lines: Vec<_> = turns.iter().map(|turn| format!("{}: {}", turn.reason, turn.note)).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn an_event_says_what_happened_and_why() {
        let loading = |restarts| mk_status(restarts, "Loading", "the workers load the model");
        check(&loading(1), None, expect!["Loading: the workers load the model"]);
        check(
            &loading(2),
            Some("the rank was killed by signal 9"),
            expect![[r#"
                Restarted: the rank was killed by signal 9; the job goes on from the newest checkpoint (restart 2)
                Loading: the workers load the model"#]],
        );
    }
}
