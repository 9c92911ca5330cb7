//! A worker's pod. Three layers are merged, as a strategic merge patch of Kubernetes does: containers, volumes and environment
//! by name, mounts by path, resources entry by entry.
//!
//! | layer | what is in it |
//! |---|---|
//! | defaults | image, command, restricted security contexts, probes, a folder for temporary files, no token of the API server |
//! | `spec.workers.template` | whatever a person wrote: it wins over the defaults |
//! | what the operator needs | name, owner, labels, restart policy, arguments, the token, the claims: it wins over the template |
//!
//! A grace period longer than `checkpoint.terminationSeconds` needs is kept, a shorter one is not: the last checkpoint would be
//! cut off.

use std::collections::BTreeMap;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction, KeyToPath, Pod,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource, SeccompProfile, SecurityContext,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use palimpsest_api::TrainingJobSpec;

use super::config_map::CA_KEY;
use super::names::{INCARNATION_LABEL, INDEX_LABEL, Identity, config_map_name, labels_of};
use super::volumes::claims;
use crate::resource::TrainingJob;
use crate::settings::Settings;

/// The container that trains.
pub(crate) const WORKER: &str = "worker";

/// For whom the agents' tokens are. No other service takes them.
pub(crate) const TOKEN_AUDIENCE: &str = "palimpsest.dev";

/// How long a token is valid; the kubelet replaces it before that.
const TOKEN_SECONDS: i64 = 3600;

/// Where token and certificate lie in the container.
const FOLDER: &str = "/var/run/palimpsest";

/// The volume that holds both.
const IDENTITY_VOLUME: &str = "palimpsest-identity";

/// The volume of temporary files: the image's own file system is read-only.
const TEMPORARY_VOLUME: &str = "palimpsest-tmp";

/// Where the agent serves its health and its figures.
const METRICS_PORT: i32 = 9400;

/// What an agent needs beyond the last checkpoint, to stop its rank and tell how that went.
const GRACE_BEYOND_CHECKPOINT: i64 = 15;

/// A group of our own for files on volumes, so that a worker that is not root can write there.
const FILE_GROUP: i64 = 65532;

/// The pod of a worker, or why the template is none. `image` is what the job's other pods were found to run.
pub(crate) fn pod(
    job: &TrainingJob,
    spec: &TrainingJobSpec,
    settings: &Settings,
    identity: Identity,
    image: Option<&str>,
) -> Result<Pod, String> {
    let mut merged = defaults(settings);
    let template: PodTemplateSpec = match &spec.workers.template {
        Some(template) => serde_json::from_value(template.clone())
            .map_err(|error| format!("spec.workers.template is no pod template: {error}"))?,
        None => PodTemplateSpec::default(),
    };
    let grace = template.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    merged.merge_from(template);
    merged.merge_from(required(job, spec, settings, identity, grace));
    let PodTemplateSpec { metadata, spec: pod_spec } = merged;
    let mut pod_spec = pod_spec.unwrap_or_default();
    if let (Some(image), Some(worker)) =
        (image, pod_spec.containers.iter_mut().find(|container| container.name == WORKER))
    {
        worker.image = Some(image.to_owned());
    }
    Ok(Pod { metadata: metadata.unwrap_or_default(), spec: Some(pod_spec), status: None })
}

/// What the pods of a job have in common: what a queue is asked to have room for.
pub(crate) fn pod_template(
    job: &TrainingJob,
    spec: &TrainingJobSpec,
    settings: &Settings,
) -> Result<PodTemplateSpec, String> {
    let pod = pod(job, spec, settings, Identity { index: 0, incarnation: 1 }, None)?;
    let mut labels = pod.metadata.labels.unwrap_or_default();
    labels.retain(|key, _| key != INDEX_LABEL && key != INCARNATION_LABEL);
    let metadata = ObjectMeta { labels: Some(labels), annotations: pod.metadata.annotations, ..ObjectMeta::default() };
    Ok(PodTemplateSpec { metadata: Some(metadata), spec: pod.spec })
}

