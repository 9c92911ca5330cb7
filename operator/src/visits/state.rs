//! What a queue holds. Pure: time is an argument.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::jobs::JobKey;

/// What a queue holds.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Those that may be begun, the longest first.
    ready: VecDeque<JobKey>,
    /// Those that are asked for and not begun, since when. One that is under way is asked for again without being ready.
    asked: HashMap<JobKey, Instant>,
    under_way: HashMap<JobKey, Instant>,
    /// Those whose time comes later.
    later: BTreeSet<(Instant, JobKey)>,
    times: HashMap<JobKey, Instant>,
}

impl State {
    /// Asks for a visit now; false where one is asked for already.
    pub(super) fn add(&mut self, key: &JobKey, now: Instant) -> bool {
        if self.asked.contains_key(key) {
            return false;
        }
        self.asked.insert(key.clone(), now);
        if !self.under_way.contains_key(key) {
            self.ready.push_back(key.clone());
        }
        true
    }

    /// Asks for a visit at a time, or earlier where one is due earlier.
    pub(super) fn add_at(&mut self, key: &JobKey, time: Instant) {
        if self.times.get(key).is_some_and(|earlier| *earlier <= time) {
            return;
        }
        self.forget_time(key);
        self.times.insert(key.clone(), time);
        self.later.insert((time, key.clone()));
    }

    /// Asks for the visits whose time has come, and says for how many.
    pub(super) fn add_due(&mut self, now: Instant) -> u64 {
        let mut added = 0;
        while let Some((_, key)) = self.later.first().filter(|(time, _)| *time <= now).cloned() {
            self.forget_time(&key);
            added += u64::from(self.add(&key, now));
        }
        added
    }

    /// Begins the visit that has waited longest; gives how long, too. The visit itself finds out what time has to bring next.
    pub(super) fn take(&mut self, now: Instant) -> Option<(JobKey, Duration)> {
        let key = self.ready.pop_front()?;
        let since = self.asked.remove(&key).unwrap_or(now);
        self.forget_time(&key);
        self.under_way.insert(key.clone(), now);
        Some((key, now - since))
    }

    /// Ends a visit; gives how long it took. What was asked for meanwhile is ready now.
    pub(super) fn done(&mut self, key: &JobKey, now: Instant) -> Duration {
        let since = self.under_way.remove(key).unwrap_or(now);
        if self.asked.contains_key(key) {
            self.ready.push_back(key.clone());
        }
        now - since
    }

    /// When the next visit is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.later.first().map(|(time, _)| *time)
    }

    /// How many visits are asked for and not begun.
    pub(super) fn depth(&self) -> usize {
        self.asked.len()
    }

    fn forget_time(&mut self, key: &JobKey) {
        if let Some(time) = self.times.remove(key) {
            self.later.remove(&(time, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_key(name: &str) -> JobKey {
        JobKey { namespace: "team".to_owned(), name: name.to_owned() }
    }

    fn at(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_asked_for_twice_is_visited_once_and_never_twice_at_once() {
        let (now, key) = (Instant::now(), mk_key("zh"));
        let mut state = State::default();
        assert!(state.add(&key, now));
        assert!(!state.add(&key, at(now, 1)));
        assert_eq!(state.take(at(now, 3)), Some((key.clone(), Duration::from_secs(3))));
        // Asked for while it is visited: once more, afterwards.
        assert!(state.add(&key, at(now, 4)));
        assert_eq!((state.depth(), state.take(at(now, 4))), (1, None));
        assert_eq!(state.done(&key, at(now, 5)), Duration::from_secs(2));
        assert_eq!(state.take(at(now, 6)), Some((key.clone(), Duration::from_secs(2))));
        state.done(&key, at(now, 6));
        assert_eq!((state.depth(), state.take(at(now, 9))), (0, None));
    }

    #[test]
    fn the_earliest_time_counts_and_a_visit_makes_it_void() {
        let (now, key) = (Instant::now(), mk_key("zh"));
        let mut state = State::default();
        state.add_at(&key, at(now, 5));
        state.add_at(&key, at(now, 9));
        assert_eq!((state.add_due(at(now, 4)), state.next()), (0, Some(at(now, 5))));
        state.add_at(&key, at(now, 2));
        assert_eq!((state.add_due(at(now, 4)), state.next(), state.depth()), (1, None, 1));
        assert!(state.take(at(now, 4)).is_some());
        state.done(&key, at(now, 4));
        state.add_at(&key, at(now, 20));
        state.add(&key, at(now, 6));
        assert!(state.take(at(now, 6)).is_some());
        assert_eq!(state.next(), None);
    }
}
