//! The Workload that a job asks its queue with.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use palimpsest_api::TrainingJobSpec;
use serde_json::{Value, json};

use super::place::{label, maximum_time, queue_name};
use super::terms::POD_SET;
use super::topology;
use super::workload::KUEUE_VERSION;
use crate::children::labels_of;
use crate::hash::hash;
use crate::resource::{KIND, TrainingJob};

/// What keeps a Workload, and its quota with it, until the job's pods are gone.
pub(crate) const FINALIZER: &str = "kueue.x-k8s.io/resource-in-use";

/// The label by which Kueue, and who looks for it, finds the Workload of a job.
const JOB_UID_LABEL: &str = "kueue.x-k8s.io/job-uid";

/// The label that holds a job's WorkloadPriorityClass.
const PRIORITY_LABEL: &str = "kueue.x-k8s.io/priority-class";

/// Annotations for those who provision machines, which they read in the Workload.
const PROVISIONING_PREFIX: &str = "provreq.kueue.x-k8s.io/";

/// The longest name: it is a label's value too.
const LONGEST_NAME: usize = 63;

/// How many digits of its hash end a name.
const HASH_DIGITS: usize = 5;

/// How urgent a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Priority {
    /// The class, where there is one: its API group, kind and name.
    pub(crate) class: Option<(&'static str, &'static str, String)>,
    /// The more, the more urgent.
    pub(crate) value: i32,
}

impl Priority {
    /// The fields of a Workload's spec.
    pub(crate) fn fields(&self) -> Value {
        let class = self.class.as_ref().map(|(group, kind, name)| json!({"group": group, "kind": kind, "name": name}));
        json!({"priorityClassRef": class, "priority": self.value})
    }
}

/// The WorkloadPriorityClass that a job names.
pub(crate) fn priority_class(job: &TrainingJob) -> Option<&str> {
    label(job, PRIORITY_LABEL)
}

/// The name of a job's Workload: a job that is made again under the same name has another.
pub(crate) fn workload_name(job: &TrainingJob) -> String {
    let hash = hash(job.uid());
    let mut name = format!("{}-{}", KIND.to_lowercase(), job.name());
    name.truncate(LONGEST_NAME - 1 - HASH_DIGITS);
    format!("{}-{:0HASH_DIGITS$x}", name.trim_end_matches('-'), hash % (1 << (4 * HASH_DIGITS)))
}

/// The Workload of a job whose workers are made from `template`, or what it asks of Kueue that cannot be had.
pub(crate) fn make(
    job: &TrainingJob,
    spec: &TrainingJobSpec,
    template: &PodTemplateSpec,
    priority: &Priority,
) -> Result<Value, String> {
    let annotations = template.metadata.as_ref().and_then(|metadata| metadata.annotations.clone()).unwrap_or_default();
    let replicas = spec.workers.replicas;
    let mut pods = json!({"name": POD_SET, "count": replicas, "template": template});
    if let Some(elastic) = spec.workers.elastic.as_ref().filter(|elastic| elastic.min_replicas < replicas) {
        pods["minCount"] = elastic.min_replicas.into();
    }
    if let Some(request) = topology::request(&annotations)? {
        pods["topologyRequest"] = request;
    }
    let mut labels = labels_of(job.name());
    labels.insert(JOB_UID_LABEL.to_owned(), job.uid().to_owned());
    let provisioning =
        job.metadata.annotations.iter().flatten().filter(|(key, _)| key.starts_with(PROVISIONING_PREFIX));
    let mut workload = json!({
        "apiVersion": KUEUE_VERSION,
        "kind": "Workload",
        "metadata": {
            "name": workload_name(job),
            "namespace": job.namespace(),
            "labels": labels,
            "annotations": provisioning.collect::<std::collections::BTreeMap<_, _>>(),
            "finalizers": [FINALIZER],
            "ownerReferences": [job.owner_reference()],
        },
        "spec": {"queueName": queue_name(job), "podSets": [pods], "priority": priority.value},
    });
    if priority.class.is_some() {
        workload["spec"]["priorityClassRef"] = priority.fields()["priorityClassRef"].clone();
    }
    if let Some(seconds) = maximum_time(job) {
        workload["spec"]["maximumExecutionTimeSeconds"] = seconds.into();
    }
    Ok(workload)
}
