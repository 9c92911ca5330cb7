//! Jobs in queues, on a real API server with Kueue's own definitions, under the real operator: the test says what Kueue would.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palimpsest_tests::{Call, Fate, Kueue, Mishap, Proxy, Script, World, condition, run};
use serde_json::{Value, json};

fn queue(name: &str) -> Value {
    json!({"kueue.x-k8s.io/queue-name": name})
}

/// A job that stops at step 7, until it is told otherwise.
fn waits_at_8() -> Script {
    Script { mishaps: BTreeMap::from([(8, Mishap::Wait)]), ..Script::default() }
}

async fn step_7(world: &World, job: &str) {
    world.wait(job, "step 7", |job| job["status"]["progress"]["step"] == 7).await;
}

async fn no_pods(world: &World) {
    let began = Instant::now();
    while !world.pods().await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(10), "{:#?}", world.pods().await);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn message(job: &Value) -> String {
    condition(job, "Progressing")["message"].as_str().unwrap_or_default().to_owned()
}

async fn pod_of(world: &World, name: &str) -> Value {
    let pods = world.pods().await;
    let pod = pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(name));
    serde_json::to_value(pod.unwrap_or_else(|| panic!("{name} is not among {pods:#?}"))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_job_runs_where_it_is_admitted_gives_way_when_it_is_evicted_and_goes_on() {
    let world = World::new().await;
    let kueue = Kueue::install(&world).await;
    let toleration = json!({"key": "spot", "operator": "Exists", "effect": "NoSchedule"});
    let flavor = |machine: &str, tolerations: Value| json!({"spec": {"nodeLabels": {"machine": machine}, "tolerations": tolerations}});
    kueue.make("ResourceFlavor", "resourceflavors", "spot", flavor("spot", json!([toleration]))).await;
    kueue.make("ResourceFlavor", "resourceflavors", "owned", flavor("owned", json!([]))).await;
    for (class, value) in [("low", 10), ("high", 1000)] {
        kueue.make("WorkloadPriorityClass", "workloadpriorityclasses", class, json!({"value": value})).await;
    }
    let _operator = world.operator(&[]);
    let mut labels = queue("gpus");
    labels["kueue.x-k8s.io/priority-class"] = json!("low");
    world.submit_labelled("zh", &labels, waits_at_8(), json!({})).await;

    // It joins its queue, and says what Kueue says of it.
    let workload = kueue.wait("zh", "be there", |workload| !workload.is_null()).await;
    let spec = &workload["spec"];
    assert_eq!((&spec["queueName"], &spec["priority"]), (&json!("gpus"), &json!(10)));
    assert_eq!(spec["priorityClassRef"]["name"], "low");
    assert_eq!(spec["podSets"][0]["count"], 1);
    assert_eq!(spec["podSets"][0]["template"]["spec"]["containers"][0]["name"], "worker");
    assert_eq!(workload["metadata"]["ownerReferences"][0]["kind"], "TrainingJob");
    let why =
        "couldn't assign flavors to pod set workers: insufficient unused quota for cpu in flavor spot, 1 more needed";
    kueue.keep_waiting("zh", why).await;
    let job = world.wait("zh", "Kueue's words", |job| message(job) == format!("in the queue gpus: {why}")).await;
    assert_eq!(condition(&job, "Progressing")["reason"], "Queued");
    let quota = condition(&job, "QuotaReserved");
    assert_eq!((&quota["status"], &quota["reason"]), (&json!("False"), &json!("Pending")));
    assert_eq!((&job["status"]["startTime"], world.pods().await.len()), (&Value::Null, 0));
    // It becomes more urgent.
    world.patch("zh", json!({"metadata": {"labels": {"kueue.x-k8s.io/priority-class": "high"}}})).await;
    kueue.wait("zh", "its priority", |workload| workload["spec"]["priority"] == 1000).await;

    // Admitted, it runs where its quota is.
    kueue.admit("zh", "spot").await;
    step_7(&world, "zh").await;
    let pod = pod_of(&world, "zh-0-1").await;
    assert_eq!(pod["spec"]["nodeSelector"], json!({"machine": "spot"}));
    assert!(pod["spec"]["tolerations"].as_array().unwrap().contains(&toleration), "{pod:#}");
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["kueue.x-k8s.io/podset"], "workers");
    assert_eq!(labels["kueue.x-k8s.io/cluster-queue-name"], "all");
    let is = |kind: &'static str, status: &'static str| {
        move |workload: &Value| condition(workload, kind)["status"] == status
    };
    kueue.wait("zh", "PodsReady", is("PodsReady", "True")).await;
    assert_eq!(condition(&world.job("zh").await.unwrap(), "QuotaReserved")["status"], "True");

    // Evicted, it stops with a checkpoint, and only then gives its quota back.
    kueue.evict("zh", "Preempted", "Preempted to accommodate a workload (UID: 7)").await;
    let workload = kueue.wait("zh", "no quota", is("QuotaReserved", "False")).await;
    no_pods(&world).await;
    assert_eq!((world.folder("zh").checkpoint, &workload["status"]["admission"]), (7, &Value::Null));
    for (kind, status) in [("Admitted", "False"), ("Requeued", "True"), ("PodsReady", "False"), ("Evicted", "True")] {
        assert_eq!(condition(&workload, kind)["status"], status, "{kind}");
    }
    let job = world.wait_for_state("zh", "Queued").await;
    let words =
        "stopped after step 7, with a checkpoint; in the queue gpus: Preempted to accommodate a workload (UID: 7)";
    assert_eq!((message(&job).as_str(), &job["status"]["startTime"]), (words, &Value::Null));
    assert_eq!(job["status"]["disruptions"], 0);

    // Admitted again, elsewhere, it goes on.
    world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(15, Mishap::Wait)]));
    kueue.admit("zh", "owned").await;
    world.wait("zh", "step 14", |job| job["status"]["progress"]["step"] == 14).await;
    let pod = pod_of(&world, "zh-0-2").await;
    assert_eq!(pod["spec"]["nodeSelector"], json!({"machine": "owned"}));
    assert!(!pod["spec"]["tolerations"].to_string().contains("spot"), "{pod:#}");
    world.rewrite("zh", |script| script.mishaps.clear());
    let job = world.wait_for("zh", "Succeeded", "True").await;
    assert_eq!(job["status"]["attempt"], 2);
    assert_eq!((job["status"]["restarts"].clone(), job["status"]["disruptions"].clone()), (json!(0), json!(0)));
    let folder = world.folder("zh");
    assert_eq!((folder.repeated, folder.begun.len(), folder.published, folder.harm), (0, 2, 1, vec![]));
    let workload = kueue.wait("zh", "its end", |workload| workload["metadata"]["finalizers"].is_null()).await;
    let finished = condition(&workload, "Finished");
    assert_eq!((&finished["status"], &finished["reason"]), (&json!("True"), &json!("Succeeded")));
    assert_eq!(finished["message"], "the model is in pvc://models/zh");
    let described = world.server().kubectl_succeed(&["describe", "tj", "zh"]).stdout;
    for word in ["Queued", "Evicting"] {
        assert!(described.split("Events:").nth(1).unwrap().contains(word), "{word} is not among {described}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_leaves_its_queue_when_it_is_suspended_and_when_it_is_deleted() {
    let world = World::new().await;
    let kueue = Kueue::install(&world).await;
    kueue.make("ResourceFlavor", "resourceflavors", "any", json!({})).await;
    let operator = world.operator(&[]);
    world.submit_labelled("zh", &queue("gpus"), waits_at_8(), json!({})).await;
    kueue.admit("zh", "any").await;
    step_7(&world, "zh").await;
    let first = kueue.workload("zh").await.unwrap();
    world.patch("zh", json!({"spec": {"suspend": true}})).await;
    let job = world.wait_for("zh", "Suspended", "True").await;
    assert_eq!(message(&job), "suspended after step 7, with a checkpoint");
    assert_eq!(condition(&job, "QuotaReserved")["reason"], "Suspended");
    kueue.wait("zh", "be gone", Value::is_null).await;

    // Resumed, it stands in its queue anew; another operator, or none for a while, changes nothing of that.
    world.patch("zh", json!({"spec": {"suspend": false}})).await;
    let second = kueue.wait("zh", "be there", |workload| !workload.is_null()).await;
    assert_ne!(second["metadata"]["uid"], first["metadata"]["uid"]);
    drop(operator);
    world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(15, Mishap::Wait)]));
    kueue.admit("zh", "any").await;
    let mut operator = world.operator(&[]);
    world.wait("zh", "step 14", |job| job["status"]["progress"]["step"] == 14).await;
    operator.kill();
    let _operator = world.operator(&[]);

    // Somebody deletes the Workload: its quota is kept until the job has stopped, and the job is queued anew.
    let before = kueue.workload("zh").await.unwrap();
    kueue.delete("zh").await;
    let after = kueue
        .wait("zh", "be another", |workload| {
            !workload.is_null() && workload["metadata"]["uid"] != before["metadata"]["uid"]
        })
        .await;
    assert_eq!((world.folder("zh").checkpoint, &after["status"]["admission"]), (14, &Value::Null));
    no_pods(&world).await;
    kueue.admit("zh", "any").await;
    world.wait_for_state("zh", "Training").await;
    world.delete("zh").await;
    world.wait_until_gone("zh").await;
    kueue.wait("zh", "be gone", Value::is_null).await;
    let folder = world.folder("zh");
    assert_eq!((folder.repeated, folder.harm, folder.published), (0, vec![], 0));
}

