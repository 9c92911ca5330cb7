//! How fast steps come, and since when none has. It reads no clock.

use std::time::Duration;

/// How many times its usual time a step may take before it is said that none comes. A checkpoint falls between two.
const USUAL_STEPS: u32 = 10;

/// What nobody is told of: a pause as short as this.
const SHORT: Duration = Duration::from_secs(30);

/// How fast steps come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    last: Option<Duration>,
    usual: Option<Duration>,
}

impl Pace {
    /// A step was taken.
    pub(super) fn step(&mut self, now: Duration) {
        if let Some(last) = self.last {
            let took = now.saturating_sub(last);
            self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
        }
        self.last = Some(now);
    }

    /// The ranks are at something else; steps are due again when one has come.
    pub(super) fn pause(&mut self) {
        self.last = None;
    }

    /// How long a step takes as a rule.
    pub(super) fn usual(&self) -> Option<Duration> {
        self.usual
    }

    /// When it will be said that none comes.
    pub(super) fn due(&self) -> Option<Duration> {
        Some(self.last? + (self.usual? * USUAL_STEPS).max(SHORT))
    }

    /// Since when none has come, where one is overdue.
    pub(super) fn still_since(&self, now: Duration) -> Option<Duration> {
        if self.due()? <= now { self.last } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_missed_after_a_multiple_of_its_usual_time_and_only_where_one_is_due() {
        let at = Duration::from_secs;
        let mut pace = Pace::default();
        assert_eq!(pace.still_since(at(1000)), None);
        for second in [0, 20, 40] {
            pace.step(at(second));
        }
        assert_eq!(pace.still_since(at(239)), None);
        assert_eq!(pace.still_since(at(240)), Some(at(40)));
        pace.pause();
        assert_eq!(pace.still_since(at(1000)), None);
        // What lay between is no step's time.
        pace.step(at(1000));
        assert_eq!((pace.usual(), pace.due()), (Some(at(20)), Some(at(1200))));
    }
}
