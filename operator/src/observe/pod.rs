//! What matters of a pod. Pods are large and many; this is all that is kept of them.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use super::Block;
use crate::children::{Identity, JOB_LABEL, WORKER, with_uris};

/// What matters of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodView {
    /// The job's name.
    pub(crate) job: String,
    /// The namespace of both.
    pub(crate) namespace: String,
    /// The UID of the job that owns it.
    pub(crate) owner: String,
    /// Its name, which no pod had before.
    pub(crate) name: String,
    /// Its UID.
    pub(crate) uid: String,
    /// Which worker it is.
    pub(crate) identity: Identity,
    /// How it lives.
    pub(crate) life: Life,
    /// When it is to be gone at the latest, where it was told to go.
    pub(crate) leaves_by: Option<Timestamp>,
    /// Why it is taken away by the cluster, and not for anything that it did.
    pub(crate) disruption: Option<String>,
    /// Whether its node has not been heard of: the cluster says that the pod is not ready, although its worker was, last.
    pub(crate) is_cut_off: bool,
    /// The worker's image with its digest, once it is known.
    pub(crate) image: Option<String>,
}

/// How a pod lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its worker does not run yet; why, where something keeps it.
    Pending(Option<Block>),
    /// Its worker runs.
    Running {
        /// Whether its agent says that it is ready.
        is_ready: bool,
    },
    /// It has ended.
    Ended(End),
}

/// How a worker ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// Whether the pod counts as failed.
    pub(crate) is_failure: bool,
    /// Whether the output is published: the worker says so even where nobody heard it.
    pub(crate) is_success: bool,
    /// The digest of the model that was published.
    pub(crate) digest: Option<String>,
    /// Whether the user has to mend something: the worker says so by its exit code.
    pub(crate) is_users: bool,
    /// One CamelCase word, where the worker has said one.
    pub(crate) reason: Option<String>,
    /// One sentence.
    pub(crate) message: String,
}

/// What a worker leaves as its termination message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LastWords {
    cause: Option<String>,
    digest: Option<String>,
    reason: Option<String>,
    message: Option<String>,
}

/// The exit code of a worker that was asked to go.
const TAKEN_AWAY: i32 = 143;

/// The exit code for what the user can mend.
const USER_ERROR: i32 = 2;

impl PodView {
    /// What matters of a pod; nothing where it is no worker of a job.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let labels = metadata.labels.as_ref()?;
        let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
        let status = pod.status.clone().unwrap_or_default();
        let worker = worker_status(&status);
        Some(Self {
            job: labels.get(JOB_LABEL)?.clone(),
            namespace: metadata.namespace.clone()?,
            owner: owner.uid.clone(),
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            identity: Identity::of_labels(labels)?,
            life: life(&status),
            leaves_by: metadata.deletion_timestamp.as_ref().map(|time| time.0),
            disruption: disruption(&status),
            is_cut_off: is_cut_off(&status),
            image: worker.and_then(|worker| image_with_digest(&worker.image_id)),
        })
    }

    /// Whether its worker has ended.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.life, Life::Ended(_))
    }

    /// Whether the worker may still be running. One that was told to go counts as gone some time after it should be: its
    /// machine cannot say so any more.
    pub(crate) fn may_run(&self, now: Timestamp) -> bool {
        !self.has_ended() && self.leaves_by.is_none_or(|by| now < by + OVERDUE)
    }

    /// Whether a worker is to be expected from it: it was not told to go.
    pub(crate) fn is_staying(&self) -> bool {
        self.leaves_by.is_none() && !self.has_ended()
    }
}

/// How long after its grace period a pod may still be there before its machine counts as gone.
pub(crate) const OVERDUE: std::time::Duration = std::time::Duration::from_secs(10);

fn worker_status(status: &PodStatus) -> Option<&ContainerStatus> {
    status.container_statuses.iter().flatten().find(|container| container.name == WORKER)
}

fn life(status: &PodStatus) -> Life {
    let phase = status.phase.as_deref().unwrap_or("Pending");
    let worker = worker_status(status);
    let state = worker.and_then(|worker| worker.state.as_ref());
    let terminated = state.and_then(|state| state.terminated.as_ref());
    match phase {
        // Sidecars may go on; without the worker they are of no use.
        _ if terminated.is_some() || phase == "Succeeded" || phase == "Failed" => Life::Ended(end(status, state)),
        "Running" if state.is_some_and(|state| state.running.is_some()) => {
            Life::Running { is_ready: worker.is_some_and(|worker| worker.ready) }
        }
        _ => Life::Pending(block(status)),
    }
}

