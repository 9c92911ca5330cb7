//! A world for the operator: a real API server, the real operator, and in place of nodes a scripted kubelet, whose pods are agents
//! that decide by the code of real ones and speak the real protocol over TLS, but train nothing.
//!
//! ```text
//! operator ──► API server ◄── kubelet: binds pods, sets their status, ends them
//!     ▲                          │ one task a pod
//!     └──── gRPC, TLS, token ── agent ──► the job's folder: claims, steps, checkpoints, output
//! ```

mod agent;
mod folder;
mod kubelet;
mod kueue;
mod operator;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::{Value, json};

pub use folder::{Folder, Mishap, Script, Stillborn};
pub use kueue::Kueue;
pub use operator::OperatorProcess;

use self::folder::{Folders, lock};

use crate::{ApiServer, Proxy, free_address, repository};

/// The seconds of a lease, of its renewal and between two tries, with which a test need not wait.
const IMPATIENT: [&str; 3] = ["3", "2", "1"];

/// A world that lives as long as this value.
pub struct World {
    server: ApiServer,
    kubeconfig: tempfile::NamedTempFile,
    control_port: u16,
    client: Client,
    folders: Arc<Folders>,
    kubelet: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    /// A world without jobs, and without an operator.
    pub async fn new() -> Self {
        let mut world = Self::without_nodes().await;
        world.kubelet = Some(tokio::spawn(kubelet::run(world.client(), world.folders.clone())));
        world
    }

    /// The same, where the operator is installed for the namespace of the jobs alone, in which it runs itself.
    pub async fn of_one_namespace() -> Self {
        let server = start(ApiServer::start).await;
        server.kubectl_succeed(&["apply", "--server-side", "-f", &repository().join("deploy/crds").to_string_lossy()]);
        install_for_namespace(&server, "default");
        let mut world = Self::of(server, "default").await;
        world.kubelet = Some(tokio::spawn(kubelet::run(world.client(), world.folders.clone())));
        world
    }

    /// A world where nobody does anything with pods.
    pub async fn without_nodes() -> Self {
        let server = start(ApiServer::start).await;
        let deploy = repository().join("deploy");
        server.kubectl_succeed(&["apply", "--server-side", "-k", &deploy.to_string_lossy()]);
        Self::of(server, "palimpsest-system").await
    }

    /// With a server on which the operator is installed in a namespace.
    async fn of(server: ApiServer, namespace: &str) -> Self {
        server.wait_for_resources();
        let client = client_of(&server.kubeconfig(), true).await;
        let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
        let account = ServiceAccount {
            metadata: kube::core::ObjectMeta { name: Some("default".to_owned()), ..Default::default() },
            ..ServiceAccount::default()
        };
        // There are no controllers that would make it.
        accounts.create(&PostParams::default(), &account).await.unwrap_or_else(|error| panic!("{error}"));
        let kubeconfig = as_operator(&server, namespace);
        let (folders, control_port) = (Arc::default(), free_address().port());
        Self { server, kubeconfig, control_port, client, folders, kubelet: None }
    }

    /// Installs another operator, for a namespace that is there, beside the one of this world.
    pub fn install_for_namespace(&self, namespace: &str) {
        install_for_namespace(&self.server, namespace);
    }

    /// The API server.
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Starts a replica of the operator. All of them share the port for agents, as behind a Service.
    pub fn operator(&self, environment: &[(&str, &str)]) -> OperatorProcess {
        OperatorProcess::start(self.kubeconfig.path(), self.control_port, IMPATIENT, environment)
    }

    /// The same, whose certificate is valid for so many seconds.
    pub fn short_lived_operator(&self, seconds: u64, environment: &[(&str, &str)]) -> OperatorProcess {
        let lifetime = seconds.to_string();
        let environment = [environment, &[("PALIMPSEST_CERTIFICATE_LIFETIME_SECONDS", lifetime.as_str())]].concat();
        self.operator(&environment)
    }

