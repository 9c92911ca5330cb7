//! The operator's figures are what docs/operator.md lists, and true; and what it writes stays within its budget.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use palimpsest_tests::{Call, Fate, Mishap, OperatorProcess, Proxy, Script, World, repository};
use serde_json::json;

/// Name and type of each figure in docs/operator.md.
fn listed() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(repository().join("docs/operator.md")).unwrap();
    let figures = text.split("## Figures").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = figures.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`').split('{').next().unwrap();
        (name.to_owned(), cells[2].to_owned())
    })
    .collect()
}

/// Name and type of each figure of a page.
fn served(page: &str) -> BTreeMap<String, String> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    lines.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// A sample of a page, by its name and all of its labels, in order.
fn sample(operator: &OperatorProcess, name: &str) -> f64 {
    let page = operator.metrics();
    let found = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("{name} is not in {page}"))
}

/// Waits until a sample has a value.
async fn comes_to(operator: &OperatorProcess, name: &str, value: f64) {
    let began = Instant::now();
    while sample(operator, name) != value {
        assert!(began.elapsed() < Duration::from_secs(10), "{name} is {}, not {value}", sample(operator, name));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const OF_CONTROLLER: &str = "{controller=\"trainingjob\"}";
const OF_QUEUE: &str = "{controller=\"trainingjob\",name=\"trainingjob\"}";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_listed_and_true() {
    let world = World::new().await;
    let mut is_refused = false;
    let proxy = Proxy::start(world.client_as_operator().await, move |call| {
        let is_status = call.method == "PATCH" && call.resource() == "trainingjobs/status";
        if is_status && !std::mem::replace(&mut is_refused, true) { Fate::Refused(500) } else { Fate::Answered }
    })
    .await;
    let operator = world.patient_operator_behind(&proxy, &[]);
    // Steps 6 to 8 are taken twice.
    let mishaps = BTreeMap::from([(9, Mishap::Crash), (12, Mishap::Wait)]);
    world.submit("zh", Script { step_millis: 200, mishaps, ..Script::default() }, json!({})).await;
    world.submit("idle", Script::default(), json!({"suspend": true})).await;
    world.wait("zh", "step 11", |job| job["status"]["progress"]["step"] == 11).await;
    world.wait_for("idle", "Suspended", "True").await;

    assert_eq!(served(&operator.metrics()), listed());
    comes_to(&operator, "controller_runtime_active_workers{controller=\"trainingjob\"}", 0.0).await;
    for (name, value) in [
        ("leader_election_master_status{name=\"palimpsest-operator\"}", 1.0),
        ("palimpsest_attached_agents", 1.0),
        ("palimpsest_training_jobs{state=\"Training\"}", 1.0),
        ("palimpsest_training_jobs{state=\"Suspended\"}", 1.0),
        ("controller_runtime_reconcile_errors_total{controller=\"trainingjob\"}", 1.0),
        ("controller_runtime_reconcile_total{controller=\"trainingjob\",result=\"error\"}", 1.0),
        ("rest_client_requests_total{code=\"500\",method=\"PATCH\"}", 1.0),
        ("rest_client_requests_total{code=\"201\",method=\"POST\"}", posts_of(&proxy)),
    ] {
        assert_eq!(sample(&operator, name), value, "{name}");
    }
    assert_eq!(sample(&operator, &format!("workqueue_retries_total{OF_QUEUE}")), 1.0);
    let lost = sample(&operator, "palimpsest_lost_work_seconds_total");
    assert!((0.5..1.2).contains(&lost), "three steps of 0.2 seconds: {lost}");
    // Each visit is measured by the queue as by the controller.
    let visits = sample(&operator, &format!("controller_runtime_reconcile_time_seconds_count{OF_CONTROLLER}"));
    let succeeded =
        sample(&operator, "controller_runtime_reconcile_total{controller=\"trainingjob\",result=\"success\"}");
    assert_eq!(visits, succeeded + 1.0);
    for measured in ["work_duration_seconds_count", "queue_duration_seconds_count", "adds_total"] {
        assert_eq!(sample(&operator, &format!("workqueue_{measured}{OF_QUEUE}")), visits, "{measured}");
    }
    assert_eq!(sample(&operator, &format!("workqueue_depth{OF_QUEUE}")), 0.0);

    // A disruption costs the steps since the checkpoint, too.
    world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(14, Mishap::Evicted)]));
    world.wait_for("zh", "Succeeded", "True").await;
    let more = sample(&operator, "palimpsest_lost_work_seconds_total") - lost;
    assert!((0.4..2.5).contains(&more), "three steps of 0.2 seconds, or a little more after a wait: {more}");
    comes_to(&operator, "palimpsest_attached_agents", 0.0).await;
    assert_eq!(sample(&operator, "palimpsest_training_jobs{state=\"Succeeded\"}"), 1.0);
    world.delete("zh").await;
    world.wait_until_gone("zh").await;
    assert!(!operator.metrics().contains("state=\"Succeeded\""), "{}", operator.metrics());
}

/// How many objects were made: there are no other answers to them here.
fn posts_of(proxy: &Proxy) -> f64 {
    proxy.calls().iter().filter(|(call, _)| call.method == "POST").count() as f64
}

/// Statuses that were written of a job.
fn is_status_of(call: &Call, job: &str) -> bool {
    call.method == "PATCH" && call.resource() == "trainingjobs/status" && call.object().as_deref() == Some(job)
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_keep_their_budget_and_turns_do_not_wait_for_it() {
    const JOBS: usize = 12;
    const A_SECOND: usize = 3;
    let world = World::new().await;
    let proxy = Proxy::start(world.client_as_operator().await, |_| Fate::Answered).await;
    let budget = A_SECOND.to_string();
    let _operator = world.patient_operator_behind(&proxy, &[("PALIMPSEST_PROGRESS_WRITES_PER_SECOND", &budget)]);
    let jobs: Vec<String> = (0..JOBS).map(|number| format!("zh-{number}")).collect();
    let script = || Script { steps: 2000, step_millis: 100, ..Script::default() };
    join_all(jobs.iter().map(|job| world.submit(job, script(), json!({})))).await;
    for job in &jobs {
        world.wait_for_state(job, "Training").await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let seconds = 2 * JOBS / A_SECOND;
    let before = proxy.calls().len();
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    let calls = proxy.calls();
    let written = |job: &String| calls[before..].iter().filter(|(call, _)| is_status_of(call, job)).count();
    let each: Vec<usize> = jobs.iter().map(written).collect();
    let all: usize = each.iter().sum();
    println!("{all} statuses in {seconds} s: {each:?}");
    assert!((A_SECOND * seconds * 8 / 10..=A_SECOND * seconds + A_SECOND).contains(&all), "{all} in {seconds} s");
    // Each as often as the others: twice.
    assert!(each.iter().all(|writes| (1..=3).contains(writes)), "{each:?}");

    // What a job comes to is said at once, for as long as others wait for their turn.
    let step = world.folder("zh-3").step + 2;
    world.rewrite("zh-3", |script| script.mishaps = BTreeMap::from([(step, Mishap::Crash)]));
    let began = Instant::now();
    world.wait("zh-3", "a restart", |job| job["status"]["restarts"] == 1).await;
    assert!(began.elapsed() < Duration::from_secs(3), "restarted after {:?}", began.elapsed());
    let began = Instant::now();
    world.patch("zh-4", json!({"spec": {"suspend": true}})).await;
    world.wait_for("zh-4", "Suspended", "True").await;
    assert!(began.elapsed() < Duration::from_secs(3), "suspended after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_another_controller_is_not_touched() {
    let world = World::new().await;
    let proxy = Proxy::start(world.client_as_operator().await, |_| Fate::Answered).await;
    let operator = world.patient_operator_behind(&proxy, &[]);
    let of_another = json!({"managedBy": "example.com/another", "suspend": true});
    world.submit("theirs", Script::default(), of_another).await;
    world.submit("ours", Script::default(), json!({})).await;
    world.wait_for("ours", "Succeeded", "True").await;
    world.patch("theirs", json!({"spec": {"suspend": false}})).await;
    world.patch("theirs", json!({"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let job = world.job("theirs").await.unwrap();
    assert_eq!((&job["status"], &job["metadata"]["finalizers"]), (&json!(null), &json!(null)), "{job:#}");
    // Nothing holds it up.
    world.delete("theirs").await;
    world.wait_until_gone("theirs").await;
    let about = |call: &Call| {
        format!("{}?{} {}", call.path, call.query, String::from_utf8_lossy(&call.body)).contains("theirs")
    };
    let calls: Vec<String> =
        proxy.calls().iter().filter(|(call, _)| about(call)).map(|(call, _)| call.path.clone()).collect();
    assert_eq!(calls, Vec::<String>::new());
    assert!(!operator.log().contains("theirs"), "{}", operator.log());
}
