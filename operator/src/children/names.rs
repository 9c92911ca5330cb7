//! What the children of a job are called and labelled, and what their names say of them.

use std::collections::BTreeMap;

/// The label that holds a job's name.
pub(crate) const JOB_LABEL: &str = "palimpsest.dev/job";
/// The label that holds a worker's index.
pub(crate) const INDEX_LABEL: &str = "palimpsest.dev/index";
/// The label that holds a pod's incarnation.
pub(crate) const INCARNATION_LABEL: &str = "palimpsest.dev/incarnation";
/// Who made an object, in Kubernetes' own label.
pub(crate) const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The field manager of everything that the operator writes, and what it calls itself elsewhere.
pub(crate) const OPERATOR: &str = "palimpsest-operator";

/// A worker's pod. Incarnations are counted over the whole job, so that a name is used once: a pod that cannot end, on a
/// machine that is gone, is in nobody's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    /// Which of the workers, from 0.
    pub(crate) index: u32,
    /// Which of the job's pods, from 1.
    pub(crate) incarnation: u64,
}

impl Identity {
    /// `JOB-INDEX-INCARNATION`.
    pub(crate) fn pod_name(self, job: &str) -> String {
        format!("{job}-{}-{}", self.index, self.incarnation)
    }

    /// What a pod's labels say.
    pub(crate) fn of_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        let index = labels.get(INDEX_LABEL)?.parse().ok()?;
        let incarnation = labels.get(INCARNATION_LABEL)?.parse().ok()?;
        Some(Self { index, incarnation })
    }
}

/// The ConfigMap of a job.
pub(crate) fn config_map_name(job: &str) -> String {
    format!("{job}-palimpsest")
}

/// The labels of everything that belongs to a job.
pub(crate) fn labels_of(job: &str) -> BTreeMap<String, String> {
    [(JOB_LABEL, job), (MANAGED_BY_LABEL, OPERATOR)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The selector of a job's pods.
pub(crate) fn selector(job: &str) -> String {
    format!("{JOB_LABEL}={job}")
}