    /// The same, with the lease of an installation, which an API server that is under load does not end.
    pub fn patient_operator(&self, environment: &[(&str, &str)]) -> OperatorProcess {
        OperatorProcess::start(self.kubeconfig.path(), self.control_port, ["15", "10", "2"], environment)
    }

    /// The same, with a proxy between it and the API server.
    pub fn operator_behind(&self, proxy: &Proxy, environment: &[(&str, &str)]) -> OperatorProcess {
        OperatorProcess::start(proxy.kubeconfig(), self.control_port, IMPATIENT, environment)
    }

    /// The same with the lease of an installation.
    pub fn patient_operator_behind(&self, proxy: &Proxy, environment: &[(&str, &str)]) -> OperatorProcess {
        OperatorProcess::start(proxy.kubeconfig(), self.control_port, ["15", "10", "2"], environment)
    }

    /// A client that may do what the operator may, and that never asks again by itself.
    pub async fn client_as_operator(&self) -> Client {
        client_of(self.kubeconfig.path(), false).await
    }

    /// A client of the API server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What a job has left in its folder, as it is now.
    pub fn folder(&self, job: &str) -> Folder {
        lock(&self.folders.of(job)).clone()
    }

    /// Changes how a job goes from here on.
    pub fn rewrite(&self, job: &str, change: impl FnOnce(&mut Script)) {
        change(&mut lock(&self.folders.of(job)).script);
    }

    /// Makes a job of one stage that goes as `script` says; `spec` has what is not as in most tests.
    pub async fn submit(&self, name: &str, script: Script, spec: Value) {
        self.submit_labelled(name, &json!({}), script, spec).await;
    }

