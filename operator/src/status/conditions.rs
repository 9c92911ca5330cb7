//! The conditions of a job. All of them are there from the first visit on.

use k8s_openapi::jiff::Timestamp;
use palimpsest_api::{Condition, ConditionStatus, TrainingJobStatus};

use super::words::Words;
use crate::plan::Verdict;
use crate::queue::Place;

/// What is said of a job in conditions. When a condition changed last is kept where it did not.
pub(super) fn conditions(
    verdict: &Verdict,
    place: &Place,
    words: &Words,
    previous: &TrainingJobStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    use ConditionStatus::{False, True, Unknown};
    // What ended stays as it was said then: its conditions are not touched any more.
    if matches!(verdict, Verdict::Over) {
        return previous.conditions.clone();
    }
    let progressing = match verdict {
        Verdict::Starting(None) | Verdict::Running(_) | Verdict::Suspending | Verdict::Evicting(_) => True,
        _ => False,
    };
    let suspended = match verdict {
        Verdict::Suspended => (True, "Suspended", "spec.suspend is true; set it to false to go on"),
        Verdict::Suspending => (False, "Suspending", "the workers write a last checkpoint"),
        _ => (False, "NotSuspended", ""),
    };
    let unfinished = (Unknown, "NotFinished", "");
    let (succeeded, failed) = match verdict {
        Verdict::Succeeds { .. } => ((True, words.reason.as_str(), words.message.as_str()), (False, "Succeeded", "")),
        Verdict::Fails { reason, message } => ((False, "Failed", ""), (True, reason.as_str(), message.as_str())),
        _ => (unfinished, unfinished),
    };
    let progressing = (progressing, words.reason.as_str(), words.message.as_str());
    let mut said =
        vec![("Progressing", progressing), ("Suspended", suspended), ("Succeeded", succeeded), ("Failed", failed)];
    said.extend(quota(verdict, place).map(|quota| ("QuotaReserved", quota)));
    let said = said.into_iter().map(|(kind, (status, reason, message))| {
        let before = previous.condition(kind);
        let unchanged = before.filter(|condition| condition.status == status);
        Condition {
            r#type: kind.to_owned(),
            status,
            observed_generation: generation,
            last_transition_time: unchanged
                .map_or_else(|| super::time(now), |before| before.last_transition_time.clone()),
            reason: reason.to_owned(),
            message: shorten(message),
        }
    });
    said.collect()
}

/// Whether a queued job has quota.
fn quota<'w>(verdict: &Verdict, place: &'w Place) -> Option<(ConditionStatus, &'w str, &'w str)> {
    use ConditionStatus::{False, True};
    Some(match (place, verdict) {
        (Place::Free, _) => return None,
        (_, Verdict::Succeeds { .. } | Verdict::Fails { .. }) => (False, "Finished", ""),
        (_, Verdict::Suspended) => (False, "Suspended", "a suspended job is in no queue"),
        (Place::Admitted { message, .. }, _) => (True, "QuotaReserved", message),
        (Place::Unserved { message }, _) => (False, "NoKueue", message),
        (Place::Waiting { has_quota, reason, message }, _) => (if *has_quota { True } else { False }, reason, message),
    })
}

/// A message may have 32768 characters; nobody reads as many.
const LONGEST_MESSAGE: usize = 2048;

fn shorten(message: &str) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}
