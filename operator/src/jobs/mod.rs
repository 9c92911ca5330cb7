//! What the leader keeps in memory of each job. All of it can be had again from the API server and the agents.

mod entry;
mod last_written;
mod listed;
mod pace;
mod pods;
mod run_plan;
mod telling;
mod workloads;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use entry::Entry;
pub(crate) use listed::Listed;
pub(crate) use pods::PodIndex;
pub(crate) use workloads::WorkloadIndex;

use crate::resource::TrainingJob;

/// Which job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JobKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl JobKey {
    pub(crate) fn of(job: &TrainingJob) -> Self {
        Self { namespace: job.namespace().to_owned(), name: job.name().to_owned() }
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The jobs that were visited, and what is known of each.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Mutex<HashMap<JobKey, Arc<Mutex<Entry>>>>);

impl Jobs {
    /// What is known of a job; where a job of that name was deleted and made again, it is known for the first time.
    pub(crate) fn enter(&self, job: &TrainingJob) -> Arc<Mutex<Entry>> {
        let mut entries = lock(&self.0);
        let entry = entries.entry(JobKey::of(job)).or_insert_with(|| Arc::new(Mutex::new(Entry::new(job))));
        let is_other = lock(entry).uid() != job.uid();
        if is_other {
            *entry = Arc::new(Mutex::new(Entry::new(job)));
        }
        entry.clone()
    }

    /// What is known of a job that was visited.
    pub(crate) fn get(&self, key: &JobKey) -> Option<Arc<Mutex<Entry>>> {
        lock(&self.0).get(key).cloned()
    }

    /// Forgets a job that is gone.
    pub(crate) fn forget(&self, key: &JobKey) {
        lock(&self.0).remove(key);
    }

    /// The jobs that show a State.
    pub(crate) fn in_state(&self, state: &str) -> Vec<JobKey> {
        let entries: Vec<_> = lock(&self.0).iter().map(|(key, entry)| (key.clone(), entry.clone())).collect();
        entries.into_iter().filter(|(_, entry)| lock(entry).shown_state() == state).map(|(key, _)| key).collect()
    }

    /// How many jobs show each State.
    pub(crate) fn by_state(&self) -> HashMap<String, i64> {
        let entries: Vec<_> = lock(&self.0).values().cloned().collect();
        let mut states = HashMap::new();
        for entry in entries {
            *states.entry(lock(&entry).shown_state().to_owned()).or_default() += 1;
        }
        states
    }
}

/// A lock whose holder panicked is as good as another: nothing is left half done under one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
