//! Every write to a job's Workload, and what has to be read of Kueue for one.

use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Resource};
use serde_json::{Value, json};

use super::cluster::{Cluster, making, precondition, unless_gone};
use super::error::{Error, Result};
use crate::children::{OPERATOR, selector};
use crate::queue::{Priority, ResourceFlavor, Workload, WorkloadPriorityClass};
use crate::resource::TrainingJob;

/// Whether a write was taken, or why not.
#[derive(Debug)]
pub(super) enum Taken {
    /// It was, or what it was for is gone.
    Yes,
    /// The Workload has changed since it was looked at.
    Late,
    /// It is refused: the API server's own words.
    No(String),
}

impl Cluster {
    /// The Workloads of jobs of this name as they are now, and not as a watch told of them.
    pub(super) async fn workloads_of(&self, job: &TrainingJob) -> Result<Vec<Workload>> {
        let listed = self.workloads(job).list(&ListParams::default().labels(&selector(job.name()))).await;
        listed.map(|list| list.items).map_err(|source| Error::new("list the Workloads of", job, source))
    }

    /// Makes a job's Workload. One that is there already is seen soon.
    pub(super) async fn make_workload(&self, job: &TrainingJob, workload: Value) -> Result<Taken> {
        let resource = ApiResource::erase::<Workload>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), job.namespace(), &resource);
        let action = "make the Workload of";
        let workload = serde_json::from_value(workload)
            .map_err(|source| Error::new(action, job, kube::Error::SerdeError(source)))?;
        taken(api.create(&making(), &workload).await, action, job)
    }

    /// Changes a job's Workload, if it is as it was seen.
    pub(super) async fn change_workload(&self, job: &TrainingJob, seen: &Workload, change: Value) -> Result<Taken> {
        let patch = Patch::Merge(as_seen(seen, change));
        taken(self.workloads(job).patch(seen.name(), &merging(), &patch).await, "change the Workload of", job)
    }

    /// Changes what is said in a job's Workload, if it is as it was seen.
    pub(super) async fn say_in_workload(&self, job: &TrainingJob, seen: &Workload, status: Value) -> Result<Taken> {
        let patch = Patch::Merge(as_seen(seen, json!({"status": status})));
        let said = self.workloads(job).patch_status(seen.name(), &merging(), &patch).await;
        taken(said, "write the status of the Workload of", job)
    }

    /// Deletes a job's Workload.
    pub(super) async fn delete_workload(&self, job: &TrainingJob, seen: &Workload) -> Result<()> {
        let uid = seen.metadata.uid.as_deref().unwrap_or_default();
        let parameters = DeleteParams { preconditions: precondition(uid), ..DeleteParams::background() };
        let deleted = self.workloads(job).delete(seen.name(), &parameters).await;
        unless_gone(deleted).map(drop).map_err(|source| Error::new("delete the Workload of", job, source))
    }

    /// A flavor, where there is one of that name.
    pub(super) async fn flavor(&self, job: &TrainingJob, name: &str) -> Result<Option<ResourceFlavor>> {
        let flavor = Api::<ResourceFlavor>::all(self.client.clone()).get_opt(name).await;
        flavor.map_err(|source| Error::new("read a ResourceFlavor for", job, source))
    }

    /// How urgent a job is that names the class `of_queue` for its queue or `of_pods` for its pods; or which class is not there.
    pub(super) async fn priority(
        &self,
        job: &TrainingJob,
        of_queue: Option<&str>,
        of_pods: Option<&str>,
    ) -> Result<Result<Priority, String>> {
        let failed = |source| Error::new("read the priority class of", job, source);
        if let Some(name) = of_queue {
            let class = Api::<WorkloadPriorityClass>::all(self.client.clone()).get_opt(name).await.map_err(failed)?;
            return Ok(class.map_or_else(
                || {
                    Err(format!(
                        "there is no WorkloadPriorityClass {name}; make it, or name another in the job's label"
                    ))
                },
                |class| Ok(ranked("kueue.x-k8s.io", "WorkloadPriorityClass", name, class.value)),
            ));
        }
        let classes = Api::<PriorityClass>::all(self.client.clone());
        let of_kubernetes = |name: &str, value| ranked("scheduling.k8s.io", "PriorityClass", name, value);
        if let Some(name) = of_pods {
            let class = classes.get_opt(name).await.map_err(failed)?;
            return Ok(class.map_or_else(
                || Err(format!("there is no PriorityClass {name}; make it, or name another in workers.template")),
                |class| Ok(of_kubernetes(name, class.value)),
            ));
        }
        let classes = classes.list(&ListParams::default()).await.map_err(failed)?;
        // Where a race has made two of them the default, the lower one counts, as for pods.
        let defaults = classes.items.iter().filter(|class| class.global_default == Some(true));
        let default = defaults.min_by_key(|class| class.value);
        let name = |class: &PriorityClass| class.metadata.name.clone().unwrap_or_default();
        Ok(Ok(default.map_or_else(Priority::default, |class| of_kubernetes(&name(class), class.value))))
    }

    fn workloads(&self, job: &TrainingJob) -> Api<Workload> {
        Api::namespaced(self.client.clone(), job.namespace())
    }
}

fn merging() -> PatchParams {
    PatchParams { field_manager: Some(OPERATOR.to_owned()), ..PatchParams::default() }
}

fn ranked(group: &'static str, kind: &'static str, name: &str, value: i32) -> Priority {
    Priority { class: Some((group, kind, name.to_owned())), value }
}

/// A change to this very Workload, and to none that Kueue has written to since.
fn as_seen(seen: &Workload, mut change: Value) -> Value {
    change["metadata"]["uid"] = seen.meta().uid.clone().into();
    change["metadata"]["resourceVersion"] = seen.meta().resource_version.clone().into();
    change
}

fn taken<T>(answer: kube::Result<T>, action: &'static str, job: &TrainingJob) -> Result<Taken> {
    match answer {
        Ok(_) => Ok(Taken::Yes),
        Err(kube::Error::Api(status)) => match status.code {
            404 => Ok(Taken::Yes),
            409 => Ok(Taken::Late),
            400 | 403 | 422 => Ok(Taken::No(status.message.clone())),
            _ => Err(Error::new(action, job, kube::Error::Api(status))),
        },
        Err(source) => Err(Error::new(action, job, source)),
    }
}
