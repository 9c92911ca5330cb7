//! How often figures are written: a budget for the whole operator, so that ten thousand jobs are no heavier for an API server
//! than one. It reads no clock.

use std::time::Duration;

/// When the next write of figures may be.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// Between two writes, whichever jobs they are of.
    interval: Duration,
    next: Duration,
}

impl Budget {
    /// Of so many writes a second.
    pub(crate) fn new(writes_per_second: u32) -> Self {
        Self { interval: Duration::from_secs(1) / writes_per_second.max(1), next: Duration::ZERO }
    }

    /// Reserves a write at `earliest` or later, and says when it is.
    pub(crate) fn reserve(&mut self, earliest: Duration) -> Duration {
        let time = self.next.max(earliest);
        self.next = time + self.interval;
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_keep_their_distance_however_many_ask() {
        let mut budget = Budget::new(10);
        let at = Duration::from_millis;
        let times: Vec<_> = (0..5).map(|_| budget.reserve(at(1000)).as_millis()).collect();
        assert_eq!(times, [1000, 1100, 1200, 1300, 1400]);
        // What was not used up is not saved up.
        assert_eq!(budget.reserve(at(60_000)), at(60_000));
        assert_eq!(budget.reserve(at(60_000)), at(60_100));
    }

    /// Jobs that always have figures, and write them `interval` after the last time at the earliest: how often each comes to write
    /// in a minute, the least and the most.
    fn writes_in_a_minute(jobs: usize) -> (u32, u32) {
        let (interval, minute) = (Duration::from_secs(2), Duration::from_secs(60));
        let mut budget = Budget::new(20);
        let mut due: Vec<_> = (0..jobs).map(|job| (budget.reserve(Duration::ZERO), job)).collect();
        let mut writes = vec![0; jobs];
        while let Some(next) = due.iter_mut().min().filter(|(time, _)| *time < minute) {
            writes[next.1] += 1;
            next.0 = budget.reserve(next.0 + interval);
        }
        (writes.iter().copied().min().unwrap_or(0), writes.iter().copied().max().unwrap_or(0))
    }

    #[test]
    fn few_jobs_are_told_of_often_and_many_share_what_the_operator_may_write() {
        assert_eq!(writes_in_a_minute(1), (30, 30));
        assert_eq!(writes_in_a_minute(30), (30, 30));
        // 20 a second over all of them, each as often as the others.
        assert_eq!(writes_in_a_minute(400), (3, 3));
    }
}
