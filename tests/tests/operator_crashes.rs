//! The operator dies before and after each of its writes, and is started again: what a job comes to is the same each time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palimpsest_tests::{Kueue, Mishap, OperatorProcess, Script, World, condition};
use serde_json::json;

/// Far more writes than a job's life takes.
const MOST_WRITES: u64 = 60;

/// A pod that is restarted keeps its name, and so its lease: nobody waits for that to run out.
const NAME: (&str, &str) = ("POD_NAME", "palimpsest-operator-0");

/// Starts an operator that has died again; true where it had.
fn starts_again(world: &World, operator: &mut OperatorProcess) -> bool {
    let has_died = operator.ended().is_some();
    if has_died {
        *operator = world.patient_operator(&[NAME]);
    }
    has_died
}

/// Lives the life of a job, from its beginning until it is deleted and gone, with an operator that dies at a point and is started
/// again; false where the life ended before that point. A crash and an eviction are counted, and told of, once each.
async fn live(world: &World, job: &str, point: &str) -> bool {
    let mut operator = world.patient_operator(&[NAME, ("PALIMPSEST_OPERATOR_CRASH", point)]);
    world.submit(job, Script::eventful(), json!({})).await;
    let (mut has_crashed, mut is_deleted) = (false, false);
    let began = Instant::now();
    loop {
        has_crashed |= starts_again(world, &mut operator);
        let Some(seen) = world.job(job).await else { return has_crashed };
        // Pods of a job that has succeeded go, but for the one that failed.
        let is_over = condition(&seen, "Succeeded")["status"] == "True" && world.pods().await.len() <= 1;
        if is_over && !is_deleted {
            let counted = (&seen["status"]["restarts"], &seen["status"]["disruptions"]);
            assert_eq!(counted, (&json!(1), &json!(1)), "{point}: {:#}", seen["status"]);
            let told = (world.events(job, "Restarted").await, world.events(job, "Disrupted").await);
            assert_eq!(told, (1, 1), "{point}");
            world.delete(job).await;
            is_deleted = true;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{point}: {:#}\n{:#?}", seen["status"], world.folder(job));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn check_every(when: &str, step: usize) {
    let world = World::new().await;
    for (crashes, write) in (1..MOST_WRITES).step_by(step).enumerate() {
        let (point, job) = (format!("{when}:{write}"), format!("{when}-{write}"));
        let has_crashed = live(&world, &job, &point).await;
        world.folder(&job).check_eventful(&point);
        if !has_crashed {
            assert!(crashes > 10 / step, "{crashes} crashes");
            println!("{when}: {crashes} crashes, up to write {write}");
            return;
        }
    }
    unreachable!("a job's life takes more than {MOST_WRITES} writes");
}

/// Every write, or where the environment does not ask for that, some.
fn step() -> usize {
    if std::env::var_os("PALIMPSEST_ALL_CRASHES").is_some() { 1 } else { 4 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_write_changes_nothing() {
    check_every("before", step()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_any_write_changes_nothing() {
    check_every("after", step()).await;
}

/// Lives the life of a queued job that is evicted once, as `live` does; the test does what Kueue would, as often as it takes.
async fn live_in_a_queue(world: &World, kueue: &Kueue<'_>, job: &str, point: &str) -> bool {
    let mut operator = world.patient_operator(&[NAME, ("PALIMPSEST_OPERATOR_CRASH", point)]);
    let script =
        Script { steps: 12, checkpoint_every: 3, mishaps: BTreeMap::from([(8, Mishap::Wait)]), ..Script::default() };
    world.submit_labelled(job, &json!({"kueue.x-k8s.io/queue-name": "gpus"}), script, json!({})).await;
    let (mut has_crashed, mut is_evicted, mut is_deleted) = (false, false, false);
    let began = Instant::now();
    loop {
        has_crashed |= starts_again(world, &mut operator);
        let Some(seen) = world.job(job).await else { return has_crashed };
        let workload = kueue.workload(job).await.unwrap_or_default();
        let (has_quota, is_finished) = (condition(&workload, "QuotaReserved"), condition(&workload, "Finished"));
        if !workload.is_null() && has_quota["status"] != "True" && is_finished.is_null() {
            if is_evicted {
                // It waits at step 7 until it was stopped there.
                world.rewrite(job, |script| script.mishaps.clear());
            }
            kueue.admit(job, "any").await;
        } else if world.folder(job).step == 7 && !is_evicted {
            kueue.evict(job, "Preempted", "another is more urgent").await;
            is_evicted = true;
        }
        if is_finished["status"] == "True" && workload["metadata"]["finalizers"].is_null() && !is_deleted {
            world.delete(job).await;
            is_deleted = true;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{point}: {seen:#}\n{workload:#}\n{:#?}", world.folder(job));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn check_every_of_a_queued_job(when: &str) {
    let world = World::new().await;
    let kueue = Kueue::install(&world).await;
    kueue.make("ResourceFlavor", "resourceflavors", "any", json!({})).await;
    for (crashes, write) in (1..MOST_WRITES).step_by(step()).enumerate() {
        let (point, job) = (format!("{when}:{write}"), format!("queued-{write}"));
        let has_crashed = live_in_a_queue(&world, &kueue, &job, &point).await;
        let folder = world.folder(&job);
        assert_eq!(folder.harm, Vec::<String>::new(), "{point}");
        assert_eq!((folder.step, folder.published), (12, 1), "{point}: {folder:#?}");
        assert_eq!((folder.repeated, folder.begun.len()), (0, 2), "{point}: {folder:#?}");
        assert_eq!(kueue.workload(&job).await, None, "{point}");
        if !has_crashed {
            assert!(crashes > 10 / step(), "{crashes} crashes");
            println!("queued, {when}: {crashes} crashes, up to write {write}");
            return;
        }
    }
    unreachable!("a job's life takes more than {MOST_WRITES} writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_write_changes_nothing_for_a_queued_job() {
    check_every_of_a_queued_job("before").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_any_write_changes_nothing_for_a_queued_job() {
    check_every_of_a_queued_job("after").await;
}

/// What the next operator counts, restarts and disruptions, of what happens to a worker at step 8 when the one before is gone.
async fn check_unseen(world: &World, job: &str, happens: impl AsyncFn(&World, &str), expected: (u64, u64)) {
    let mut operator = world.patient_operator(&[NAME]);
    let script = Script { mishaps: BTreeMap::from([(8, Mishap::Wait)]), ..Script::default() };
    world.submit(job, script, json!({"output": {"uri": format!("pvc://models/{job}")}})).await;
    // The attempt is known to run.
    world.wait(job, "step 7", |job| job["status"]["progress"]["step"] == 7).await;
    operator.kill();
    happens(world, job).await;
    let began = Instant::now();
    while !world.folder(job).live.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "{job}: {:#?}", world.folder(job));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.rewrite(job, |script| script.mishaps.clear());
    let _next = world.patient_operator(&[NAME]);
    if world.job(job).await.is_some_and(|job| job["spec"]["suspend"] == true) {
        world.wait_for(job, "Suspended", "True").await;
        world.patch(job, json!({"spec": {"suspend": false}})).await;
    }
    let status = world.wait_for(job, "Succeeded", "True").await["status"].clone();
    let counted = (status["restarts"].as_u64().unwrap(), status["disruptions"].as_u64().unwrap());
    assert_eq!(counted, expected, "{job}: {status:#}");
    let told = (world.events(job, "Restarted").await, world.events(job, "Disrupted").await);
    assert_eq!((told.0 as u64, told.1 as u64), expected, "{job}");
    assert_eq!((world.folder(job).harm, world.folder(job).begun.len()), (vec![], 2), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_nobody_leads_is_counted_as_what_it_was() {
    let world = World::new().await;
    let becomes = async |world: &World, job: &str, mishap: Mishap| {
        world.rewrite(job, |script| script.mishaps = BTreeMap::from([(8, mishap)]));
    };
    let deleted = async |world: &World, job: &str| world.delete_pod(&format!("{job}-0-1")).await;
    check_unseen(&world, "deleted", deleted, (0, 1)).await;
    check_unseen(&world, "evicted", async |world, job| becomes(world, job, Mishap::Evicted).await, (0, 1)).await;
    check_unseen(&world, "ended", async |world, job| becomes(world, job, Mishap::PodEnds(1, "")).await, (1, 0)).await;
    let suspended = async |world: &World, job: &str| {
        world.patch(job, json!({"spec": {"suspend": true}})).await;
        world.delete_pod(&format!("{job}-0-1")).await;
    };
    check_unseen(&world, "suspended", suspended, (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_on_by_the_next_operator_and_by_the_limit_as_it_is_then() {
    let world = World::new().await;
    let mut operator = world.patient_operator(&[NAME]);
    // No checkpoint comes before the rank crashes again and again.
    let script = Script {
        steps: 12,
        checkpoint_every: 12,
        mishaps: BTreeMap::from([(3, Mishap::Crash), (4, Mishap::Wait)]),
        ..Script::default()
    };
    world.submit("zh", script, json!({"runPolicy": {"backoffLimit": 1}})).await;
    world.wait("zh", "a crash", |job| job["status"]["failuresSinceCheckpoint"] == 1).await;
    world.patch("zh", json!({"spec": {"runPolicy": {"backoffLimit": 2}}})).await;
    world.wait("zh", "the change", |job| job["status"]["observedGeneration"] == 2).await;
    world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(4, Mishap::Crash), (5, Mishap::Wait)]));
    world.wait("zh", "two crashes", |job| job["status"]["failuresSinceCheckpoint"] == 2).await;
    operator.kill();
    let _next = world.patient_operator(&[NAME]);
    world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(6, Mishap::Wait)]));
    // Nobody but the next one can have heard of that.
    world.wait("zh", "step 5", |job| job["status"]["progress"]["step"] == 5).await;
    world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(6, Mishap::Crash)]));
    let job = world.wait("zh", "its end", |job| job["status"]["completionTime"].is_string()).await;
    let failed = condition(&job, "Failed");
    assert_eq!((&failed["reason"], &job["status"]["restarts"]), (&json!("BackoffLimitExceeded"), &json!(2)));
    assert!(failed["message"].as_str().unwrap().contains("after 2 restarts without a new checkpoint"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_refuses_and_breaks_off_is_asked_again() {
    let world = World::new().await;
    let _operator = world.patient_operator(&[NAME, ("PALIMPSEST_OPERATOR_FAULTS", "7")]);
    for number in 0..5 {
        let job = format!("zh-{number}");
        let script = Script { mishaps: BTreeMap::from([(8, Mishap::Evicted)]), ..Script::default() };
        world.submit(&job, script, json!({})).await;
        let done = world.wait_for(&job, "Succeeded", "True").await;
        assert_eq!(condition(&done, "Failed")["status"], "False");
        assert_eq!((world.folder(&job).harm, done["status"]["disruptions"].clone()), (vec![], json!(1)), "{job}");
    }
}
