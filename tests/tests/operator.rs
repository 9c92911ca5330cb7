//! The life of jobs on a real API server, under the real operator: nodes are played, and train nothing.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palimpsest_tests::{Kueue, Mishap, Script, Stillborn, World, condition};
use serde_json::{Value, json};

/// What a job is to come to.
#[derive(Clone, Copy)]
struct Expected<'e> {
    succeeded: &'e str,
    /// The reason of the condition Failed.
    reason: &'e str,
    /// Part of its message.
    message: &'e str,
    restarts: u64,
    disruptions: u64,
    pods: usize,
}

const SUCCESS: Expected<'_> =
    Expected { succeeded: "True", reason: "Succeeded", message: "", restarts: 0, disruptions: 0, pods: 1 };

/// Runs a job to its end and compares.
async fn check(world: &World, name: &str, script: Script, spec: Value, expected: Expected<'_>) {
    world.submit(name, script, spec).await;
    let job = world.wait(name, "its end", |job| job["status"]["completionTime"].is_string()).await;
    let (status, failed) = (&job["status"], condition(&job, "Failed"));
    let folder = world.folder(name);
    let is_as_expected = condition(&job, "Succeeded")["status"] == expected.succeeded
        && failed["reason"] == expected.reason
        && failed["message"].as_str().unwrap().contains(expected.message)
        && status["restarts"] == expected.restarts
        && status["disruptions"] == expected.disruptions
        && folder.begun.len() == expected.pods;
    assert!(is_as_expected, "{name}: {status:#}\n{folder:#?}");
    assert_eq!(folder.harm, Vec::<String>::new(), "{name}");
    assert_eq!(folder.published, u32::from(expected.succeeded == "True"), "{name}");
}

