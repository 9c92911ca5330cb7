//! In place of Kueue: its definitions are its own, and a test says what its controllers would.

use std::process::Command;
use std::time::{Duration, Instant};

use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::World;
use crate::repository;

/// The field manager of Kueue's own writes to a Workload's status.
const MANAGER: &str = "kueue-admission";

/// Kueue in a world.
#[derive(Debug)]
pub struct Kueue<'w> {
    world: &'w World,
}

impl<'w> Kueue<'w> {
    /// Installs its definitions: of what a job has to do with.
    pub async fn install(world: &'w World) -> Self {
        let script = repository().join("tests/cluster/kueue.sh");
        let output = Command::new(&script).output().unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        for kind in ["workloads", "resourceflavors", "workloadpriorityclasses"] {
            let file = format!("{folder}/kueue.x-k8s.io_{kind}.yaml");
            world.server().kubectl_succeed(&["apply", "--server-side", "-f", &file]);
        }
        world.server().wait_for_resources();
        Self { world }
    }

    /// Makes an object that belongs to no namespace, as an administrator does.
    pub async fn make(&self, kind: &str, plural: &str, name: &str, rest: Value) {
        let mut object = json!({"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": {"name": name}});
        if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
            object.extend(rest);
        }
        let object: DynamicObject = serde_json::from_value(object).unwrap_or_else(|error| panic!("{error}"));
        let api: Api<DynamicObject> = Api::all_with(self.world.client(), &resource(kind, plural));
        api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// The Workload that a job owns.
    pub async fn workload(&self, job: &str) -> Option<Value> {
        let ours = ListParams::default().labels(&format!("palimpsest.dev/job={job}"));
        let listed = self.workloads().list(&ours).await.unwrap_or_else(|error| panic!("{error}")).items;
        assert!(listed.len() <= 1, "{job} has more than one: {listed:#?}");
        listed.first().map(|workload| serde_json::to_value(workload).unwrap_or_default())
    }

    /// Waits until a job's Workload, null where there is none, is as `is_so` wants, and gives it.
    pub async fn wait(&self, job: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let workload = self.workload(job).await.unwrap_or_default();
            if is_so(&workload) {
                return workload;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the Workload of {job} does not come to {what}: {workload:#}\n{:#?}",
                self.world.job(job).await.map(|job| job["status"].clone())
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Says why a job has no quota.
    pub async fn keep_waiting(&self, job: &str, message: &str) {
        self.say(job, &[("QuotaReserved", false, "Pending", message)], None).await;
    }

    /// Admits a job, with a flavor for its cpu.
    pub async fn admit(&self, job: &str, flavor: &str) {
        let assignment =
            json!({"name": "workers", "count": 1, "flavors": {"cpu": flavor}, "resourceUsage": {"cpu": "1"}});
        let admission = json!({"clusterQueue": "all", "podSetAssignments": [assignment]});
        let conditions = [
            ("QuotaReserved", true, "QuotaReserved", "Quota reserved in ClusterQueue all"),
            ("Admitted", true, "Admitted", "The workload is admitted"),
            ("Evicted", false, "QuotaReserved", "Previously: evicted"),
        ];
        self.say(job, &conditions, Some(admission)).await;
    }

    /// Evicts an admitted job: it keeps its quota until it has stopped.
    pub async fn evict(&self, job: &str, reason: &str, message: &str) {
        let workload = self.workload(job).await.unwrap_or_default();
        let conditions = [
            ("QuotaReserved", true, "QuotaReserved", "Quota reserved in ClusterQueue all"),
            ("Admitted", true, "Admitted", "The workload is admitted"),
            ("Evicted", true, reason, message),
        ];
        self.say(job, &conditions, Some(workload["status"]["admission"].clone())).await;
    }

    /// Changes a Workload as `kubectl patch --type=merge` does.
    pub async fn patch(&self, job: &str, patch: Value) {
        let name = self.name(job).await;
        let patched = self.workloads().patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Deletes a Workload as `kubectl delete` does.
    pub async fn delete(&self, job: &str) {
        let name = self.name(job).await;
        let deleted = self.workloads().delete(&name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    async fn name(&self, job: &str) -> String {
        let workload = self.wait(job, "be there", |workload| !workload.is_null()).await;
        workload["metadata"]["name"].as_str().unwrap_or_default().to_owned()
    }

    async fn say(&self, job: &str, conditions: &[(&str, bool, &str, &str)], admission: Option<Value>) {
        let name = self.name(job).await;
        let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let conditions = conditions.iter().map(|(kind, is_so, reason, message)| {
            let status = if *is_so { "True" } else { "False" };
            json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now})
        });
        let mut status = json!({"conditions": conditions.collect::<Vec<_>>()});
        if let Some(admission) = admission {
            status["admission"] = admission;
        }
        let object = json!({
            "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Workload", "metadata": {"name": name}, "status": status,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let said = self.workloads().patch_status(&name, &parameters, &Patch::Apply(&object)).await;
        said.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    fn workloads(&self) -> Api<DynamicObject> {
        let client: Client = self.world.client();
        Api::default_namespaced_with(client, &resource("Workload", "workloads"))
    }
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "kueue.x-k8s.io".to_owned(),
        version: "v1beta2".to_owned(),
        api_version: "kueue.x-k8s.io/v1beta2".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}
