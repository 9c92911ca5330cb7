//! Objects of Kueue, as far as a job has to do with them. Fields and names are those of its API `kueue.x-k8s.io/v1beta2`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::Resource;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::children::JOB_LABEL;

/// Kueue's API.
pub(crate) const KUEUE_VERSION: &str = "kueue.x-k8s.io/v1beta2";

/// What a job asks of its queue, and what came of that.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Workload {
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: WorkloadSpec,
    #[serde(default)]
    pub(crate) status: WorkloadStatus,
}

/// What is asked for. The pods' template is not read back: it is known here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WorkloadSpec {
    pub(crate) queue_name: Option<String>,
    /// False where somebody, or Kueue itself, has taken it out of its queue.
    pub(crate) active: Option<bool>,
    pub(crate) pod_sets: Vec<PodSet>,
    pub(crate) priority_class_ref: Option<PriorityClassRef>,
    pub(crate) maximum_execution_time_seconds: Option<i32>,
}

/// Pods that are alike.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodSet {
    pub(crate) count: u32,
}

/// Whose priority a Workload has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PriorityClassRef {
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WorkloadStatus {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) admission: Option<Admission>,
    pub(crate) admission_checks: Vec<AdmissionCheck>,
    pub(crate) accumulated_past_execution_time_seconds: Option<i64>,
}

/// The quota that a Workload has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Admission {
    pub(crate) cluster_queue: String,
    pub(crate) pod_set_assignments: Vec<PodSetAssignment>,
}

/// Where the pods of a set may run, and how many of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSetAssignment {
    /// The flavor of each resource.
    pub(crate) flavors: BTreeMap<String, String>,
    /// Absent: as many as were asked for.
    pub(crate) count: Option<u32>,
    /// Kueue itself ungates the pods, one by one, with their places.
    pub(crate) topology_assignment: Option<IgnoredAny>,
}

/// What else has to agree, and what it wants of the pods.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AdmissionCheck {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) message: String,
    pub(crate) pod_set_updates: Vec<PodSetUpdate>,
}

/// What is added to the pods of a set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSetUpdate {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) tolerations: Vec<Toleration>,
}

/// A kind of machines.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ResourceFlavor {
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: ResourceFlavorSpec,
}

/// How pods get onto those machines.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResourceFlavorSpec {
    pub(crate) node_labels: BTreeMap<String, String>,
    pub(crate) tolerations: Vec<Toleration>,
}

/// A priority that counts in queues alone.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct WorkloadPriorityClass {
    pub(crate) metadata: ObjectMeta,
    pub(crate) value: i32,
}

impl Workload {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The job's name.
    pub(crate) fn job(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(JOB_LABEL).map(String::as_str)
    }

    /// The UID of what controls it.
    pub(crate) fn owner(&self) -> Option<&str> {
        let mut owners = self.metadata.owner_references.iter().flatten();
        owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
    }

    /// Whether somebody deleted it.
    pub(super) fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// The condition, where it holds.
    pub(super) fn true_condition(&self, kind: &str) -> Option<&Condition> {
        self.condition(kind).filter(|condition| condition.status == "True")
    }

    pub(super) fn has_quota(&self) -> bool {
        self.true_condition("QuotaReserved").is_some()
    }

    /// What the workers were given: a Workload of ours has one set of pods.
    pub(super) fn assignment(&self) -> Option<&PodSetAssignment> {
        self.status.admission.as_ref()?.pod_set_assignments.first()
    }
}

/// A kind of `kueue.x-k8s.io/v1beta2`.
macro_rules! kind_of_kueue {
    ($kind:ident, $plural:literal, $scope:ty) => {
        impl Resource for $kind {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                stringify!($kind).into()
            }

            fn group((): &()) -> Cow<'_, str> {
                "kueue.x-k8s.io".into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1beta2".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

kind_of_kueue!(Workload, "workloads", NamespaceResourceScope);
kind_of_kueue!(ResourceFlavor, "resourceflavors", ClusterResourceScope);
kind_of_kueue!(WorkloadPriorityClass, "workloadpriorityclasses", ClusterResourceScope);
