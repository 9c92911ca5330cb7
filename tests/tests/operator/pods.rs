//! Jobs whose pods go, or stay: suspended, deleted, replaced, kept.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palimpsest_tests::{Mishap, Script, World, condition};
use serde_json::{Value, json};

use crate::mishap;

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
