//! Every write to the API server. Each is safe to be made again, by whoever leads then: objects are applied, or made under a
//! name that is used once, or deleted by their UID.

use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use palimpsest_api::{API_VERSION, TrainingJobStatus};
use serde_json::{Value, json};

use super::error::{Error, Result};
use crate::children::{Identity, OPERATOR, config_map_name, selector};
use crate::observe::{Refusal, of_refusal};
use crate::plan::Deletion;
use crate::resource::{KIND, TrainingJob, Version};

/// What keeps a job until its pods are gone.
const FINALIZER: &str = "palimpsest.dev/pods";

/// What has come of a status that was to be written.
pub(super) enum Said {
    /// It is written: the job as it is now.
    Yes(Box<TrainingJob>),
    /// The job is gone.
    Gone,
    /// Somebody has written to the job meanwhile, and nothing was changed.
    Late,
}

/// The API server, as the operator writes to it.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(super) client: Client,
}

impl Cluster {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Whether a job, as it was told of last, is kept until its pods are gone.
    pub(super) fn is_kept(job: &TrainingJob) -> bool {
        job.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
    }

    /// Keeps a job until its pods are gone, or lets it go; gives the job as it is then. One that is gone needs nothing any more.
    pub(super) async fn keep(&self, job: &TrainingJob, is_kept: bool) -> Result<Option<TrainingJob>> {
        let finalizers: &[&str] = if is_kept { &[FINALIZER] } else { &[] };
        let object = identified(job, json!({"finalizers": finalizers}), json!({}));
        let applied = self.jobs(job).patch(job.name(), &parameters(), &Patch::Apply(&object)).await;
        unless_gone(applied).map_err(|source| Error::new("write the finalizer of", job, source))
    }

