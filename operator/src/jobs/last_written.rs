//! The status that was written last. As long as one operator leads, only it writes there, and no cache knows better; but a write of the
//! one that led before may come late. Each write says which sight of the job it goes by, so that such a one is noticed.

use palimpsest_api::TrainingJobStatus;

use crate::resource::{TrainingJob, Version};

/// The status that was written last.
#[derive(Debug)]
pub(super) struct LastWritten {
    status: TrainingJobStatus,
    version: Version,
    /// What was to be written when no answer came.
    unanswered: Option<TrainingJobStatus>,
}

impl LastWritten {
    /// As whoever leads for the first time finds it.
    pub(super) fn of(job: &TrainingJob) -> Self {
        Self { status: job.status.clone(), version: job.version(), unanswered: None }
    }

    pub(super) fn status(&self) -> &TrainingJobStatus {
        &self.status
    }

    /// Takes in a sight of the job; true where it holds what nobody wrote who leads now.
    pub(super) fn take_in(&mut self, job: &TrainingJob) -> bool {
        if job.version() <= self.version {
            return false;
        }
        if self.unanswered.as_ref() == Some(&job.status) {
            self.status = job.status.clone();
        }
        let is_known = self.status == job.status;
        if is_known {
            self.version = job.version();
            self.unanswered = None;
        }
        !is_known
    }

    /// A status is about to be written: gives which sight of the job it goes by.
    pub(super) fn writes(&mut self, status: &TrainingJobStatus) -> Version {
        self.unanswered = Some(status.clone());
        self.version
    }

    /// It was written: the job is like this now.
    pub(super) fn wrote(&mut self, job: TrainingJob) {
        self.version = job.version();
        self.status = job.status;
        self.unanswered = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mk_job(version: u32, attempt: u64) -> TrainingJob {
        let metadata = json!({"name": "zh", "namespace": "team", "uid": "1", "resourceVersion": version.to_string()});
        serde_json::from_value(json!({"metadata": metadata, "spec": {}, "status": {"attempt": attempt}})).unwrap()
    }

    /// Of a leader that found attempt 1 in version 7, wrote attempt 2 as version 9, and heard of no answer to attempt 3.
    fn check(version: u32, attempt: u64, expected: bool) {
        let mut written = LastWritten::of(&mk_job(7, 1));
        assert_eq!(written.writes(&mk_job(0, 2).status), mk_job(7, 1).version());
        written.wrote(mk_job(9, 2));
        assert_eq!(written.writes(&mk_job(0, 3).status), mk_job(9, 2).version());
        assert_eq!(written.take_in(&mk_job(version, attempt)), expected, "version {version}, attempt {attempt}");
        let after = written.writes(&TrainingJobStatus::default());
        let is_newer = version > 9 && !expected;
        assert_eq!(after, mk_job(if is_newer { version } else { 9 }, 0).version());
        assert_eq!(written.status() == &mk_job(0, 3).status, is_newer && attempt == 3);
    }

    #[test]
    fn a_status_that_another_wrote_is_told_from_what_is_old_or_ones_own() {
        // A watch that lags.
        check(8, 1, false);
        check(9, 2, false);
        // Somebody changed the spec.
        check(10, 2, false);
        // The write without an answer came through.
        check(10, 3, false);
        // The leader before had a write under way.
        check(10, 1, true);
        check(12, 5, true);
    }
}
