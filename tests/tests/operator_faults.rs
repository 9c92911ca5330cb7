//! The API server refuses, breaks off, lags and is restarted: what a job comes to is the same each time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use palimpsest_tests::{Call, Fate, Mishap, Proxy, RETRY_AFTER, Script, World, condition};
use serde_json::json;

/// A pod that is restarted keeps its name, and so its lease: nobody waits for that to run out.
const NAME: (&str, &str) = ("POD_NAME", "palimpsest-operator-0");

/// Far more calls than a job's life takes.
const MOST_CALLS: usize = 60;

/// The job that a call is about.
fn job_of(call: &Call) -> Option<String> {
    let label = "palimpsest.dev%2Fjob%3D";
    if let Some((_, rest)) = call.query.split_once(label) {
        return Some(rest.split('&').next()?.to_owned());
    }
    let object = call.object()?;
    let resource = call.resource();
    match resource.as_str() {
        "pods" => Some(object.rsplitn(3, '-').nth(2)?.to_owned()),
        "configmaps" => Some(object.strip_suffix("-palimpsest")?.to_owned()),
        _ if resource.starts_with("trainingjobs") || resource == "events" => Some(object),
        _ => None,
    }
}

/// The jobs that were told to go.
type Deleted = Arc<Mutex<HashSet<String>>>;

