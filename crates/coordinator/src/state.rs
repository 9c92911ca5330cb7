//! Where a job stands.

use std::time::Duration;

use crate::Cause;

/// Where a job stands. The last three are ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// For agents that are not attached, or not idle yet.
    Waiting {
        /// When the job fails if they still are not.
        until: Duration,
    },
    /// The newest attempt is under way.
    Running,
    /// An attempt crashed; the next begins when the time is over.
    BackingOff {
        /// When that is.
        until: Duration,
        /// Why the attempt crashed.
        message: String,
    },
    /// Told to stop; the last checkpoint is being written.
    Draining {
        /// When it is stopped regardless.
        until: Duration,
    },
    /// Told to stop at once.
    Aborting {
        /// When it counts as stopped regardless.
        until: Duration,
    },
    /// The output is published.
    Succeeded {
        /// Whether it was so before this coordinator began.
        already: bool,
    },
    /// It cannot be finished.
    Failed {
        /// Whose it is to mend.
        cause: Cause,
        /// One sentence.
        message: String,
    },
    /// It stopped as it was told to, and can go on later.
    Stopped,
}

impl State {
    /// Whether nothing follows.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Succeeded { .. } | Self::Failed { .. } | Self::Stopped)
    }
}
