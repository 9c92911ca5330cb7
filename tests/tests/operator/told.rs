//! What a job says of itself: what it is at, why it waits, what stands in its way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palimpsest_tests::{Kueue, Mishap, Script, Stillborn, World, condition};
use serde_json::{Value, json};

use crate::mishap;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_is_not_scaled_to_more_workers_than_can_train() {
    let world = World::new().await;
    let _operator = world.operator(&[]);
    world
        .submit("zh", mishap(8, Mishap::Wait), json!({"workers": {"elastic": {"minReplicas": 1, "maxReplicas": 4}}}))
        .await;
    world.wait_for("zh", "Progressing", "True").await;
    let patch = r#"{"spec": {"workers": {"replicas": 2}}}"#;
    let scale: &[&str] = &["scale", "tj", "zh", "--replicas=2"];
    for change in [scale, &["patch", "tj", "zh", "--type=merge", "--patch", patch]] {
        // An API server takes a policy up a moment after it is made.
        let began = Instant::now();
        let refused = loop {
            let dry = [change, &["--dry-run=server"]].concat();
            let refused = world.server().kubectl(&dry);
            if refused.code != Some(0) {
                break refused;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "the policy is not taken up: {change:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let why = "spec.workers.replicas: 2 workers are not available in this version; leave 1";
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
    world.server().kubectl_succeed(&["scale", "tj", "zh", "--replicas=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_says_what_it_is_at_and_why() {
    let script = Script { pods: vec![Stillborn::NoImage("Back-off pulling image")], ..mishap(12, Mishap::Wait) };
    let world = World::new().await;
    let operator = world.operator(&[]);
    world.submit("zh", script, json!({})).await;
    let job = world.wait_for_state("zh", "ImagePullFailed").await;
    assert_eq!(condition(&job, "Progressing")["status"], "False");
    for (kind, status) in [("Suspended", "False"), ("Succeeded", "Unknown"), ("Failed", "Unknown")] {
        assert_eq!(condition(&job, kind)["status"], status, "{kind}");
        assert_eq!(condition(&job, kind)["observedGeneration"], 1, "{kind}");
    }
    // A person deletes the pod; the next one has its image.
    world.delete_pod("zh-0-1").await;
    let job = world.wait_for_state("zh", "Training").await;
    assert_eq!(job["status"]["resolved"]["image"], "registry.test/worker@sha256:1111");
    let job = world.wait("zh", "step 11", |job| job["status"]["progress"]["step"] == 11).await;
    assert_eq!(job["status"]["progress"]["progressPercentage"], 55);
    assert_eq!(job["status"]["checkpoint"]["step"], 10);
    assert_eq!(job["status"]["stage"]["name"], "one");
    let shown = world.server().kubectl_succeed(&["get", "tj", "zh", "--no-headers"]).stdout;
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words[..7], ["zh", "Training", "one", "55", "1.5", "1000", "0"], "{shown}");
    let metrics = operator.metrics();
    for line in [
        "controller_runtime_reconcile_total{controller=\"trainingjob\",result=\"success\"}",
        "leader_election_master_status{name=\"palimpsest-operator\"} 1",
        "palimpsest_training_jobs{state=\"Training\"} 1",
        "palimpsest_attached_agents 1",
        "workqueue_depth{controller=\"trainingjob\",name=\"trainingjob\"} 0",
        "workqueue_adds_total{controller=\"trainingjob\",name=\"trainingjob\"}",
        "workqueue_queue_duration_seconds_count{controller=\"trainingjob\",name=\"trainingjob\"}",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    // Each visit is measured by the queue as by the controller.
    let count =
        |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse::<u64>().ok());
    let worked = count("workqueue_work_duration_seconds_count{").unwrap();
    assert_eq!(Some(worked), count("controller_runtime_reconcile_time_seconds_count{"));
    assert!(count("workqueue_adds_total{").unwrap() >= worked && worked > 5, "{metrics}");
    assert_eq!(job["status"]["resolved"]["precision"], "Float32");
    assert_eq!(job["status"]["model"], Value::Null);
    world.rewrite("zh", |script| script.mishaps.clear());
    let job = world.wait_for("zh", "Succeeded", "True").await;
    assert_eq!(job["status"]["model"], json!({"uri": "pvc://models/zh", "digest": "sha256:2222"}));
    let described = world.server().kubectl_succeed(&["describe", "tj", "zh"]).stdout;
    for word in ["ImagePullFailed", "Training", "Succeeded"] {
        let events = described.split("Events:").nth(1).unwrap();
        assert!(events.contains(word), "{word} is not among {events}");
    }
    assert!(described.contains("the workers train the model"), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_template_is_told_before_the_job_has_waited_for_its_turn() {
    let world = World::new().await;
    let kueue = Kueue::install(&world).await;
    let mut operator = world.operator(&[]);
    let with_policy =
        |policy: &str| json!({"template": {"spec": {"containers": [{"name": "worker", "imagePullPolicy": policy}]}}});
    let mend = |policy: &str, suspend: bool| json!({"spec": {"suspend": suspend, "workers": with_policy(policy)}});
    world.submit("zh", Script::default(), json!({"suspend": true, "workers": with_policy("Sometimes")})).await;
    let told = world.wait_for_state("zh", "InvalidTemplate").await;
    let message = condition(&told, "Progressing")["message"].clone();
    let parts = ["spec.workers.template: ", "imagePullPolicy", "\"Sometimes\"", "mend it before the job is resumed"];
    assert!(parts.iter().all(|part| message.as_str().unwrap().contains(part)), "{message}");
    assert_eq!(
        (&condition(&told, "Suspended")["status"], &condition(&told, "Failed")["status"]),
        (&json!("True"), &json!("Unknown"))
    );
    assert_eq!((world.events("zh", "InvalidTemplate").await, world.pods().await.len()), (1, 0));
    // Another operator knows it, too.
    operator.kill();
    let _next = world.operator(&[]);
    world.patch("zh", mend("Always", true)).await;
    world.wait_for_state("zh", "Suspended").await;
    world.patch("zh", mend("Never, ever", true)).await;
    world.wait_for_state("zh", "InvalidTemplate").await;
    // What resumes the job may mend it.
    world.patch("zh", mend("Never", false)).await;
    world.wait_for("zh", "Succeeded", "True").await;
    // In a queue nothing can be mended.
    let label = json!({"kueue.x-k8s.io/queue-name": "gpus"});
    let spec = json!({"workers": with_policy("Sometimes"), "output": {"uri": "pvc://models/queued"}});
    world.submit_labelled("queued", &label, Script::default(), spec).await;
    let failed = world.wait_for("queued", "Failed", "True").await;
    assert_eq!(condition(&failed, "Failed")["reason"], "InvalidTemplate");
    assert!(condition(&failed, "Failed")["message"].as_str().unwrap().contains("imagePullPolicy"), "{failed:#}");
    assert_eq!((kueue.workload("queued").await, world.events("queued", "Failed").await), (None, 1));
    assert!(world.folder("queued").begun.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_the_version_before_are_coordinated_as_newer_ones_are() {
    let world = World::new().await;
    let mut first = world.operator(&[]);
    let mishaps = BTreeMap::from([(5, Mishap::Crash), (8, Mishap::Wait)]);
    world.submit("zh", Script { agents_of_before: true, mishaps, ..Script::default() }, json!({})).await;
    world.wait("zh", "step 7", |job| job["status"]["progress"]["step"] == 7).await;
    // They are taken over, too.
    first.kill();
    let _second = world.operator(&[]);
    world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(12, Mishap::Evicted)]));
    let status = world.wait_for("zh", "Succeeded", "True").await["status"].clone();
    assert_eq!((&status["restarts"], &status["disruptions"]), (&json!(1), &json!(1)), "{status:#}");
    // What they do not say is not known.
    assert_eq!(status["resolved"]["precision"], Value::Null);
    assert_eq!(status["model"], json!({"uri": "pvc://models/zh"}));
    let folder = world.folder("zh");
    assert_eq!((folder.published, folder.harm), (1, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_job_is_can_be_seen_within_seconds() {
    let world = World::new().await;
    let _operator = world.operator(&[]);
    world.submit("zh", mishap(2, Mishap::Wait), json!({})).await;
    for step in [2, 3, 4] {
        // Whatever was written last was written just now.
        world.wait("zh", "the step before", |job| job["status"]["progress"]["step"] == step - 1).await;
        world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(step + 1, Mishap::Wait)]));
        let began = Instant::now();
        world.wait("zh", "a step", |job| job["status"]["progress"]["step"] == step).await;
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_for_far_longer_than_one_takes_is_told() {
    let world = World::new().await;
    let _operator = world.operator(&[]);
    world.submit("zh", mishap(8, Mishap::Wait), json!({})).await;
    let job = world.wait_for_state("zh", "NoProgress").await;
    let progressing = condition(&job, "Progressing");
    let message = progressing["message"].as_str().unwrap();
    assert_eq!((&progressing["status"], &job["status"]["progress"]["step"]), (&json!("False"), &json!(7)));
    assert!(message.starts_with("no step has come since 20") && message.ends_with(" seconds as a rule"), "{message}");
    assert_eq!(world.events("zh", "NoProgress").await, 1);
    world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(12, Mishap::Wait)]));
    world.wait_for("zh", "Progressing", "True").await;
    world.rewrite("zh", |script| script.mishaps.clear());
    world.wait_for("zh", "Succeeded", "True").await;
    assert_eq!(world.events("zh", "NoProgress").await, 1);
}
