//! How an agent says why it ended to those who see no stream: an exit code, and a message that Kubernetes keeps in the pod's
//! status.

use std::path::PathBuf;

use palimpsest_api::FailureReason;
use palimpsest_proto::control::{failure, finished, report};
use serde::Serialize;

use super::memory::Memory;
use super::session::End;

/// Where a container leaves its last words.
const KUBERNETES: &str = "/dev/termination-log";

/// What Kubernetes keeps of it is 4096 bytes; the rest of the object, and escapes, need room too.
const MOST_MESSAGE_BYTES: usize = 2048;

/// The exit code of an agent whose machine is taken away: that of a process that SIGTERM ends.
const TAKEN_AWAY: u8 = 143;

/// Where the message goes. It is written when a rank ends, and again when the agent does: an agent that is killed has said
/// what it knew.
#[derive(Clone, Debug)]
pub(super) struct TerminationFile(Option<PathBuf>);

/// Why an agent ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Termination {
    pub(super) cause: Cause,
    /// Of a failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    message: String,
    attempt: u64,
    /// The newest step.
    step: u64,
    /// The step of the newest checkpoint.
    checkpoint: Option<u64>,
    /// Of the published model's manifest.
    #[serde(skip_serializing_if = "String::is_empty")]
    digest: String,
}

/// Who or what ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Cause {
    /// The output is published.
    Succeeded,
    /// It was told to stop, or to leave.
    Told,
    /// What the user can mend.
    User,
    /// A crash, a lost device, a bug.
    Internal,
    /// Its machine or pod is taken away.
    TakenAway,
    /// Nobody coordinated it any more.
    Orphaned,
}

impl TerminationFile {
    /// The file that was named; else where Kubernetes looks, if this is a container of it.
    pub(super) fn new(named: Option<PathBuf>, is_in_pod: bool) -> Self {
        let default = PathBuf::from(KUBERNETES);
        Self(named.or_else(|| (is_in_pod && default.exists()).then_some(default)))
    }

    pub(super) fn write(&self, termination: &Termination) {
        let Some(path) = &self.0 else { return };
        let Ok(text) = serde_json::to_vec(termination) else { return };
        // In place: Kubernetes mounts the file itself.
        if let Err(error) = std::fs::write(path, text) {
            tracing::warn!(%error, "--termination-file {}: it cannot be written; name another file", path.display());
        }
    }
}

impl Termination {
    /// Of an agent whose newest rank ended so; while the agent lives, `end` is none.
    pub(super) fn new(end: Option<End>, rank: Option<(u64, &report::Report)>, memory: &Memory) -> Self {
        let (attempt, told) = rank.map_or((0, None), |(attempt, told)| (attempt, Some(told)));
        let (cause, reason, message) = match (told, end) {
            (Some(report::Report::Finished(told)), _) if told.outcome() != finished::Outcome::Stopped => {
                (Cause::Succeeded, String::new(), "the output is published".to_owned())
            }
            (Some(report::Report::Failure(told)), _) if !is_obedience(&told.reason) => {
                let cause = match told.cause() {
                    failure::Cause::User => Cause::User,
                    failure::Cause::Internal | failure::Cause::Unspecified => Cause::Internal,
                };
                (cause, told.reason.clone(), shorten(&told.message))
            }
            (_, Some(End::TakenAway)) => {
                (Cause::TakenAway, String::new(), "the worker was asked to end (SIGTERM)".to_owned())
            }
            (_, Some(End::Orphaned)) => {
                (Cause::Orphaned, String::new(), "nobody coordinated the worker any more".to_owned())
            }
            (_, Some(End::Left | End::Unwanted) | None) => {
                (Cause::Told, String::new(), "the worker was told to stop".to_owned())
            }
        };
        let digest = match told {
            Some(report::Report::Finished(told)) => told.digest.clone(),
            _ => String::new(),
        };
        Self { cause, reason, message, attempt, step: memory.step(), checkpoint: memory.checkpoint(), digest }
    }

    /// 0 where all is as it was asked for, 2 for what the user can mend, 143 after SIGTERM, 1 for the rest.
    pub(super) fn exit_code(&self) -> u8 {
        match self.cause {
            Cause::Succeeded | Cause::Told | Cause::Orphaned => 0,
            Cause::User => 2,
            Cause::Internal => 1,
            Cause::TakenAway => TAKEN_AWAY,
        }
    }
}

/// Whether a rank failed because it was told to.
fn is_obedience(reason: &str) -> bool {
    [FailureReason::Aborted, FailureReason::Superseded, FailureReason::Leaving]
        .iter()
        .any(|obedient| obedient.to_string() == reason)
}

fn shorten(message: &str) -> String {
    if message.len() <= MOST_MESSAGE_BYTES {
        return message.to_owned();
    }
    let end = (0..=MOST_MESSAGE_BYTES).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &message[..end])
}

#[cfg(test)]
mod tests {
    use palimpsest_proto::control;

    use super::*;

    fn failed(cause: failure::Cause, reason: FailureReason) -> report::Report {
        let message = "it failed".to_owned();
        report::Report::Failure(control::Failure { cause: cause.into(), message, reason: reason.to_string() })
    }

    fn finished(outcome: finished::Outcome) -> report::Report {
        report::Report::Finished(control::Finished { outcome: outcome.into(), step: 9, ..control::Finished::default() })
    }

    fn check(end: End, rank: Option<report::Report>, cause: Cause, code: u8) {
        let termination = Termination::new(Some(end), rank.as_ref().map(|report| (3, report)), &Memory::default());
        assert_eq!((termination.cause, termination.exit_code()), (cause, code), "{end:?} {rank:?}");
    }

    #[test]
    fn the_end_of_the_rank_counts_before_that_of_the_agent() {
        use failure::Cause::{Internal, User};
        check(End::Left, None, Cause::Told, 0);
        check(End::Left, Some(finished(finished::Outcome::Succeeded)), Cause::Succeeded, 0);
        check(End::Left, Some(finished(finished::Outcome::Stopped)), Cause::Told, 0);
        check(End::Left, Some(failed(User, FailureReason::DatasetNotFound)), Cause::User, 2);
        check(End::Left, Some(failed(Internal, FailureReason::RankKilled)), Cause::Internal, 1);
        check(End::Left, Some(failed(Internal, FailureReason::Aborted)), Cause::Told, 0);
        check(End::TakenAway, None, Cause::TakenAway, 143);
        check(End::TakenAway, Some(finished(finished::Outcome::Stopped)), Cause::TakenAway, 143);
        check(End::TakenAway, Some(finished(finished::Outcome::AlreadyFinished)), Cause::Succeeded, 0);
        check(End::TakenAway, Some(failed(Internal, FailureReason::Aborted)), Cause::TakenAway, 143);
        check(End::Orphaned, Some(finished(finished::Outcome::Stopped)), Cause::Orphaned, 0);
    }

    #[test]
    fn a_message_fits_into_what_kubernetes_keeps() {
        let long = failed(failure::Cause::User, FailureReason::InvalidJob);
        let report::Report::Failure(mut long) = long else { panic!("{long:?}") };
        long.message = "\u{6f22}\"".repeat(2000);
        let long = report::Report::Failure(long);
        let termination = Termination::new(None, Some((u64::MAX, &long)), &Memory::default());
        let text = serde_json::to_string(&termination).unwrap();
        assert!(text.len() <= 4096, "{}", text.len());
        assert!(text.contains("…"));
    }
}
