//! The speed of the last steps, which the time left is told by.

use std::collections::VecDeque;

use crate::records::StepRecord;

/// How many steps the pace is taken over.
const PACE_STEPS: usize = 20;

/// Seconds and tokens of the last steps.
#[derive(Debug, Default)]
pub(crate) struct Pace(VecDeque<(f64, u64)>);

impl Pace {
    pub(crate) fn add(&mut self, record: &StepRecord) {
        self.0.push_back((record.seconds, record.tokens));
        if self.0.len() > PACE_STEPS {
            self.0.pop_front();
        }
    }

    pub(crate) fn seconds_per_step(&self) -> f64 {
        self.0.iter().map(|(seconds, _)| seconds).sum::<f64>() / self.0.len().max(1) as f64
    }

    pub(crate) fn tokens_per_second(&self) -> f64 {
        let seconds: f64 = self.0.iter().map(|(seconds, _)| seconds).sum();
        self.0.iter().map(|(_, tokens)| *tokens as f64).sum::<f64>() / seconds.max(1e-9)
    }
}
