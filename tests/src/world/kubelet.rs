//! In place of a node: binds each pod, says that it runs, has its agent live, and says how it ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::agent::{self, End};
use super::folder::{Folder, Folders, Stillborn, lock};

/// What is done with a pod.
struct Begun {
    uid: String,
    /// Told true where the pod is to end.
    terminate: watch::Sender<bool>,
    agent: JoinHandle<()>,
}

/// Looks after pods until it is aborted.
pub(super) async fn run(client: Client, folders: Arc<Folders>) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut begun: HashMap<String, Begun> = HashMap::new();
    loop {
        // An API server that is being restarted is asked again.
        let listed = pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        for pod in &listed {
            let name = pod.name_any();
            let uid = pod.uid().unwrap_or_default();
            let folder = folders.of(pod.labels().get("palimpsest.dev/job").map_or("", String::as_str));
            match begun.get(&name) {
                Some(known) if known.uid == uid => {
                    if pod.metadata.deletion_timestamp.is_some() {
                        known.terminate.send_replace(true);
                        if known.agent.is_finished() {
                            remove(&pods, pod).await;
                        }
                    }
                }
                Some(_) => lock(&folder).harm.push(format!("the name {name} was used twice")),
                None => {
                    let (terminate, told) = watch::channel(false);
                    let agent = tokio::spawn(live(client.clone(), pod.clone(), folder.clone(), told));
                    begun.insert(name, Begun { uid, terminate, agent });
                }
            }
        }
        for (name, known) in &begun {
            // Taken away by force: a kubelet ends its containers then.
            if !listed.is_empty() && listed.iter().all(|pod| pod.name_any() != *name) && !known.agent.is_finished() {
                known.terminate.send_replace(true);
            }
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn live(client: Client, pod: Pod, folder: Arc<Mutex<Folder>>, terminate: watch::Receiver<bool>) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let name = pod.name_any();
    let index = pod.labels().get("palimpsest.dev/index").cloned().unwrap_or_default();
    let stillborn = {
        let mut folder = lock(&folder);
        let number = folder.begun.len();
        folder.begun.push(name.clone());
        folder.script.pods.get(number).cloned()
    };
    if let Some(Stillborn::Unschedulable(message)) = stillborn {
        let condition =
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message});
        set(&pods, &name, json!({"phase": "Pending", "conditions": [condition]})).await;
        return;
    }
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"},
    });
    let bound: kube::Result<Value> = pods.create_subresource("binding", &name, &PostParams::default(), &binding).await;
    if bound.is_err() {
        return;
    }
    match stillborn {
        Some(Stillborn::NoImage(message)) => {
            let state = json!({"waiting": {"reason": "ImagePullBackOff", "message": message}});
            return set(&pods, &name, container("Pending", &state, false)).await;
        }
        Some(Stillborn::Ends(code, message)) => return ended(&pods, &name, code, message).await,
        _ => {}
    }
    set(&pods, &name, container("Running", &json!({"running": {}}), true)).await;
    {
        let mut folder = lock(&folder);
        if let Some(other) = folder.live.insert(index.clone(), name.clone()) {
            folder.harm.push(format!("{other} and {name} live at once"));
        }
    }
    let end = agent::live(client, &pod, folder.clone(), terminate).await;
    lock(&folder).live.remove(&index);
    match end {
        End::Exited(code, message) => ended(&pods, &name, code, &message).await,
        End::Evicted => {
            let status =
                json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
            set(&pods, &name, status).await;
        }
    }
}

async fn ended(pods: &Api<Pod>, name: &str, code: i32, message: &str) {
    let state = json!({"terminated": {"exitCode": code, "message": message}});
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    set(pods, name, container(phase, &state, false)).await;
}

fn container(phase: &str, state: &Value, is_ready: bool) -> Value {
    let worker = json!({
        "name": "worker", "ready": is_ready, "restartCount": 0, "image": "worker.test:1",
        "imageID": "registry.test/worker@sha256:1111", "state": state,
    });
    json!({"phase": phase, "containerStatuses": [worker]})
}

async fn set(pods: &Api<Pod>, name: &str, status: Value) {
    // One that is gone needs no status.
    let _ = pods.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await;
}

async fn remove(pods: &Api<Pod>, pod: &Pod) {
    let uid = Some(Preconditions { uid: pod.uid(), resource_version: None });
    let parameters = DeleteParams { grace_period_seconds: Some(0), preconditions: uid, ..DeleteParams::default() };
    let _ = pods.delete(&pod.name_any(), &parameters).await;
}