fn defaults(settings: &Settings) -> PodTemplateSpec {
    let worker = Container {
        name: WORKER.to_owned(),
        image: Some(settings.worker_image.clone()),
        command: Some(vec!["palimpsest-worker".to_owned()]),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        readiness_probe: Some(probe("/readyz", 5, 3)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: None,
        spec: Some(PodSpec {
            // What the token is of that the operator asks for; the API server's own is not mounted.
            service_account_name: Some("default".to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                fs_group: Some(FILE_GROUP),
                // Else the kubelet goes through every file of a corpus before the worker starts.
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
                ..PodSecurityContext::default()
            }),
            containers: vec![worker],
            ..PodSpec::default()
        }),
    }
}

fn required(
    job: &TrainingJob,
    spec: &TrainingJobSpec,
    settings: &Settings,
    identity: Identity,
    grace: Option<i64>,
) -> PodTemplateSpec {
    let claims = claims(spec);
    let mut volumes = vec![
        identity_volume(job.name()),
        Volume {
            name: TEMPORARY_VOLUME.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
    ];
    volumes.extend(claims.iter().enumerate().map(|(number, claim)| claim.volume(number)));
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount(IDENTITY_VOLUME, FOLDER, Some(true)), mount(TEMPORARY_VOLUME, "/tmp", None)];
    mounts.extend(claims.iter().enumerate().map(|(number, claim)| claim.mount(number)));
    let termination = i64::try_from(spec.checkpoint.termination_seconds).unwrap_or(i64::MAX - GRACE_BEYOND_CHECKPOINT);
    let needed = termination + GRACE_BEYOND_CHECKPOINT;
    let worker = Container {
        name: WORKER.to_owned(),
        args: Some(arguments(job, spec, settings, identity)),
        ports: Some(vec![ContainerPort {
            name: Some("metrics".to_owned()),
            container_port: METRICS_PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            name: Some(identity.pod_name(job.name())),
            namespace: job.metadata.namespace.clone(),
            labels: Some(labels(job.name(), identity)),
            owner_references: Some(vec![job.owner_reference()]),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            restart_policy: Some("Never".to_owned()),
            termination_grace_period_seconds: Some(grace.map_or(needed, |grace| grace.max(needed))),
            containers: vec![worker],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
    }
}

fn labels(job: &str, identity: Identity) -> BTreeMap<String, String> {
    let mut labels = labels_of(job);
    labels.insert(INDEX_LABEL.to_owned(), identity.index.to_string());
    labels.insert(INCARNATION_LABEL.to_owned(), identity.incarnation.to_string());
    labels
}

fn arguments(job: &TrainingJob, spec: &TrainingJobSpec, settings: &Settings, identity: Identity) -> Vec<String> {
    let flags = [
        ("--coordinator", settings.coordinator.clone()),
        ("--ca", format!("{FOLDER}/{CA_KEY}")),
        ("--token-file", format!("{FOLDER}/token")),
        ("--name", identity.pod_name(job.name())),
        ("--job", job.name().to_owned()),
        ("--namespace", job.namespace().to_owned()),
        ("--grace-seconds", spec.checkpoint.termination_seconds.to_string()),
        ("--metrics", format!("0.0.0.0:{METRICS_PORT}")),
    ];
    let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    std::iter::once("agent".to_owned()).chain(flags).collect()
}

/// The token by which the operator knows the pod, and the certificate by which the pod knows the operator.
fn identity_volume(job: &str) -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(TOKEN_AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
    };
    let certificate = ConfigMapProjection {
        name: config_map_name(job),
        items: Some(vec![KeyToPath { key: CA_KEY.to_owned(), path: CA_KEY.to_owned(), mode: None }]),
        optional: None,
    };
    Volume {
        name: IDENTITY_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: None,
            sources: Some(vec![
                VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
                VolumeProjection { config_map: Some(certificate), ..VolumeProjection::default() },
            ]),
        }),
        ..Volume::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("metrics".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}