fn end(status: &PodStatus, state: Option<&ContainerState>) -> End {
    let terminated = state.and_then(|state| state.terminated.as_ref());
    let code = terminated.map(|terminated| terminated.exit_code);
    let words = terminated.and_then(|terminated| terminated.message.as_deref());
    let words: LastWords = words.and_then(|words| serde_json::from_str(words).ok()).unwrap_or_default();
    let is_failure = code.map_or(status.phase.as_deref() == Some("Failed"), |code| code != 0);
    let how = match (code, terminated.and_then(|terminated| terminated.reason.as_deref())) {
        (_, Some("OOMKilled")) => {
            "the worker used more memory than its limit; raise resources.limits.memory".to_owned()
        }
        (Some(code), _) => format!("the worker ended with exit code {code}"),
        (None, _) => match (&status.reason, &status.message) {
            (_, Some(message)) => message.clone(),
            (Some(reason), None) => format!("the pod ended: {reason}"),
            (None, None) => "the pod ended".to_owned(),
        },
    };
    End {
        is_failure,
        is_success: words.cause.as_deref() == Some("Succeeded"),
        digest: words.digest,
        is_users: code == Some(USER_ERROR),
        reason: words.reason,
        message: words.message.map_or(how, |message| with_uris(&message)),
    }
}

/// What keeps a pod's worker from running.
fn block(status: &PodStatus) -> Option<Block> {
    let unscheduled = condition(status, "PodScheduled").filter(|condition| condition.status == "False");
    if let Some(condition) = unscheduled {
        let reason = match condition.reason.as_deref() {
            Some("SchedulingGated") => "SchedulingGated",
            _ => "Unschedulable",
        };
        return Some(Block::new(reason, condition.message.clone().unwrap_or_default()));
    }
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for container in containers {
        let Some(waiting) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) else { continue };
        let reason = match waiting.reason.as_deref().unwrap_or_default() {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
                "ImagePullFailed"
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => "ContainerNotCreated",
            "CrashLoopBackOff" => "ContainerCrashes",
            _ => continue,
        };
        let why = waiting.message.as_deref().unwrap_or_default();
        return Some(Block::new(reason, format!("the container {} waits: {why}", container.name)));
    }
    None
}

/// Why the cluster takes a pod away: an eviction, a preemption, a drain, a machine that is gone.
fn disruption(status: &PodStatus) -> Option<String> {
    if let Some(condition) = condition(status, "DisruptionTarget").filter(|condition| condition.status == "True") {
        return Some(condition.message.clone().or(condition.reason.clone()).unwrap_or_default());
    }
    let state = worker_status(status).and_then(|worker| worker.state.as_ref());
    if state.and_then(|state| state.terminated.as_ref()).is_some_and(|terminated| terminated.exit_code == TAKEN_AWAY) {
        return Some("the worker was asked to go".to_owned());
    }
    match status.reason.as_deref() {
        Some(
            reason @ ("Evicted" | "Preempted" | "Preempting" | "NodeLost" | "NodeShutdown" | "Terminated"
            | "NodeAffinity" | "Shutdown"),
        ) => Some(status.message.clone().unwrap_or_else(|| reason.to_owned())),
        _ => None,
    }
}

/// A kubelet says both of a pod and of its containers whether they are ready. Of one that is silent, the node controller says so of the
/// pod alone.
fn is_cut_off(status: &PodStatus) -> bool {
    let is_unready = condition(status, "Ready").is_some_and(|condition| {
        condition.status == "False" && condition.reason.as_deref() != Some("ReadinessGatesNotReady")
    });
    let were_ready = condition(status, "ContainersReady").is_some_and(|condition| condition.status == "True");
    is_unready && were_ready && worker_status(status).is_some_and(|worker| worker.ready)
}

fn condition<'s>(status: &'s PodStatus, kind: &str) -> Option<&'s PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Only a digest names the same image for ever; an image that was put on a machine by hand has none.
fn image_with_digest(image: &str) -> Option<String> {
    let image = image.strip_prefix("docker-pullable://").unwrap_or(image);
    image.contains("@sha256:").then(|| image.to_owned())
}