/// Lives the life of a job, from its beginning until it is deleted and gone; `deleted` knows of the deletion before anybody else does.
async fn live(world: &World, job: &str, deleted: &Deleted) {
    world.submit(job, Script::eventful(), json!({"output": {"uri": format!("pvc://models/{job}")}})).await;
    let mut is_deleted = false;
    let began = Instant::now();
    while let Some(seen) = world.job(job).await {
        if condition(&seen, "Succeeded")["status"] == "True" && !is_deleted {
            deleted.lock().unwrap().insert(job.to_owned());
            world.delete(job).await;
            is_deleted = true;
        }
        assert!(began.elapsed() < Duration::from_secs(150), "{job}: {:#}\n{:#?}", seen["status"], world.folder(job));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.folder(job).check_eventful(job);
}

/// Every call, or where the environment does not ask for that, some. Of those that follow a deletion, which are few, it is every one.
fn step() -> usize {
    if std::env::var_os("PALIMPSEST_ALL_CRASHES").is_some() { 1 } else { 4 }
}

/// The calls about jobs, each counted from 1 over the job's life, and anew from 1 once it is deleted.
struct Counted {
    counts: HashMap<(String, bool), usize>,
    deleted: Deleted,
}

impl Counted {
    /// Which call of which job it is, and whether that was deleted.
    fn count(&mut self, call: &Call) -> Option<(String, bool, usize)> {
        let job = job_of(call)?;
        let is_deleted = self.deleted.lock().unwrap().contains(&job);
        let count = self.counts.entry((job.clone(), is_deleted)).or_insert(0);
        *count += 1;
        Some((job, is_deleted, *count))
    }
}

/// The job that meets a fate at a call.
fn name_of(word: &str, is_deleted: bool, call: usize) -> String {
    if is_deleted { format!("{word}-gone-{call}") } else { format!("{word}-{call}") }
}

/// Whether it is the last that is written to a job: which of the deletion's calls that is differs from life to life.
fn lets_go(call: &Call) -> bool {
    call.resource() == "trainingjobs" && String::from_utf8_lossy(&call.body).contains(r#""finalizers":[]"#)
}

/// Has the `k`-th call about a job meet a fate, for every k of a life with its deletion, and its last one: each of a job of its own.
async fn check_every(word: &'static str, fate: Fate) {
    let world = World::new().await;
    let counted = Arc::new(Mutex::new(Counted { counts: HashMap::new(), deleted: Deleted::default() }));
    let deleted = counted.lock().unwrap().deleted.clone();
    let last = format!("{word}-last");
    let judge = {
        let (counted, last, mut is_met) = (counted.clone(), last.clone(), false);
        move |call: &Call| match counted.lock().unwrap().count(call) {
            Some((job, ..)) if job == last && lets_go(call) && !std::mem::replace(&mut is_met, true) => fate,
            Some((job, is_deleted, number)) if job == name_of(word, is_deleted, number) => fate,
            _ => Fate::Answered,
        }
    };
    let proxy = Proxy::start(world.client_as_operator().await, judge).await;
    let _operator = world.patient_operator_behind(&proxy, &[NAME]);
    // A life that nothing befalls: so many calls there are.
    let plain = format!("{word}-plain");
    live(&world, &plain, &deleted).await;
    let calls_of = |is_deleted| counted.lock().unwrap().counts[&(plain.clone(), is_deleted)];
    let (before, after) = (calls_of(false), calls_of(true));
    let points = (1..=before).step_by(step()).map(|k| (false, k)).chain((1..=after).map(|k| (true, k)));
    let jobs: Vec<String> = points.map(|(is_deleted, k)| name_of(word, is_deleted, k)).chain([last]).collect();
    join_all(jobs.iter().map(|job| live(&world, job, &deleted))).await;

    let calls = proxy.calls();
    let mut met = Vec::new();
    for job in &jobs {
        let of_job: Vec<_> = calls.iter().filter(|(call, _)| job_of(call).as_ref() == Some(job)).collect();
        assert!(of_job.len() <= MOST_CALLS, "{job}: {} calls", of_job.len());
        let Some(at) = of_job.iter().position(|(_, met)| *met == fate) else { continue };
        let (call, _) = of_job[at];
        met.push(call.clone());
        let is_same = |other: &&&(Call, Fate)| (&other.0.method, &other.0.path) == (&call.method, &call.path);
        // After another failure, news of the job may be a reason to visit it before its time; here the client itself has to wait.
        if fate == Fate::Refused(429)
            && let Some((again, _)) = of_job[at + 1..].iter().find(is_same)
        {
            let after = again.at - call.at;
            assert!(after >= RETRY_AFTER, "{job}: {} {} is tried again after {after:?}", call.method, call.path);
        }
    }
    println!("{word}: {} faults at {before} calls and {after} of the deletion, {} calls", met.len(), calls.len());
    // How often figures are written, and so how many calls a life takes, differs from life to life.
    assert!(met.len() * 2 > jobs.len(), "{} faults of {}", met.len(), jobs.len());
    assert!(met.iter().any(lets_go), "the last call of a life met nothing: {met:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_at_any_call_changes_nothing() {
    check_every("conflict", Fate::Refused(409)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn being_asked_to_wait_at_any_call_changes_nothing() {
    check_every("busy", Fate::Refused(429)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_error_at_any_call_changes_nothing() {
    check_every("error", Fate::Refused(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_lost_changes_nothing() {
    check_every("lost", Fate::Lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_changes_nothing() {
    check_every("unheard", Fate::Unheard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_refuses_everything_is_asked_later_and_later() {
    let world = World::new().await;
    let refused = |call: &Call| job_of(call).is_some();
    let proxy =
        Proxy::start(
            world.client_as_operator().await,
            move |call| {
                if refused(call) { Fate::Refused(500) } else { Fate::Answered }
            },
        )
        .await;
    let _operator = world.patient_operator_behind(&proxy, &[NAME]);
    world.submit("zh", Script::eventful(), json!({})).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let times: Vec<Instant> = proxy.calls().iter().filter(|(call, _)| refused(call)).map(|(call, _)| call.at).collect();
    assert!((3..10).contains(&times.len()), "{} calls", times.len());
    let last = times.windows(2).map(|pair| pair[1] - pair[0]).next_back();
    assert!(last > Some(Duration::from_millis(300)), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_break_off_change_nothing() {
    let world = World::new().await;
    let proxy = Proxy::start(world.client_as_operator().await, |call| {
        if call.is_watch() { Fate::CutAfter(Duration::from_millis(300)) } else { Fate::Answered }
    })
    .await;
    let _operator = world.patient_operator_behind(&proxy, &[NAME]);
    let jobs: Vec<String> = (0..4).map(|number| format!("cut-{number}")).collect();
    let deleted = Deleted::default();
    join_all(jobs.iter().map(|job| live(&world, job, &deleted))).await;
    let watches = proxy.calls().iter().filter(|(call, _)| call.is_watch()).count();
    assert!((4..400).contains(&watches), "{watches} watches");
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_lag_change_nothing() {
    let world = World::new().await;
    let late = Fate::LateBy(Duration::from_secs(1));
    let lag = move |call: &Call| if call.is_watch() { late } else { Fate::Answered };
    let proxy = Proxy::start(world.client_as_operator().await, lag).await;
    let _operator = world.patient_operator_behind(&proxy, &[NAME]);
    let jobs: Vec<String> = (0..4).map(|number| format!("lag-{number}")).collect();
    let deleted = Deleted::default();
    join_all(jobs.iter().map(|job| live(&world, job, &deleted))).await;
    for job in &jobs {
        let calls = proxy.calls();
        let of_job: Vec<_> = calls.iter().filter(|(call, _)| job_of(call).as_ref() == Some(job)).collect();
        let told: Vec<_> = of_job.iter().map(|(call, _)| format!("{} {}", call.method, call.resource())).collect();
        assert!(of_job.len() <= MOST_CALLS, "{job}: {told:#?}");
    }
}

/// A job that waits at step 8.
fn waits_at_8() -> Script {
    Script { mishaps: BTreeMap::from([(8, Mishap::Wait)]), ..Script::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_comes_late_from_the_operator_before_is_refused() {
    let world = World::new().await;
    let mut is_held = false;
    let late = Fate::Overdue(Duration::from_secs(8));
    let proxy = Proxy::start(world.client_as_operator().await, move |call| {
        let is_status = call.method == "PATCH" && call.resource() == "trainingjobs/status";
        let has_step = String::from_utf8_lossy(&call.body).contains(r#""step":7"#);
        if is_status && has_step && !std::mem::replace(&mut is_held, true) { late } else { Fate::Answered }
    })
    .await;
    let mut operator = world.patient_operator_behind(&proxy, &[NAME]);
    world.submit("zh", waits_at_8(), json!({})).await;
    let began = Instant::now();
    while !proxy.calls().iter().any(|(_, fate)| *fate == late) {
        assert!(began.elapsed() < Duration::from_secs(30), "{:#?}", world.folder("zh"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    operator.kill();
    let _next = world.patient_operator(&[NAME]);
    world.rewrite("zh", |script| script.mishaps.clear());
    world.wait_for("zh", "Succeeded", "True").await;
    // What has to be said of its end is said.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = world.job("zh").await.unwrap();
    assert_eq!(proxy.answers_to_overdue(), Vec::<u16>::new(), "it came before the job was over");
    while proxy.answers_to_overdue().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(proxy.answers_to_overdue(), [409]);
    assert_eq!(world.job("zh").await.unwrap()["status"], before["status"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_another_wrote_is_taken_over_from() {
    let world = World::new().await;
    let operator = world.patient_operator(&[NAME]);
    world.submit("zh", waits_at_8(), json!({})).await;
    world.wait("zh", "step 7", |job| job["status"]["progress"]["step"] == 7).await;
    // As the operator before would have written it, had it come in time.
    world.patch_status("zh", json!({"status": {"progress": {"step": 3}}})).await;
    world.rewrite("zh", |script| script.mishaps.clear());
    let job = world.wait_for("zh", "Succeeded", "True").await;
    let (status, folder) = (&job["status"], world.folder("zh"));
    assert_eq!((status["restarts"].clone(), status["disruptions"].clone()), (json!(0), json!(0)), "{status:#}");
    assert_eq!((status["progress"]["step"].clone(), status["attempt"].clone()), (json!(20), json!(1)), "{status:#}");
    assert_eq!((folder.repeated, folder.begun.len(), folder.harm, folder.published), (0, 1, vec![], 1));
    assert!(operator.log().contains("taken over anew"), "{}", operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_nobody_told_of_is_found_before_another_is_made() {
    let world = World::new().await;
    let mut is_unheard = false;
    let proxy = Proxy::start(world.client_as_operator().await, move |call| {
        if call.is_watch() && call.path.ends_with("/pods") {
            return Fate::LateBy(Duration::from_secs(1));
        }
        if call.method == "POST" && call.resource() == "pods" && !std::mem::replace(&mut is_unheard, true) {
            return Fate::Unheard;
        }
        Fate::Answered
    })
    .await;
    let _operator = world.patient_operator_behind(&proxy, &[NAME]);
    let plain = Script { step_millis: 100, ..Script::default() };
    world.submit("zh", plain, json!({})).await;
    world.wait_for("zh", "Succeeded", "True").await;
    let folder = world.folder("zh");
    assert_eq!((folder.harm, folder.begun), (vec![], vec!["zh-0-1".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_killed_and_started_again_costs_no_step() {
    let world = World::new().await;
    let operator = world.patient_operator(&[NAME]);
    let script = Script { steps: 60, step_millis: 100, ..Script::default() };
    world.submit("zh", script, json!({})).await;
    world.wait("zh", "step 3", |job| job["status"]["progress"]["step"].as_u64() >= Some(3)).await;
    tokio::task::block_in_place(|| world.server().restart());
    let job = world.wait_for("zh", "Succeeded", "True").await;
    let (status, folder) = (&job["status"], world.folder("zh"));
    assert_eq!((status["restarts"].clone(), status["disruptions"].clone()), (json!(0), json!(0)), "{status:#}");
    assert_eq!((folder.repeated, folder.begun.len(), folder.harm), (0, 1, vec![]));
    // Jobs that come later are seen.
    world.submit("next", Script::default(), json!({"output": {"uri": "pvc://models/next"}})).await;
    world.wait_for("next", "Succeeded", "True").await;
    drop(operator);
}
