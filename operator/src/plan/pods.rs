//! Which pods are to be made, and which are to go. There are never two for an index that may be running.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use palimpsest_api::PodRetention;

use super::sight::Sight;
use crate::children::Identity;
use crate::observe::{Life, PodView};

/// A pod that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deletion {
    /// Its name.
    pub(crate) name: String,
    /// Its UID: another pod of that name is not meant.
    pub(crate) uid: String,
    /// How long it may take, where that is not as the pod itself says.
    pub(crate) grace_seconds: Option<u32>,
}

impl Deletion {
    fn of(pod: &PodView, grace_seconds: Option<u32>) -> Self {
        Self { name: pod.name.clone(), uid: pod.uid.clone(), grace_seconds }
    }
}

/// What is to become of a job's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pods {
    /// To be made.
    pub(crate) creations: Vec<Identity>,
    /// To go.
    pub(crate) deletions: Vec<Deletion>,
}

/// A pod for each worker of a job that runs.
pub(super) fn of_running(sight: &Sight<'_>) -> Pods {
    let mut pods = Pods::default();
    let mut incarnation = newest_incarnation(sight);
    let mut by_index: BTreeMap<u32, Vec<&PodView>> = BTreeMap::new();
    for pod in sight.pods {
        by_index.entry(pod.identity.index).or_default().push(pod);
    }
    for index in 0..sight.spec.workers.replicas {
        let of_index = by_index.remove(&index).unwrap_or_default();
        let newest_staying = of_index.iter().filter(|pod| pod.is_staying()).max_by_key(|pod| pod.identity);
        // Of those that ended the newest is kept, for its log.
        let newest_ended = of_index.iter().filter(|pod| pod.has_ended()).max_by_key(|pod| pod.identity);
        for pod in &of_index {
            let is_newest = [newest_staying, newest_ended].iter().flatten().any(|newest| newest.uid == pod.uid);
            if pod.is_cut_off && is_to_go_sooner(pod, sight.now, super::AT_ONCE) {
                // It cannot write a last checkpoint that anybody waits for; if it goes on, its claim is not the newest. Where it
                // tolerates no silent node, the cluster has told it to go already, with all of its grace.
                pods.deletions.push(Deletion::of(pod, Some(super::AT_ONCE)));
            } else if !is_newest && pod.leaves_by.is_none() {
                pods.deletions.push(Deletion::of(pod, None));
            }
        }
        let is_awaited = sight.failures.not_before.is_some_and(|time| sight.now < time);
        if newest_staying.is_none() && !is_awaited && !of_index.iter().any(|pod| pod.may_run(sight.now)) {
            incarnation += 1;
            pods.creations.push(Identity { index, incarnation });
        }
    }
    let surplus = by_index.values().flatten().filter(|pod| pod.leaves_by.is_none());
    pods.deletions.extend(surplus.map(|pod| Deletion::of(pod, None)));
    pods
}

/// None of a job that is to stop; `grace_seconds` as in [`Deletion`].
pub(super) fn none(sight: &Sight<'_>, grace_seconds: Option<u32>) -> Pods {
    let is_meant = |pod: &&PodView| match grace_seconds {
        Some(seconds) => is_to_go_sooner(pod, sight.now, seconds),
        None => pod.leaves_by.is_none(),
    };
    let meant = sight.pods.iter().filter(is_meant);
    Pods { creations: Vec::new(), deletions: meant.map(|pod| Deletion::of(pod, grace_seconds)).collect() }
}

/// Whether a pod is to be told to go within so many seconds: it was not yet, or with more time.
fn is_to_go_sooner(pod: &PodView, now: Timestamp, seconds: u32) -> bool {
    let until = super::verdict::later(now, u64::from(seconds) + 1);
    pod.leaves_by.is_none_or(|by| until.is_some_and(|until| by > until))
}

/// Those of a finished job that its retention keeps are left, once they have ended by themselves, as they were told to.
pub(super) fn of_finished(sight: &Sight<'_>, since: Timestamp) -> Pods {
    let failed_job = super::verdict::is_true(sight.status, "Failed");
    let is_overdue = sight.now >= since + LEAVING;
    let is_kept = |pod: &PodView| match (sight.spec.run_policy.pod_retention, &pod.life) {
        (PodRetention::Never, _) | (_, Life::Pending(_)) => false,
        (PodRetention::Always, Life::Ended(_)) => true,
        (PodRetention::Failed, Life::Ended(end)) => end.is_failure || failed_job,
        (PodRetention::Always, Life::Running { .. }) => !is_overdue,
        (PodRetention::Failed, Life::Running { .. }) => failed_job && !is_overdue,
    };
    let meant = sight.pods.iter().filter(|pod| pod.leaves_by.is_none() && !is_kept(pod));
    Pods { creations: Vec::new(), deletions: meant.map(|pod| Deletion::of(pod, None)).collect() }
}

/// How long an agent that is told to leave may take before its pod is deleted although it was to be kept.
pub(super) const LEAVING: std::time::Duration = std::time::Duration::from_secs(30);

/// The newest incarnation that was ever given out, but for those that no pod came of: a job that waits for its quota uses no names up, and
/// its status stays as it is.
fn newest_incarnation(sight: &Sight<'_>) -> u64 {
    let of_pods = sight.pods.iter().map(|pod| pod.identity.incarnation).max();
    let given_out = sight.status.incarnation.unwrap_or(0);
    let used = sight.unused.map_or(given_out, |unused| given_out.min(unused.saturating_sub(1)));
    of_pods.unwrap_or(0).max(used)
}
