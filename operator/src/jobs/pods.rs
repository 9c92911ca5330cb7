//! The pods of all jobs, by job. A reflector's store has no index, and to look through every pod for every job takes as many
//! looks as there are pods times jobs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;

use super::{JobKey, lock};
use crate::observe::PodView;

/// The pods of all jobs.
#[derive(Debug, Default)]
pub(crate) struct PodIndex(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Most jobs have one pod, and a map of a B-tree has room for eleven from the first: what is large stands outside of it.
    jobs: HashMap<JobKey, BTreeMap<String, Box<Held>>>,
    /// Which list of all pods is the newest that was begun.
    list: u64,
}

#[derive(Debug)]
struct Held {
    pod: PodView,
    /// The list in which, or after whose beginning, it was seen.
    list: u64,
}

impl PodIndex {
    /// Takes in what a watch says, and gives the jobs that it is about.
    pub(crate) fn watch(&self, event: &Event<Pod>) -> Vec<JobKey> {
        let mut inner = lock(&self.0);
        match event {
            Event::Init => {
                inner.list += 1;
                Vec::new()
            }
            Event::Apply(pod) | Event::InitApply(pod) => inner.insert(pod).into_iter().collect(),
            Event::Delete(pod) => inner.remove(pod).into_iter().collect(),
            Event::InitDone => inner.drop_those_not_listed(),
        }
    }

    /// Takes in a pod that was just made: the watch may tell of it later than the job is looked at again.
    pub(crate) fn made(&self, pod: &Pod) {
        lock(&self.0).insert(pod);
    }

    /// Takes in that a pod was just told to go: until the watch tells of it, it would be told again at each look.
    pub(crate) fn told_to_go(&self, pod: &Pod) {
        let Some(pod) = PodView::of(pod) else { return };
        let key = JobKey { namespace: pod.namespace, name: pod.job };
        let mut inner = lock(&self.0);
        let held = inner.jobs.get_mut(&key).and_then(|pods| pods.get_mut(&pod.name));
        if let Some(held) = held.filter(|held| held.pod.uid == pod.uid) {
            held.pod.leaves_by = pod.leaves_by;
        }
    }

    /// Takes in the pods of a job as they are, where the watch has not told of them, and gives all of their names.
    pub(crate) fn find(&self, uid: &str, pods: &[Pod]) -> Vec<String> {
        let inner = &mut *lock(&self.0);
        let mut names = Vec::new();
        for pod in pods {
            let Some(view) = PodView::of(pod).filter(|view| view.owner == uid) else { continue };
            let key = JobKey { namespace: view.namespace, name: view.job };
            if !inner.jobs.get(&key).is_some_and(|pods| pods.contains_key(&view.name)) {
                inner.insert(pod);
            }
            names.push(view.name);
        }
        names
    }

    /// The pods of a job, by index and incarnation.
    pub(crate) fn of(&self, job: &JobKey, uid: &str) -> Vec<PodView> {
        let inner = lock(&self.0);
        let held = inner.jobs.get(job).into_iter().flat_map(BTreeMap::values);
        // Those of a job of the same name that was deleted are not its own.
        let mut pods: Vec<PodView> = held.map(|held| &held.pod).filter(|pod| pod.owner == uid).cloned().collect();
        pods.sort_by_key(|pod| pod.identity);
        pods
    }

    /// The job of a pod with this name and UID.
    pub(crate) fn job_of(&self, namespace: &str, pod: &str, uid: &str) -> Option<JobKey> {
        let inner = lock(&self.0);
        // A job's name is its pods' without the last two parts.
        let (name, _) = pod.rsplit_once('-')?;
        let (name, _) = name.rsplit_once('-')?;
        let key = JobKey { namespace: namespace.to_owned(), name: name.to_owned() };
        let held = inner.jobs.get(&key)?.get(pod)?;
        (held.pod.uid == uid).then_some(key)
    }
}

impl Inner {
    fn insert(&mut self, pod: &Pod) -> Option<JobKey> {
        let pod = PodView::of(pod)?;
        let key = JobKey { namespace: pod.namespace.clone(), name: pod.job.clone() };
        let held = Box::new(Held { list: self.list, pod });
        self.jobs.entry(key.clone()).or_default().insert(held.pod.name.clone(), held);
        Some(key)
    }

    fn remove(&mut self, pod: &Pod) -> Option<JobKey> {
        let pod = PodView::of(pod)?;
        let key = JobKey { namespace: pod.namespace, name: pod.job };
        let pods = self.jobs.get_mut(&key)?;
        // Another pod of that name is not meant.
        if pods.get(&pod.name).is_some_and(|held| held.pod.uid == pod.uid) {
            pods.remove(&pod.name);
        }
        if pods.is_empty() {
            self.jobs.remove(&key);
        }
        Some(key)
    }

    fn drop_those_not_listed(&mut self) -> Vec<JobKey> {
        let list = self.list;
        let mut concerned = Vec::new();
        self.jobs.retain(|key, pods| {
            let before = pods.len();
            pods.retain(|_, held| held.list == list);
            if pods.len() != before {
                concerned.push(key.clone());
            }
            !pods.is_empty()
        });
        concerned
    }
}
