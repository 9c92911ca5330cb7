//! The jobs as the API server last told of them, and which of them a change is a reason to visit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kube::runtime::watcher::Event;

use super::{JobKey, lock};
use crate::resource::TrainingJob;

/// The jobs as the API server last told of them.
#[derive(Debug, Default)]
pub(crate) struct Listed(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    jobs: HashMap<JobKey, Arc<TrainingJob>>,
    /// A list of all jobs that is under way.
    list: HashMap<JobKey, Arc<TrainingJob>>,
}

/// What follows from an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Concerned {
    /// To be visited.
    pub(crate) changed: Vec<JobKey>,
    /// Not there any more.
    pub(crate) gone: Vec<JobKey>,
}

impl Listed {
    /// Takes in what a watch says.
    pub(crate) fn watch(&self, event: Event<TrainingJob>) -> Concerned {
        let inner = &mut *lock(&self.0);
        let mut concerned = Concerned::default();
        match event {
            Event::Init => inner.list.clear(),
            Event::InitApply(job) => {
                inner.list.insert(JobKey::of(&job), Arc::new(slim(job)));
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut inner.jobs, std::mem::take(&mut inner.list));
                let is_changed = |(key, job): &(&JobKey, &Arc<TrainingJob>)| is_reason(before.get(*key), job);
                concerned.changed = inner.jobs.iter().filter(is_changed).map(|(key, _)| key.clone()).collect();
                concerned.gone = before.into_keys().filter(|key| !inner.jobs.contains_key(key)).collect();
            }
            Event::Apply(job) => {
                let key = JobKey::of(&job);
                let job = Arc::new(slim(job));
                let before = inner.jobs.insert(key.clone(), job.clone());
                if is_reason(before.as_ref(), &job) {
                    concerned.changed.push(key);
                }
            }
            Event::Delete(job) => {
                let key = JobKey::of(&job);
                inner.jobs.remove(&key);
                concerned.gone.push(key);
            }
        }
        concerned
    }

    /// Takes in a job that was asked for. What the watch has told of since then, and that it is gone, is newer.
    pub(crate) fn renew(&self, job: TrainingJob) {
        if let Some(listed) = lock(&self.0).jobs.get_mut(&JobKey::of(&job))
            && listed.version() < job.version()
        {
            *listed = Arc::new(slim(job));
        }
    }

    /// A job, if it is there.
    pub(crate) fn get(&self, key: &JobKey) -> Option<Arc<TrainingJob>> {
        lock(&self.0).jobs.get(key).cloned()
    }
}

/// What `kubectl apply` keeps of an object for itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Who wrote which field, and with which words, is nothing to us, and larger than the rest.
fn slim(mut job: TrainingJob) -> TrainingJob {
    job.metadata.managed_fields = None;
    if let Some(annotations) = &mut job.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    job
}

/// Whether a change is a reason to visit. What a status says comes from here: it is none.
fn is_reason(before: Option<&Arc<TrainingJob>>, now: &TrainingJob) -> bool {
    let Some(before) = before else { return true };
    let (before, now) = (&before.metadata, &now.metadata);
    before.uid != now.uid
        || before.generation != now.generation
        || before.labels != now.labels
        || before.finalizers != now.finalizers
        || before.deletion_timestamp != now.deletion_timestamp
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mk_job(name: &str, generation: u32) -> TrainingJob {
        let metadata = json!({"name": name, "namespace": "team", "uid": name, "generation": generation});
        serde_json::from_value(json!({"metadata": metadata, "spec": {}})).unwrap()
    }

    fn names(keys: &[JobKey]) -> Vec<&str> {
        let mut names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// Plays events, and says what follows from the last.
    fn check(events: Vec<Event<TrainingJob>>, changed: &[&str], gone: &[&str]) {
        let listed = Listed::default();
        let concerned = events.into_iter().map(|event| listed.watch(event)).last().unwrap();
        assert_eq!((names(&concerned.changed), names(&concerned.gone)), (changed.to_vec(), gone.to_vec()));
        assert!(concerned.changed.iter().all(|key| listed.get(key).is_some()));
    }

    #[test]
    fn what_is_to_be_visited_is_there() {
        let job = mk_job;
        let listed =
            || vec![Event::Init, Event::InitApply(job("a", 1)), Event::InitApply(job("b", 1)), Event::InitDone];
        let then = |events: Vec<Event<TrainingJob>>| listed().into_iter().chain(events).collect::<Vec<_>>();
        check(listed(), &["a", "b"], &[]);
        check(then(vec![Event::Apply(job("a", 1))]), &[], &[]);
        check(then(vec![Event::Apply(job("a", 2))]), &["a"], &[]);
        check(then(vec![Event::Apply(job("c", 1))]), &["c"], &[]);
        check(then(vec![Event::Delete(job("b", 1))]), &[], &["b"]);
        // A watch that broke off missed that one went, one changed and one came.
        let again = vec![Event::Init, Event::InitApply(job("a", 1)), Event::InitApply(job("c", 1)), Event::InitDone];
        check(then(again), &["c"], &["b"]);
        check(then(vec![Event::Init, Event::InitApply(job("a", 2)), Event::InitDone]), &["a"], &["b"]);
    }

    #[test]
    fn what_was_asked_for_replaces_what_is_older_and_brings_back_nothing() {
        let job = |name: &str, version: u32| {
            let mut job = mk_job(name, 1);
            job.metadata.resource_version = Some(version.to_string());
            job
        };
        let listed = Listed::default();
        listed.watch(Event::Apply(job("a", 9)));
        for (asked, expected) in [(8, 9), (10, 10)] {
            listed.renew(job("a", asked));
            assert_eq!(listed.get(&JobKey::of(&job("a", 0))).unwrap().version(), job("a", expected).version());
        }
        listed.renew(job("b", 9));
        assert!(listed.get(&JobKey::of(&job("b", 0))).is_none());
    }
}