/// A job in a queue, under an operator whose calls meet what `judge` wants, leaves no Workload behind when it is deleted in the queue.
async fn check_leaves_none(judge: impl FnMut(&Call) -> Fate + Send + 'static, expected: Fate) {
    let world = World::new().await;
    let kueue = Kueue::install(&world).await;
    let proxy = Proxy::start(world.client_as_operator().await, judge).await;
    let _operator = world.operator_behind(&proxy, &[]);
    world.submit_labelled("zh", &queue("gpus"), waits_at_8(), json!({})).await;
    kueue.wait("zh", "be there", |workload| !workload.is_null()).await;
    world.delete("zh").await;
    world.wait_until_gone("zh").await;
    assert_eq!(kueue.workload("zh").await, None);
    assert!(proxy.calls().iter().any(|(_, fate)| *fate == expected), "no call met {expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_goes_takes_along_a_workload_that_changes_meanwhile() {
    let mut has_refused = false;
    let refuse_once = move |call: &Call| {
        let is_release = call.method == "PATCH" && call.resource() == "workloads";
        if is_release && !std::mem::replace(&mut has_refused, true) { Fate::Refused(409) } else { Fate::Answered }
    };
    check_leaves_none(refuse_once, Fate::Refused(409)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_goes_takes_along_a_workload_that_nobody_told_of() {
    let late = Fate::LateBy(Duration::from_secs(3));
    let lag = move |call: &Call| if call.is_watch() && call.resource() == "workloads" { late } else { Fate::Answered };
    check_leaves_none(lag, late).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_is_deactivated_holds_its_job_until_it_is_active_again() {
    let world = World::new().await;
    let kueue = Kueue::install(&world).await;
    kueue.make("ResourceFlavor", "resourceflavors", "any", json!({})).await;
    let _operator = world.operator(&[]);
    world.submit_labelled("zh", &queue("gpus"), waits_at_8(), json!({})).await;
    kueue.admit("zh", "any").await;
    step_7(&world, "zh").await;
    kueue.patch("zh", json!({"spec": {"active": false}})).await;
    let job = world.wait_for_state("zh", "Queued").await;
    assert!(message(&job).contains("spec.active of the Workload trainingjob-zh-"), "{}", message(&job));
    kueue.evict("zh", "Deactivated", "The workload is deactivated").await;
    let workload =
        kueue.wait("zh", "no quota", |workload| condition(workload, "QuotaReserved")["status"] == "False").await;
    // Kueue queues it anew once it is active again.
    let requeued = condition(&workload, "Requeued");
    assert_eq!((&requeued["status"], &requeued["reason"]), (&json!("False"), &json!("Deactivated")));
    kueue.patch("zh", json!({"spec": {"active": true}})).await;
    world.rewrite("zh", |script| script.mishaps.clear());
    kueue.admit("zh", "any").await;
    world.wait_for("zh", "Succeeded", "True").await;
    assert_eq!((world.folder("zh").repeated, world.folder("zh").harm), (0, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kueue_a_job_says_what_it_misses_and_runs_once_that_is_mended() {
    let world = World::new().await;
    let _operator = world.operator(&[]);
    world.submit_labelled("zh", &queue("gpus"), Script::default(), json!({})).await;
    let freed = json!({"output": {"uri": "pvc://models/freed"}});
    world.submit_labelled("freed", &queue("gpus"), Script::default(), freed).await;
    for name in ["zh", "freed"] {
        let job = world.wait_for_state(name, "Queued").await;
        assert!(message(&job).contains("install Kueue"), "{}", message(&job));
        assert_eq!(condition(&job, "QuotaReserved")["reason"], "NoKueue");
    }
    world.patch("freed", json!({"metadata": {"labels": {"kueue.x-k8s.io/queue-name": null}}})).await;
    let job = world.wait_for("freed", "Succeeded", "True").await;
    assert_eq!(condition(&job, "QuotaReserved"), Value::Null);
    assert_eq!(world.folder("zh").begun, Vec::<String>::new());

    // A class that is not there is named, and waited for.
    let kueue = Kueue::install(&world).await;
    kueue.wait("zh", "be there", |workload| !workload.is_null()).await;
    let mut labels = queue("gpus");
    labels["kueue.x-k8s.io/priority-class"] = json!("high");
    world.submit_labelled("urgent", &labels, Script::default(), json!({"output": {"uri": "pvc://models/u"}})).await;
    world.wait("urgent", "what it misses", |job| message(job).contains("no WorkloadPriorityClass high")).await;
    kueue.make("WorkloadPriorityClass", "workloadpriorityclasses", "high", json!({"value": 9})).await;
    kueue.wait("urgent", "be there", |workload| workload["spec"]["priority"] == 9).await;
    kueue.make("ResourceFlavor", "resourceflavors", "any", json!({})).await;
    for name in ["zh", "urgent"] {
        kueue.admit(name, "any").await;
        world.wait_for(name, "Succeeded", "True").await;
    }
}

/// A job file with these labels.
fn job_file(labels: &str, suspend: bool) -> String {
    format!(
        "apiVersion: palimpsest.dev/v1alpha1\nkind: TrainingJob\nmetadata:\n  name: zh\n  labels: {{{labels}}}\nspec:\n  suspend: {suspend}\n  \
         model: {{uri: pvc://models/base}}\n  data: {{datasets: [{{name: zh, uri: pvc://data/zh}}]}}\n  stages:\n    - {{name: one, \
         mixture: [{{dataset: zh, weight: 1}}], budget: {{steps: 20}}}}\n  output: {{uri: pvc://models/zh}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_kueue_would_not_take_are_refused_by_the_api_server_and_by_validate() {
    let world = World::new().await;
    let apply = |yaml: &str| world.server().kubectl_with_input(&["apply", "--server-side", "--dry-run=server"], yaml);
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let validate = |yaml: &str| {
        std::fs::write(file.path(), yaml).unwrap();
        run(&["validate", "--cluster", file.path().to_str().unwrap()])
    };
    // An API server takes a policy up a moment after it is made.
    let began = Instant::now();
    while apply(&job_file("kueue.x-k8s.io/queue-name: Gpus", false)).code == Some(0) {
        assert!(began.elapsed() < Duration::from_secs(30), "the policy is not taken up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let queue = "metadata.labels[kueue.x-k8s.io/queue-name]: ";
    let seconds = "metadata.labels[kueue.x-k8s.io/max-exec-time-seconds]: ";
    let not_a_queue =
        "names no LocalQueue; use lower-case letters, digits, \"-\" and \".\", and no \"-\" or \".\" at its ends";
    let not_seconds = "is no number of seconds; write one from 1 to 999999999";
    for (labels, message) in [
        ("kueue.x-k8s.io/queue-name: Gpus", format!("{queue}\"Gpus\" {not_a_queue}")),
        ("kueue.x-k8s.io/queue-name: a_b", format!("{queue}\"a_b\" {not_a_queue}")),
        ("kueue.x-k8s.io/queue-name: a..b", format!("{queue}\"a..b\" {not_a_queue}")),
        ("kueue.x-k8s.io/max-exec-time-seconds: '0'", format!("{seconds}\"0\" {not_seconds}")),
        ("kueue.x-k8s.io/max-exec-time-seconds: 1h", format!("{seconds}\"1h\" {not_seconds}")),
    ] {
        let yaml = job_file(labels, false);
        for refused in [apply(&yaml), validate(&yaml)] {
            assert!(refused.code != Some(0) && refused.stderr.contains(&message), "{labels}: {}", refused.stderr);
        }
    }
    for labels in ["kueue.x-k8s.io/queue-name: team-a.gpus", "kueue.x-k8s.io/max-exec-time-seconds: '3600'", ""] {
        let yaml = job_file(labels, false);
        for taken in [apply(&yaml), validate(&yaml)] {
            assert_eq!(taken.code, Some(0), "{labels}: {}", taken.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_labels_of_a_job_that_has_quota_cannot_change() {
    let world = World::new().await;
    let kueue = Kueue::install(&world).await;
    kueue.make("ResourceFlavor", "resourceflavors", "any", json!({})).await;
    let operator = world.operator(&[]);
    world.submit_labelled("zh", &queue("gpus"), waits_at_8(), json!({})).await;
    let patch = |labels: &str| {
        let patch = format!("{{\"metadata\": {{\"labels\": {labels}}}}}");
        world.server().kubectl(&["patch", "tj", "zh", "--type=merge", "--patch", &patch])
    };
    let suspend = |to: bool| {
        let patch = format!("{{\"spec\": {{\"suspend\": {to}}}}}");
        world.server().kubectl_succeed(&["patch", "tj", "zh", "--type=merge", "--patch", &patch])
    };
    // It may, for as long as the job waits.
    kueue.keep_waiting("zh", "no quota").await;
    let moved = patch(r#"{"kueue.x-k8s.io/queue-name": "cpus"}"#);
    assert_eq!(moved.code, Some(0), "{}", moved.stderr);
    kueue.wait("zh", "its new queue", |workload| workload["spec"]["queueName"] == "cpus").await;
    kueue.admit("zh", "any").await;
    step_7(&world, "zh").await;
    for (labels, message) in [
        (r#"{"kueue.x-k8s.io/queue-name": "gpus"}"#, "queue-name]: cannot change while the job runs"),
        (r#"{"kueue.x-k8s.io/queue-name": null}"#, "queue-name]: cannot change while the job runs"),
        (
            r#"{"kueue.x-k8s.io/max-exec-time-seconds": "9"}"#,
            "max-exec-time-seconds]: cannot change while the job runs",
        ),
        (r#"{"kueue.x-k8s.io/priority-class": "high"}"#, "but neither added nor removed"),
    ] {
        let refused = patch(labels);
        assert!(refused.code != Some(0) && refused.stderr.contains(message), "{labels}: {}", refused.stderr);
    }
    suspend(true);
    world.wait_for("zh", "Suspended", "True").await;
    assert_eq!(patch(r#"{"kueue.x-k8s.io/queue-name": "gpus"}"#).code, Some(0));
    // Neither may a job join a queue that runs without.
    assert_eq!(patch(r#"{"kueue.x-k8s.io/queue-name": null}"#).code, Some(0));
    suspend(false);
    world.wait_for_state("zh", "Training").await;
    assert_ne!(patch(r#"{"kueue.x-k8s.io/queue-name": "gpus"}"#).code, Some(0));
    drop(operator);
}