    /// Says what has come of a job that nobody has written to since `version`.
    pub(super) async fn say(&self, job: &TrainingJob, status: &TrainingJobStatus, version: Version) -> Result<Said> {
        let object = identified(job, json!({"resourceVersion": version.to_string()}), json!({"status": status}));
        let applied = self.jobs(job).patch_status(job.name(), &parameters(), &Patch::Apply(&object)).await;
        match unless_gone(applied) {
            Ok(Some(job)) => Ok(Said::Yes(Box::new(job))),
            Ok(None) => Ok(Said::Gone),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Said::Late),
            Err(source) => Err(Error::new("write the status of", job, source)),
        }
    }

    /// A job as it is now, and not as a watch told of it.
    pub(super) async fn job(&self, job: &TrainingJob) -> Result<Option<TrainingJob>> {
        let found = self.jobs(job).get_opt(job.name()).await;
        found.map_err(|source| Error::new("read", job, source))
    }

    /// Deletes a job that was kept long enough.
    pub(super) async fn delete_job(&self, job: &TrainingJob) -> Result<()> {
        let parameters = DeleteParams { preconditions: precondition(job.uid()), ..DeleteParams::background() };
        let deleted = self.jobs(job).delete(job.name(), &parameters).await;
        unless_gone(deleted).map(drop).map_err(|source| Error::new("delete", job, source))
    }

    /// Writes the ConfigMap of a job.
    pub(super) async fn configure(&self, job: &TrainingJob, config_map: &ConfigMap) -> Result<Option<Refusal>> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), job.namespace());
        let applied = api.patch(&config_map_name(job.name()), &parameters(), &Patch::Apply(config_map)).await;
        refused(applied.map(|_| None), "write the ConfigMap of", job)
    }

    /// Makes a pod, or says why it is refused.
    pub(super) async fn make(&self, job: &TrainingJob, pod: &Pod) -> Result<std::result::Result<Pod, Refusal>> {
        match self.pods(job).create(&making(), pod).await {
            Ok(pod) => Ok(Ok(pod)),
            Err(error) => {
                let refusal = refused(Err(error), "make a pod of", job)?;
                Ok(Err(refusal.unwrap_or(Refusal::Transient)))
            }
        }
    }

    /// Has a pod judged without making it; says why it would be refused.
    pub(super) async fn try_to_make(&self, job: &TrainingJob, pod: &Pod) -> Result<Option<Refusal>> {
        let trying = PostParams { dry_run: true, ..making() };
        refused(self.pods(job).create(&trying, pod).await.map(|_| None), "try the template of", job)
    }

    /// The pods of a job as they are now, and not as a watch told of them.
    pub(super) async fn pods_of(&self, job: &TrainingJob) -> Result<Vec<Pod>> {
        let listed = self.pods(job).list(&ListParams::default().labels(&selector(job.name()))).await;
        listed.map(|list| list.items).map_err(|source| Error::new("list the pods of", job, source))
    }

    /// The pod of this name, where there is one.
    pub(super) async fn pod(&self, job: &TrainingJob, identity: Identity) -> Result<Option<Pod>> {
        let pod = self.pods(job).get_opt(&identity.pod_name(job.name())).await;
        pod.map_err(|source| Error::new("read a pod of", job, source))
    }

    /// Deletes a pod; gives it with the time by which it is to be gone, where it is not gone yet.
    pub(super) async fn delete_pod(&self, job: &TrainingJob, deletion: &Deletion) -> Result<Option<Pod>> {
        let parameters = DeleteParams {
            grace_period_seconds: deletion.grace_seconds,
            preconditions: precondition(&deletion.uid),
            ..DeleteParams::default()
        };
        let deleted = self.pods(job).delete(&deletion.name, &parameters).await;
        let deleted = unless_gone(deleted).map_err(|source| Error::new("delete a pod of", job, source))?;
        Ok(deleted.and_then(|answer| answer.left()))
    }

    /// Publishes an event. One that is there already was published before a restart.
    pub(super) async fn publish(&self, job: &TrainingJob, event: &Event) -> Result<()> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), job.namespace());
        match api.create(&PostParams::default(), event).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 409) => Ok(()),
            Err(source) => Err(Error::new("publish an event of", job, source)),
        }
    }

    fn jobs(&self, job: &TrainingJob) -> Api<TrainingJob> {
        Api::namespaced(self.client.clone(), job.namespace())
    }

    fn pods(&self, job: &TrainingJob) -> Api<Pod> {
        Api::namespaced(self.client.clone(), job.namespace())
    }
}

fn parameters() -> PatchParams {
    PatchParams::apply(OPERATOR).force()
}

/// An object to be applied to this very job, and to none of that name that was made since.
fn identified(job: &TrainingJob, metadata: Value, rest: Value) -> Value {
    let mut object = json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata});
    object["metadata"]["name"] = job.name().into();
    object["metadata"]["namespace"] = job.namespace().into();
    object["metadata"]["uid"] = job.uid().into();
    if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
        object.extend(rest);
    }
    object
}

pub(super) fn making() -> PostParams {
    PostParams { field_manager: Some(OPERATOR.to_owned()), ..PostParams::default() }
}

pub(super) fn precondition(uid: &str) -> Option<Preconditions> {
    Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None })
}

/// What is gone, or is another object of that name, need not be written.
pub(super) fn unless_gone<T>(answer: kube::Result<T>) -> kube::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 409 && status.message.contains("UID") => Ok(None),
        Err(error) => Err(error),
    }
}

fn refused(answer: kube::Result<Option<Refusal>>, action: &'static str, job: &TrainingJob) -> Result<Option<Refusal>> {
    match answer {
        Ok(refusal) => Ok(refusal),
        Err(kube::Error::Api(status)) => match of_refusal(status.code, &status.reason, &status.message) {
            Refusal::Transient => Err(Error::new(action, job, kube::Error::Api(status))),
            refusal => Ok(Some(refusal)),
        },
        Err(source) => Err(Error::new(action, job, source)),
    }
}
