//! Which jobs are to be visited next. It works as client-go's work queue, in whose words it is measured: what is asked for twice is
//! visited once, and no job is visited twice at once.

mod state;

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use self::state::State;
use crate::jobs::{JobKey, lock};
use crate::metrics::Metrics;

/// Which jobs are to be visited next.
#[derive(Debug)]
pub(crate) struct Visits {
    state: Mutex<State>,
    changed: Notify,
    metrics: Metrics,
}

impl Visits {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), metrics }
    }

    /// Asks for a visit.
    pub(crate) fn add(&self, key: &JobKey) {
        let mut state = lock(&self.state);
        if state.add(key, Instant::now()) {
            self.metrics.queued(1, state.depth());
            self.changed.notify_one();
        }
    }

    /// Waits for a job that is to be visited. Only one may wait; whoever stops waiting has taken none.
    pub(crate) async fn take(&self) -> JobKey {
        loop {
            let next = {
                let mut state = lock(&self.state);
                let now = Instant::now();
                let due = state.add_due(now);
                self.metrics.queued(due, state.depth());
                if let Some((key, waited)) = state.take(now) {
                    self.metrics.taken(waited, state.depth());
                    return key;
                }
                state.next()
            };
            // What is asked for from here on has left a permit.
            match next {
                Some(time) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = sleep_until(time) => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// Says that a visit has ended, and after how long the next one is due.
    pub(crate) fn done(&self, key: &JobKey, again: Option<Duration>) {
        let mut state = lock(&self.state);
        let now = Instant::now();
        self.metrics.worked(state.done(key, now));
        // Beyond the end of time is never.
        if let Some(time) = again.and_then(|delay| now.checked_add(delay)) {
            state.add_at(key, time);
        }
        self.changed.notify_one();
    }
}