fn mishap(step: u64, mishap: Mishap) -> Script {
    Script { mishaps: BTreeMap::from([(step, mishap)]), ..Script::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_come_to_their_end() {
    let world = World::new().await;
    let _operator = world.operator(&[]);
    let failure = Expected { succeeded: "False", ..SUCCESS };
    let message = "there is no data at pvc://data/zh";
    let users_error = mishap(1, Mishap::UserError("DatasetNotFound", message));
    let last_words = mishap(1, Mishap::PodEnds(2, r#"{"reason": "OutputExists", "message": "there is a model"}"#));
    let unheard = Script {
        published_unheard: true,
        ..mishap(20, Mishap::PodEnds(0, r#"{"cause": "Succeeded", "digest": "sha256:3333"}"#))
    };
    let none = || json!({});
    tokio::join!(
        check(&world, "plain", Script::default(), none(), SUCCESS),
        async {
            check(&world, "unheard", unheard, none(), SUCCESS).await;
            assert_eq!(world.job("unheard").await.unwrap()["status"]["model"]["digest"], "sha256:3333");
        },
        check(&world, "crash", mishap(8, Mishap::Crash), none(), Expected { restarts: 1, ..SUCCESS }),
        check(&world, "evicted", mishap(8, Mishap::Evicted), none(), Expected { disruptions: 1, pods: 2, ..SUCCESS }),
        check(
            &world,
            "dies",
            mishap(8, Mishap::PodEnds(137, "")),
            none(),
            Expected { restarts: 1, pods: 2, ..SUCCESS }
        ),
        check(&world, "users-error", users_error, none(), Expected { reason: "DatasetNotFound", message, ..failure }),
        check(
            &world,
            "last-words",
            last_words,
            none(),
            Expected { reason: "OutputExists", message: "there is a model", ..failure }
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_end_jobs_that_cannot_go_on() {
    let world = World::new().await;
    let _operator = world.operator(&[]);
    let failure = Expected { succeeded: "False", ..SUCCESS };
    let stillborn = |pods| Script { pods, ..Script::default() };
    let backoff = Expected { reason: "BackoffLimitExceeded", message: "exit code 1", restarts: 2, pods: 3, ..failure };
    let timeout = Expected { reason: "StartTimeout", message: "Unschedulable: 0/1 nodes are available", ..failure };
    let unsupported = Expected { reason: "Unsupported", message: "spec.workers.replicas", pods: 0, ..failure };
    let invalid = Expected { reason: "InvalidTemplate", message: "imagePullPolicy", pods: 0, ..failure };
    let template = json!({"spec": {"containers": [{"name": "worker", "imagePullPolicy": "Sometimes"}]}});
    tokio::join!(
        check(
            &world,
            "backoff",
            stillborn(vec![Stillborn::Ends(1, ""), Stillborn::Ends(1, ""), Stillborn::Ends(1, "")]),
            json!({"runPolicy": {"backoffLimit": 2}}),
            backoff
        ),
        check(
            &world,
            "unschedulable",
            stillborn(vec![Stillborn::Unschedulable("0/1 nodes are available")]),
            json!({"runPolicy": {"startTimeoutSeconds": 2}}),
            timeout
        ),
        check(
            &world,
            "deadline",
            mishap(3, Mishap::Wait),
            json!({"runPolicy": {"activeDeadlineSeconds": 2}}),
            Expected { reason: "DeadlineExceeded", message: "(2)", ..failure }
        ),
        check(&world, "unsupported", Script::default(), json!({"workers": {"replicas": 2}}), unsupported),
        check(&world, "template", Script::default(), json!({"workers": {"template": template}}), invalid),
    );
}

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
async fn a_suspended_job_goes_on_where_its_checkpoint_is() {
    let world = World::new().await;
    let script = mishap(8, Mishap::Wait);
    let _operator = world.operator(&[]);
    world.submit("zh", script, json!({"suspend": true})).await;
    let job = world.wait_for("zh", "Suspended", "True").await;
    assert_eq!(job["status"]["startTime"], Value::Null);
    assert_eq!(world.pods().await.len(), 0);
    world.patch("zh", json!({"spec": {"suspend": false}})).await;
    world.wait("zh", "step 7", |job| job["status"]["progress"]["step"] == 7).await;
    world.patch("zh", json!({"spec": {"suspend": true}})).await;
    let job = world.wait_for("zh", "Suspended", "True").await;
    assert_eq!(condition(&job, "Progressing")["message"], "suspended after step 7, with a checkpoint");
    assert_eq!(world.folder("zh").checkpoint, 7);
    // What has ended is taken away by its kubelet, a moment later.
    let began = Instant::now();
    while !world.pods().await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(5), "{:#?}", world.pods().await);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    world.rewrite("zh", |script| script.mishaps.clear());
    world.patch("zh", json!({"spec": {"suspend": false}})).await;
    let job = world.wait_for("zh", "Succeeded", "True").await;
    assert_eq!(job["status"]["attempt"], 2);
    assert_eq!((job["status"]["restarts"].clone(), job["status"]["disruptions"].clone()), (json!(0), json!(0)));
    let folder = world.folder("zh");
    assert_eq!(
        (folder.repeated, folder.begun, folder.harm),
        (0, vec!["zh-0-1".to_owned(), "zh-0-2".to_owned()], vec![])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_costs_no_step_and_a_deleted_job_publishes_nothing() {
    let world = World::new().await;
    let script = mishap(8, Mishap::Wait);
    let _operator = world.operator(&[]);
    world.submit("zh", script, json!({})).await;
    world.wait("zh", "step 7", |job| job["status"]["progress"]["step"] == 7).await;
    world.delete_pod("zh-0-1").await;
    let deleted = Instant::now();
    world.rewrite("zh", |script| {
        script.mishaps = BTreeMap::from([(15, Mishap::Wait)]);
    });
    while world.folder("zh").step < 8 {
        assert!(deleted.elapsed() < Duration::from_secs(5), "{:?}", world);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("from the deletion of the pod to the next step: {:?}", deleted.elapsed());
    let job = world.wait("zh", "a disruption", |job| job["status"]["disruptions"] == 1).await;
    assert_eq!((job["status"]["restarts"].clone(), world.folder("zh").repeated), (json!(0), 0));
    world.delete("zh").await;
    world.wait_until_gone("zh").await;
    assert_eq!(world.pods().await.len(), 0);
    assert_eq!((world.folder("zh").published, world.folder("zh").harm), (0, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_that_takes_too_long_says_what_it_cost() {
    let world = World::new().await;
    let _operator = world.operator(&[]);
    let deaf = Script { is_deaf: true, ..mishap(8, Mishap::Wait) };
    world.submit("zh", deaf, json!({"checkpoint": {"terminationSeconds": 2}})).await;
    world.wait("zh", "step 7", |job| job["status"]["progress"]["step"] == 7).await;
    world.patch("zh", json!({"spec": {"suspend": true}})).await;
    let asked = Instant::now();
    let job = world.wait_for_state("zh", "Suspending").await;
    assert_eq!(condition(&job, "Suspended")["status"], "False");
    let job = world.wait_for("zh", "Suspended", "True").await;
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(12), "{took:?}");
    let lost = "suspended after step 7; the newest checkpoint is of step 5, so 2 steps are lost";
    assert_eq!(condition(&job, "Progressing")["message"], lost);
    assert!(world.server().kubectl_succeed(&["describe", "tj", "zh"]).stdout.contains(lost));
    world.rewrite("zh", |script| *script = Script::default());
    world.patch("zh", json!({"spec": {"suspend": false}})).await;
    let status = world.wait_for("zh", "Succeeded", "True").await["status"].clone();
    assert_eq!((&status["restarts"], &status["disruptions"]), (&json!(0), &json!(0)), "{status:#}");
    assert_eq!((world.folder("zh").repeated, world.folder("zh").harm), (2, vec![]));
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

/// The image of a pod's worker.
async fn image_of(world: &World, pod: &str) -> String {
    let pods = world.pods().await;
    let pod = pods.iter().find(|found| found.metadata.name.as_deref() == Some(pod));
    pod.unwrap_or_else(|| panic!("{pod:?} is not among {pods:#?}")).spec.as_ref().unwrap().containers[0]
        .image
        .clone()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_comes_later_runs_the_image_that_the_job_began_with() {
    let world = World::new().await;
    let mut operator = world.operator(&[]);
    let digest = "registry.test/worker@sha256:1111";
    world.submit("zh", mishap(4, Mishap::Wait), json!({})).await;
    world.wait_for_state("zh", "Training").await;
    assert_eq!(image_of(&world, "zh-0-1").await, "worker.test:1");
    let step = async |step: u64| {
        world.wait("zh", "a step", |job| job["status"]["progress"]["step"] == step).await;
    };
    let replace_at = |at: u64, then: u64| {
        world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(at, Mishap::Evicted), (then, Mishap::Wait)]));
    };
    replace_at(4, 8);
    step(7).await;
    assert_eq!(image_of(&world, "zh-0-2").await, digest);
    // The operator is upgraded.
    operator.kill();
    let _next = world.operator(&[("WORKER_IMAGE", "worker.test:2")]);
    replace_at(8, 12);
    step(11).await;
    assert_eq!(image_of(&world, "zh-0-3").await, digest);
    // Resumed, it begins anew, with the newest.
    world.patch("zh", json!({"spec": {"suspend": true}})).await;
    let job = world.wait_for("zh", "Suspended", "True").await;
    assert_eq!(job["status"]["resolved"]["image"], Value::Null);
    world.patch("zh", json!({"spec": {"suspend": false}})).await;
    world.wait_for_state("zh", "Training").await;
    assert_eq!(image_of(&world, "zh-0-4").await, "worker.test:2");
}

/// The pods of a job that are left half a second after they are as expected, and how long that may take.
async fn check_left(world: &World, job: &str, script: Script, retention: &str, expected: &[&str]) {
    world.submit(job, script, json!({"runPolicy": {"podRetention": retention}})).await;
    world.wait(job, "its end", |job| job["status"]["completionTime"].is_string()).await;
    let left = async || -> Vec<String> {
        let of_job = |pod: &k8s_openapi::api::core::v1::Pod| {
            let labels = pod.metadata.labels.as_ref()?;
            (labels.get("palimpsest.dev/job")? == job).then(|| pod.metadata.name.clone())?
        };
        world.pods().await.iter().filter_map(of_job).collect()
    };
    let began = Instant::now();
    while left().await != expected {
        assert!(began.elapsed() < Duration::from_secs(10), "{job}: {:?} are left, not {expected:?}", left().await);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(left().await, expected, "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_finished_job_are_kept_as_it_asks() {
    let world = World::new().await;
    let _operator = world.operator(&[]);
    let success = || mishap(8, Mishap::Evicted);
    let failure = || mishap(8, Mishap::UserError("DatasetNotFound", "there is no data at pvc://data/zh"));
    tokio::join!(
        check_left(&world, "never", success(), "Never", &[]),
        check_left(&world, "failed", success(), "Failed", &["failed-0-1"]),
        check_left(&world, "always", success(), "Always", &["always-0-1", "always-0-2"]),
        check_left(&world, "fails-never", failure(), "Never", &[]),
        check_left(&world, "fails-failed", failure(), "Failed", &["fails-failed-0-1"]),
        check_left(&world, "fails-always", failure(), "Always", &["fails-always-0-1"]),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_never_runs_again_and_goes_when_its_time_is_over() {
    let world = World::new().await;
    let script = Script::default();
    let _operator = world.operator(&[]);
    world.submit("zh", script, json!({"runPolicy": {"podRetention": "Always"}})).await;
    world.wait_for("zh", "Succeeded", "True").await;
    // Its pod ends by itself and is kept for its log.
    let ended = |pods: Vec<k8s_openapi::api::core::v1::Pod>| {
        pods.len() == 1 && pods[0].status.as_ref().unwrap().phase.as_deref() == Some("Succeeded")
    };
    let began = Instant::now();
    while !ended(world.pods().await) {
        assert!(began.elapsed() < Duration::from_secs(20), "{:#?}", world.pods().await);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    world.delete_pod("zh-0-1").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((world.pods().await.len(), world.folder("zh").begun.len()), (0, 1));
    world.patch("zh", json!({"spec": {"runPolicy": {"ttlSecondsAfterFinished": 1}}})).await;
    world.wait_until_gone("zh").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_takes_over_what_runs_without_a_step_lost() {
    let world = World::new().await;
    let script = mishap(12, Mishap::Wait);
    let mut first = world.operator(&[]);
    world.submit("zh", script, json!({})).await;
    world.wait("zh", "step 11", |job| job["status"]["progress"]["step"] == 11).await;
    let mut second = world.operator(&[]);
    first.kill();
    world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(16, Mishap::Wait)]));
    // Nobody leads, and training goes on.
    let began = Instant::now();
    while world.folder("zh").step < 15 {
        assert!(began.elapsed() < Duration::from_secs(5), "{world:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.rewrite("zh", |script| script.mishaps.clear());
    let job = world.wait_for("zh", "Succeeded", "True").await;
    println!("from the leader's end to the end of the job: {:?}", began.elapsed());
    assert_eq!(job["status"]["attempt"], 1);
    let folder = world.folder("zh");
    assert_eq!((folder.repeated, folder.begun.len(), folder.harm), (0, 1, vec![]));
    // One that is told to end gives the lease up: the next leads at once.
    let _third = world.operator(&[]);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(second.end().success());
    let began = Instant::now();
    world.submit("next", Script::default(), json!({"output": {"uri": "pvc://models/next"}, "suspend": true})).await;
    world.wait_for("next", "Suspended", "True").await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_certificate_gets_old_hands_over_and_no_agent_is_lost() {
    let world = World::new().await;
    let lifetime = Duration::from_secs(9);
    let start = || world.short_lived_operator(lifetime.as_secs(), &[]);
    let began = Instant::now();
    let mut operator = start();
    // Longer than two certificates are valid.
    world.submit("zh", Script { steps: 100, step_millis: 250, ..Script::default() }, json!({})).await;
    let mut handed_over = 0;
    while began.elapsed() < lifetime * 2 + Duration::from_secs(2) {
        if let Some(status) = operator.ended() {
            assert!(status.success(), "{}", operator.log());
            handed_over += 1;
            operator = start();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(handed_over >= 2, "{handed_over}");
    let _last = world.operator(&[]);
    let status = world.wait_for("zh", "Succeeded", "True").await["status"].clone();
    assert_eq!(
        (status["attempt"].clone(), status["restarts"].clone(), status["disruptions"].clone()),
        (json!(1), json!(0), json!(0))
    );
    let folder = world.folder("zh");
    assert_eq!((folder.repeated, folder.begun.len(), folder.harm), (0, 1, vec![]));
}
