//! The jobs of a turn: making them, counting their children, and looking at what they came to.

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use palimpsest_tests::World;
use serde_json::{Value, json};

/// A job that was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Makes a namespace.
pub(crate) async fn make_namespace(world: &World, name: &str) {
    let namespace = json!({"metadata": {"name": name}});
    let namespace: Namespace = serde_json::from_value(namespace).unwrap_or_else(|error| panic!("{error}"));
    let made = Api::all(world.client()).create(&PostParams::default(), &namespace).await;
    made.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Makes one job.
pub(crate) async fn make(world: &World, namespace: &str, name: &str) {
    create(&api(world.client(), namespace, "trainingjobs"), name).await;
}

/// Makes so many jobs, and tells of each.
pub(crate) async fn make_all(client: Client, namespace: &str, jobs: usize, concurrency: usize, tell: impl Fn(Made)) {
    let api = api(client, namespace, "trainingjobs");
    let (api, tell) = (&api, &tell);
    stream::iter(0..jobs)
        .for_each_concurrent(concurrency, async |number| {
            let name = format!("job-{number:05}");
            let uid = create(api, &name).await;
            tell(Made { name, uid });
        })
        .await;
}

async fn create(api: &Api<DynamicObject>, name: &str) -> String {
    let job = json!({
        "apiVersion": "palimpsest.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name},
        "spec": {
            "model": {"uri": "pvc://models/base"},
            "data": {"datasets": [
                {"name": "zh", "uri": "pvc://data/zh", "language": "zh"},
                {"name": "en", "uri": "pvc://data/en", "language": "en"},
            ]},
            "stages": [
                {"name": "one", "mixture": [{"dataset": "zh", "weight": 7}, {"dataset": "en", "weight": 3}],
                 "budget": {"tokens": 8_500_000_000_u64}},
                {"name": "two", "mixture": [{"dataset": "zh", "weight": 1}], "budget": {"steps": 200}},
            ],
            "checkpoint": {"uri": format!("pvc://checkpoints/{name}"), "intervalSteps": 400},
            "output": {"uri": format!("pvc://models/{name}")},
        },
    });
    let job: DynamicObject = serde_json::from_value(job).unwrap_or_else(|error| panic!("{error}"));
    let made = api.create(&PostParams::default(), &job).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    made.uid().unwrap_or_default()
}

fn api(client: Client, namespace: &str, plural: &str) -> Api<DynamicObject> {
    let (group, version, kind) = match plural {
        "trainingjobs" => ("palimpsest.dev", "v1alpha1", "TrainingJob"),
        "pods" => ("", "v1", "Pod"),
        "events" => ("", "v1", "Event"),
        _ => ("", "v1", "ConfigMap"),
    };
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    Api::namespaced_with(client, namespace, &resource)
}

/// How many of a resource there are, without reading them.
pub(crate) async fn count(world: &World, namespace: &str, plural: &str) -> usize {
    let first = api(world.client(), namespace, plural).list_metadata(&ListParams::default().limit(1)).await;
    let first = first.unwrap_or_else(|error| panic!("{plural}: {error}"));
    let remaining = usize::try_from(first.metadata.remaining_item_count.unwrap_or(0)).unwrap_or(0);
    first.items.len() + remaining
}

/// What the jobs have come to: children by kind, and how many jobs are kept by a finalizer and say that a pod's name is used up.
pub(crate) async fn state(world: &World, namespace: &str) -> Value {
    let mut state = json!({});
    for plural in ["pods", "configmaps", "events"] {
        state[plural] = count(world, namespace, plural).await.into();
    }
    let jobs = api(world.client(), namespace, "trainingjobs").list(&ListParams::default()).await;
    let jobs = jobs.unwrap_or_else(|error| panic!("{error}")).items;
    let is_said = |job: &&DynamicObject| !job.finalizers().is_empty() && job.data["status"]["incarnation"] == 1;
    state["jobs"] = jobs.iter().filter(is_said).count().into();
    state
}
