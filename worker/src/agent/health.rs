//! Whether an agent is of use, as those who watch its pod ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of an agent. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    is_ready: Arc<AtomicBool>,
}

impl Health {
    /// A worker is ready while a coordinator has it, and while its rank trains: that goes on without one.
    pub(super) fn set(&self, is_attached: bool, has_rank: bool) {
        self.is_ready.store(is_attached || has_rank, Ordering::Relaxed);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }
}
