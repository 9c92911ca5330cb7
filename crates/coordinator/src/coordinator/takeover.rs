//! What a coordinator before this one left: an attempt under way, whose end nobody may have counted.

use super::Coordinator;
use crate::State;

impl Coordinator {
    /// The attempt whose ranks run, as far as is known; none where its end was counted. The next coordinator has to be told of it.
    pub fn under_way(&self) -> Option<u64> {
        match self.state {
            State::Running | State::Draining { .. } | State::Aborting { .. } => Some(self.attempt),
            State::Waiting { .. } => self.config.under_way,
            State::BackingOff { .. } | State::Succeeded { .. } | State::Failed { .. } | State::Stopped => None,
        }
    }

    /// An agent runs an attempt. Where it is a later one than was left under way, those before it crashed: an end by disruption is
    /// written down before a machine takes the place of the one that went, and so before the next attempt.
    pub(super) fn take_up(&mut self, attempt: u64) {
        if !matches!(self.state, State::Waiting { .. }) || attempt < self.attempt {
            return;
        }
        let left = self.config.under_way.replace(attempt).unwrap_or(attempt);
        let crashes = u32::try_from(attempt.saturating_sub(left)).unwrap_or(u32::MAX);
        self.restarts = self.restarts.saturating_add(crashes);
        self.crashes = self.crashes.saturating_add(crashes);
    }

    /// A machine went with ranks that were not heard of here.
    pub(super) fn disrupt_beforehand(&mut self) {
        if matches!(self.state, State::Waiting { .. }) && self.config.under_way.take().is_some() {
            self.disruptions += 1;
        }
    }
}
