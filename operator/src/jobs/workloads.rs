//! The Workloads of all jobs, and whether there can be any: Kueue may be installed later, or never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use kube::Resource;
use kube::runtime::watcher::Event;

use super::{JobKey, lock};
use crate::queue::{Served, Workload, workload_name};
use crate::resource::TrainingJob;

/// The Workloads of all jobs.
#[derive(Debug)]
pub(crate) struct WorkloadIndex(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    served: Served,
    /// By namespace and name.
    workloads: BTreeMap<(String, String), Workload>,
    /// Those that a list has told of which is under way.
    listed: BTreeSet<(String, String)>,
}

impl Default for WorkloadIndex {
    fn default() -> Self {
        let served = Served::No("it was not looked for yet".to_owned());
        Self(Mutex::new(Inner { served, workloads: BTreeMap::new(), listed: BTreeSet::new() }))
    }
}

impl WorkloadIndex {
    /// Takes in what a watch says, and gives the jobs that it is about.
    pub(crate) fn watch(&self, event: Event<Workload>) -> Vec<JobKey> {
        let mut inner = lock(&self.0);
        match event {
            Event::Init => {
                inner.listed.clear();
                Vec::new()
            }
            Event::Apply(workload) | Event::InitApply(workload) => inner.insert(workload).into_iter().collect(),
            Event::Delete(workload) => {
                let gone =
                    inner.workloads.get(&key(&workload)).is_some_and(|held| held.meta().uid == workload.meta().uid);
                if gone {
                    inner.workloads.remove(&key(&workload));
                }
                job_of(&workload).into_iter().collect()
            }
            Event::InitDone => {
                inner.served = Served::Yes;
                inner.drop_those_not_listed()
            }
        }
    }

    /// Takes in that there is no Kueue, and gives the jobs that had Workloads.
    pub(crate) fn not_served(&self, why: String) -> Vec<JobKey> {
        let mut inner = lock(&self.0);
        inner.served = Served::No(why);
        inner.listed.clear();
        inner.drop_those_not_listed()
    }

    /// Whether there can be any.
    pub(crate) fn served(&self) -> Served {
        lock(&self.0).served.clone()
    }

    /// The Workload of a job.
    pub(crate) fn of(&self, job: &TrainingJob) -> Option<Workload> {
        let key = (job.namespace().to_owned(), workload_name(job));
        lock(&self.0).workloads.get(&key).filter(|workload| workload.owner() == Some(job.uid())).cloned()
    }
}

impl Inner {
    fn insert(&mut self, mut workload: Workload) -> Option<JobKey> {
        // Far more than all the rest of it, and of no use here.
        workload.metadata.managed_fields = None;
        let job = job_of(&workload);
        self.listed.insert(key(&workload));
        self.workloads.insert(key(&workload), workload);
        job
    }

    fn drop_those_not_listed(&mut self) -> Vec<JobKey> {
        let mut concerned = Vec::new();
        let listed = std::mem::take(&mut self.listed);
        self.workloads.retain(|key, workload| {
            let is_listed = listed.contains(key);
            if !is_listed {
                concerned.extend(job_of(workload));
            }
            is_listed
        });
        concerned
    }
}

fn key(workload: &Workload) -> (String, String) {
    (workload.metadata.namespace.clone().unwrap_or_default(), workload.name().to_owned())
}

fn job_of(workload: &Workload) -> Option<JobKey> {
    let namespace = workload.metadata.namespace.clone()?;
    Some(JobKey { namespace, name: workload.job()?.to_owned() })
}
