//! What follows a crash: another attempt, later each time, up to a limit.

use std::time::Duration;

use super::Coordinator;
use crate::guards::Guard;
use crate::{Cause, Command, State};

/// The delay after the second crash without a new checkpoint in between; it doubles with each. After the first there is
/// none.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// The longest delay before an attempt.
const LONGEST_DELAY: Duration = Duration::from_secs(300);

impl Coordinator {
    /// Ranks of the newest attempt crashed.
    pub(super) fn crash(&mut self, now: Duration, message: String, commands: &mut Vec<Command>) {
        // When it is to stop anyway, a crash is a stop; one crash brings down the ranks of other agents too; and what is
        // published stays.
        if self.state != State::Running || (self.success.is_some() && self.guards.stands(Guard::SuccessStays)) {
            return;
        }
        if let Some(message) = self.disruption.take() {
            self.disruptions += 1;
            self.abort_where(|_| true, commands);
            self.state = State::BackingOff { until: now, message };
            return;
        }
        self.crash = Some((self.attempt, message.clone()));
        self.back_off(now, message, commands);
    }

    /// An agent's machine ended before its ranks were begun.
    pub(super) fn crash_beforehand(&mut self, now: Duration, message: String, commands: &mut Vec<Command>) {
        if matches!(self.state, State::Waiting { .. } | State::BackingOff { .. }) && self.success.is_none() {
            self.config.crashed = None;
            self.config.under_way = None;
            self.crash = Some((self.attempt, message.clone()));
            self.back_off(now, message, commands);
        }
    }

    fn back_off(&mut self, now: Duration, message: String, commands: &mut Vec<Command>) {
        // Of one that the coordinator before has counted, agents tell again.
        let is_new = self.config.crashed.take() != Some(self.attempt);
        if is_new {
            self.crashes += 1;
        }
        if self.crashes > self.config.backoff_limit {
            let message = match self.config.backoff_limit {
                0 => message,
                limit => format!("{message} (after {limit} restarts without a new checkpoint)"),
            };
            return self.end(State::Failed { cause: Cause::Internal, message }, commands);
        }
        if is_new {
            self.restarts += 1;
        }
        if self.guards.stands(Guard::CrashOfOne) {
            self.abort_where(|_| true, commands);
        }
        let delay = match self.crashes {
            1 => Duration::ZERO,
            crashes => (FIRST_DELAY * (1 << (crashes - 2).min(16))).min(LONGEST_DELAY),
        };
        self.state = State::BackingOff { until: now + delay, message };
    }
}
