//! The terms of an admission: what is added to the pods, so that they run where their quota is.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, PodSchedulingGate, Toleration};

use super::topology::UNCONSTRAINED;
use super::workload::{ResourceFlavor, Workload};

/// The set of pods that a pod is of, its queue, and its queue's queue: labels by which Kueue knows pods.
const POD_SET_LABEL: &str = "kueue.x-k8s.io/podset";
const QUEUE_LABEL: &str = "kueue.x-k8s.io/local-queue-name";
const CLUSTER_QUEUE_LABEL: &str = "kueue.x-k8s.io/cluster-queue-name";

/// The Workload of a pod: an annotation by which Kueue finds those whose gates it opens.
const WORKLOAD_ANNOTATION: &str = "kueue.x-k8s.io/workload";

/// What keeps a pod from being scheduled until Kueue has said where.
const TOPOLOGY_GATE: &str = "kueue.x-k8s.io/topology";

/// The longest value of a label.
const LONGEST_LABEL: usize = 63;

/// The name of the one set of pods of a Workload of ours.
pub(super) const POD_SET: &str = "workers";

/// What is added to the pods of an admitted job.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    node_selector: BTreeMap<String, String>,
    tolerations: Vec<Toleration>,
    gates: Vec<String>,
}

/// The flavors of an admission, each once.
pub(crate) fn flavors(workload: &Workload) -> BTreeSet<String> {
    workload.assignment().into_iter().flat_map(|assignment| assignment.flavors.values().cloned()).collect()
}

impl Terms {
    /// Of an admission, with its flavors; or why they contradict each other.
    pub(crate) fn of(workload: &Workload, flavors: &[ResourceFlavor]) -> Result<Self, String> {
        let mut terms = Self::default();
        for flavor in flavors {
            let name = flavor.metadata.name.as_deref().unwrap_or_default();
            merge(&format!("nodeLabels of the flavor {name}"), &mut terms.node_selector, &flavor.spec.node_labels)?;
            merge_tolerations(&mut terms.tolerations, &flavor.spec.tolerations);
        }
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        terms.labels.extend([label(POD_SET_LABEL, POD_SET)]);
        terms.labels.extend(workload.spec.queue_name.iter().map(|queue| label(QUEUE_LABEL, queue)));
        terms.annotations.extend([label(WORKLOAD_ANNOTATION, workload.name())]);
        if let Some(admission) = &workload.status.admission
            && (1..=LONGEST_LABEL).contains(&admission.cluster_queue.len())
        {
            terms.labels.extend([label(CLUSTER_QUEUE_LABEL, &admission.cluster_queue)]);
        }
        if workload.assignment().is_some_and(|assignment| assignment.topology_assignment.is_some()) {
            terms.gates.push(TOPOLOGY_GATE.to_owned());
        }
        for check in &workload.status.admission_checks {
            for update in &check.pod_set_updates {
                let of = |field: &str| format!("{field} of the admission check {}", check.name);
                merge(&of("labels"), &mut terms.labels, &update.labels)?;
                merge(&of("annotations"), &mut terms.annotations, &update.annotations)?;
                merge(&of("nodeSelector"), &mut terms.node_selector, &update.node_selector)?;
                merge_tolerations(&mut terms.tolerations, &update.tolerations);
            }
        }
        Ok(terms)
    }

    /// Adds them to a pod; or why its template contradicts them.
    pub(crate) fn apply(&self, pod: &mut Pod) -> Result<(), String> {
        let metadata = &mut pod.metadata;
        merge("the queue's labels", metadata.labels.get_or_insert_default(), &self.labels)?;
        let annotations = metadata.annotations.get_or_insert_default();
        merge("the queue's annotations", annotations, &self.annotations)?;
        if !self.gates.is_empty() {
            // Where the template wants no place of its own, any will do.
            let wants_a_place = annotations.keys().any(|key| super::topology::is_request(key));
            if !wants_a_place {
                annotations.insert(UNCONSTRAINED.to_owned(), "true".to_owned());
            }
        }
        let spec = pod.spec.get_or_insert_default();
        merge("the queue's nodeSelector", spec.node_selector.get_or_insert_default(), &self.node_selector)?;
        merge_tolerations(spec.tolerations.get_or_insert_default(), &self.tolerations);
        let gates = spec.scheduling_gates.get_or_insert_default();
        for name in &self.gates {
            if gates.iter().all(|gate| gate.name != *name) {
                gates.push(PodSchedulingGate { name: name.clone() });
            }
        }
        Ok(())
    }
}

/// Adds entries; none may be there with another value.
fn merge(what: &str, into: &mut BTreeMap<String, String>, more: &BTreeMap<String, String>) -> Result<(), String> {
    for (key, value) in more {
        let before = into.entry(key.clone()).or_insert_with(|| value.clone());
        if before != value {
            return Err(format!("{what} want {key} to be {value}, but it is {before} already; remove one of them"));
        }
    }
    Ok(())
}

fn merge_tolerations(into: &mut Vec<Toleration>, more: &[Toleration]) {
    for toleration in more {
        if !into.contains(toleration) {
            into.push(toleration.clone());
        }
    }
}