    /// The same for a job with labels.
    pub async fn submit_labelled(&self, name: &str, labels: &Value, script: Script, spec: Value) {
        self.rewrite(name, |before| *before = script);
        let mut whole = json!({
            "model": {"uri": "pvc://models/base"},
            "data": {"datasets": [{"name": "zh", "uri": "pvc://data/zh"}]},
            "stages": [{"name": "one", "mixture": [{"dataset": "zh", "weight": 1}], "budget": {"steps": 20}}],
            "checkpoint": {"terminationSeconds": 5},
            "output": {"uri": "pvc://models/zh"},
        });
        if let (Some(whole), Value::Object(spec)) = (whole.as_object_mut(), spec) {
            whole.extend(spec);
        }
        let job = json!({
            "apiVersion": "palimpsest.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": name, "labels": labels}, "spec": whole,
        });
        let job: DynamicObject = serde_json::from_value(job).unwrap_or_else(|error| panic!("{error}"));
        self.jobs().create(&PostParams::default(), &job).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Changes a job as `kubectl patch --type=merge` does.
    pub async fn patch(&self, name: &str, patch: Value) {
        let patched = self.jobs().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Changes what is said of a job as `kubectl patch --subresource=status --type=merge` does.
    pub async fn patch_status(&self, name: &str, patch: Value) {
        let patched = self.jobs().patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Deletes a job.
    pub async fn delete(&self, name: &str) {
        let deleted = self.jobs().delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// A job, if it is there.
    pub async fn job(&self, name: &str) -> Option<Value> {
        let job = self.jobs().get_opt(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        job.map(|job| serde_json::to_value(job).unwrap_or_default())
    }

    /// The pods there are.
    pub async fn pods(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        pods.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("{error}")).items
    }

    /// How many events of a reason there are about a job.
    pub async fn events(&self, job: &str, reason: &str) -> usize {
        let events: Api<Event> = Api::default_namespaced(self.client.clone());
        let listed = events.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("{error}")).items;
        let is_meant = |event: &&Event| {
            event.reason.as_deref() == Some(reason)
                && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(job)
        };
        listed.iter().filter(is_meant).count()
    }

    /// Deletes a pod as `kubectl delete pod` does.
    pub async fn delete_pod(&self, name: &str) {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        pods.delete(name, &DeleteParams::default()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Waits until the job is as `is_so` wants, and gives it.
    pub async fn wait(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let job = self.job(name).await;
            if let Some(job) = job.as_ref().filter(|job| is_so(job)) {
                return job.clone();
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{name} does not come to {what}: {}\n{:#?}",
                job.map_or("it is gone".to_owned(), |job| format!("{:#}", job["status"])),
                self.folder(name)
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until a condition of the job has a status, and gives the job.
    pub async fn wait_for(&self, name: &str, kind: &str, status: &str) -> Value {
        self.wait(name, &format!("{kind}={status}"), |job| condition(job, kind)["status"] == status).await
    }

    /// Waits until `kubectl get` shows this State, and gives the job.
    pub async fn wait_for_state(&self, name: &str, state: &str) -> Value {
        self.wait(name, state, |job| condition(job, "Progressing")["reason"] == state).await
    }

    /// Waits until the job is gone.
    pub async fn wait_until_gone(&self, name: &str) {
        let began = Instant::now();
        while let Some(job) = self.job(name).await {
            assert!(began.elapsed() < Duration::from_secs(60), "{name} does not go: {:#}", job["status"]);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    fn jobs(&self) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: "palimpsest.dev".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "palimpsest.dev/v1alpha1".to_owned(),
            kind: "TrainingJob".to_owned(),
            plural: "trainingjobs".to_owned(),
        };
        Api::default_namespaced_with(self.client.clone(), &resource)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("folders", &self.folders).finish_non_exhaustive()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(kubelet) = &self.kubelet {
            kubelet.abort();
        }
    }
}

/// A condition of a job; null where it is not there.
pub fn condition(job: &Value, kind: &str) -> Value {
    let conditions = job["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.cloned().unwrap_or_default()
}

/// Applies `deploy/namespace` for a namespace, as docs/operator.md has it.
fn install_for_namespace(server: &ApiServer, namespace: &str) {
    let named = |binding: &str| {
        format!(
            "
  - target: {{kind: ClusterRoleBinding, name: {binding}}}
    options: {{allowNameChange: true}}
    patch: |
      - {{op: replace, path: /metadata/name, value: {binding}-{namespace}}}"
        )
    };
    let kustomization = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {namespace}
resources: [../../deploy/namespace]
patches:{}{}
",
        named("palimpsest-token-reviews"),
        named("palimpsest-queues"),
    );
    // Kustomize takes bases by relative paths alone.
    let folder = tempfile::tempdir_in(repository().join("target")).unwrap_or_else(|error| panic!("{error}"));
    std::fs::write(folder.path().join("kustomization.yaml"), kustomization).unwrap_or_else(|error| panic!("{error}"));
    server.kubectl_succeed(&["apply", "--server-side", "-k", &folder.path().to_string_lossy()]);
}

/// A kubeconfig of the operator's own service account, whose rights are those of `deploy`.
fn as_operator(server: &ApiServer, namespace: &str) -> tempfile::NamedTempFile {
    let namespace = format!("--namespace={namespace}");
    let account = ["create", "token", "palimpsest-operator", &namespace, "--duration=2h"];
    let token = server.kubectl_succeed(&account).stdout;
    let file = tempfile::NamedTempFile::new().unwrap_or_else(|error| panic!("{error}"));
    std::fs::copy(server.kubeconfig(), file.path()).unwrap_or_else(|error| panic!("{error}"));
    let path = file.path().to_string_lossy().into_owned();
    let kubectl = |arguments: &[&str]| {
        let status = server.kubectl_command().args(["config", "--kubeconfig", &path]).args(arguments).output();
        assert!(status.is_ok_and(|output| output.status.success()), "kubectl config {arguments:?}");
    };
    kubectl(&["set-credentials", "operator", "--token", token.trim()]);
    kubectl(&["set-context", "--current", "--user=operator"]);
    file
}

/// Does what blocks without holding up what else goes on.
async fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn client_of(kubeconfig: &Path, default_retry: bool) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap_or_else(|error| panic!("{error}"));
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.unwrap_or_else(|error| panic!("{error}"));
    config.default_retry = default_retry;
    Client::try_from(config).unwrap_or_else(|error| panic!("{error}"))
}
