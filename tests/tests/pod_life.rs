//! A worker's life in a pod: asked to go, killed, refused, left alone; and what it says of its end.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use palimpsest_api::TrainingJob;
use palimpsest_coordinator::{AgentId, Observation, State};
use palimpsest_proto::control::{RunPlan, finished, report};
use palimpsest_tests::{
    Agent, AgentFolder, Authority, Door, Operator, SMALL_JOB, Seen, free_address, job_of, plan_of, read_json,
    read_json_lines, write_job,
};

/// A cluster of one job: an operator on loopback, and folders that pods mount.
struct Cluster {
    folder: tempfile::TempDir,
    authority: Authority,
    address: SocketAddr,
    door: Door,
    job: TrainingJob,
    plan: RunPlan,
}

impl Cluster {
    /// Everything is left in the claim `out`.
    fn new(change: impl Fn(&str) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let claim = folder.path().join("claim");
        std::fs::create_dir(&claim).unwrap();
        let longer = SMALL_JOB
            .replace("budget: {tokens: 20000}", "budget: {tokens: 200000}\n      maxRepeats: 100")
            .replace("file://out/model", "pvc://out/small/model");
        let job = job_of(&std::fs::read_to_string(write_job(folder.path(), &change(&longer))).unwrap());
        let mounts = [("out".to_owned(), claim.to_str().unwrap().to_owned())].into();
        let plan = RunPlan { mounts, ..plan_of(&job, folder.path()) };
        let door = Door::default();
        door.accept("token");
        Self { folder, authority: Authority::new(), address: free_address(), door, job, plan }
    }

    async fn operator(&self) -> Operator {
        Operator::start(self.address, self.authority.identity(), &self.door, &self.job, self.plan.clone()).await
    }

    /// A pod that may use one processor, as by its CPU limit.
    fn pod(&self, name: &str, more: &[&str]) -> Agent {
        let mounted = AgentFolder::new(self.folder.path(), name);
        mounted.write_authority(&self.authority.pem());
        mounted.write_token("token");
        mounted.start(&["taskset", "-c", "0"], &format!("https://{}", self.address), name, more)
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("claim/small")
    }
}

fn finished(seen: &Seen) -> Option<finished::Outcome> {
    match seen {
        Seen::Told(report::Report::Finished(finished)) => Some(finished.outcome()),
        _ => None,
    }
}

fn leaving(seen: &Seen) -> Option<()> {
    matches!(seen, Seen::Told(report::Report::Leaving(_))).then_some(())
}

fn detached(seen: &Seen) -> Option<()> {
    matches!(seen, Seen::Detached).then_some(())
}

/// The steps of the checkpoints of a folder.
fn checkpoints(output: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(output.join("checkpoints")).unwrap();
    let mut steps: Vec<u64> =
        entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_prefix("step-")?.parse().ok()).collect();
    steps.sort_unstable();
    steps
}

/// The status and the body of a page.
fn get(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    let (head, body) = page.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.split(' ').nth(1)?.to_owned(), body.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_asked_to_go_leaves_a_checkpoint_and_its_successor_goes_on_after_it() {
    let cluster = Cluster::new(str::to_owned);
    let mut operator = cluster.operator().await;
    let mut pod = cluster.pod("small-0-0", &[]);
    let step = operator.step(7).await;
    pod.signal("TERM");
    operator.until(leaving).await;
    assert_eq!(operator.until(finished).await, finished::Outcome::Stopped);
    operator.until(detached).await;
    let (status, _) = pod.wait();
    assert_eq!(status.code(), Some(143), "{}", pod.log());
    let termination = pod.termination();
    let last = termination["step"].as_u64().unwrap();
    assert!(last >= step, "{termination}");
    assert_eq!((&termination["cause"], &termination["checkpoint"]), (&"TakenAway".into(), &last.into()));
    assert_eq!(checkpoints(&cluster.output()).last(), Some(&last));
    let manifest = read_json(&cluster.output().join(format!("checkpoints/step-{last:08}/manifest.json")));
    assert_eq!(manifest["fingerprint"]["threads"], 1, "as many as it has processors");

    operator.observe(Observation::Lost { agent: AgentId("small-0-0".to_owned()) });
    assert!(matches!(operator.session.coordinator().state(), State::Waiting { .. }));
    let mut pod = cluster.pod("small-0-1", &[]);
    assert_eq!(operator.step(0).await, last + 1, "not a step is lost");
    assert_eq!(operator.until(finished).await, finished::Outcome::Succeeded);
    let coordinator = operator.session.coordinator();
    assert_eq!((coordinator.disruptions(), coordinator.restarts()), (1, 0));
    operator.session.dismiss();
    assert_eq!(pod.wait().0.code(), Some(0));
    assert_eq!(pod.termination()["cause"], "Succeeded");
    let steps = read_json_lines(&cluster.output().join("metrics.jsonl"));
    assert!(steps.iter().enumerate().all(|(index, line)| line["step"] == index as u64 + 1), "one line a step");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rank_that_writes_no_checkpoint_in_time_is_killed_before_the_grace_is_over() {
    let cluster = Cluster::new(str::to_owned);
    let mut operator = cluster.operator().await;
    let mut pod = cluster.pod("small-0-0", &["--grace-seconds", "3"]);
    operator.step(2).await;
    let rank = pod.rank().unwrap();
    pod.signal_rank("STOP");
    pod.signal("TERM");
    operator.until(leaving).await;
    let (status, took) = pod.wait();
    assert_eq!(status.code(), Some(143), "{}", pod.log());
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(!Path::new(&format!("/proc/{rank}")).exists(), "the rank is gone");
    assert_eq!(pod.termination()["cause"], "TakenAway");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_trains_on_without_its_operator_and_leaves_a_checkpoint_all_the_same() {
    let cluster = Cluster::new(str::to_owned);
    let port = free_address();
    let more = ["--metrics", &port.to_string(), "--job", "small", "--namespace", "research"];
    let mut pod = cluster.pod("small-0-0", &more);
    let began = Instant::now();
    while get(port, "/healthz").is_none_or(|(status, _)| status != "200") {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", pod.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(get(port, "/readyz").unwrap().0, "503", "nobody has answered yet");
    let mut operator = cluster.operator().await;
    operator.step(2).await;
    assert_eq!(get(port, "/readyz").unwrap().0, "200");
    drop(operator);
    let steps = || std::fs::read_to_string(cluster.output().join("metrics.jsonl")).unwrap().lines().count();
    let before = steps();
    while steps() < before + 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(get(port, "/readyz").unwrap().0, "200", "it trains");
    let (_, page) = get(port, "/metrics").unwrap();
    let step =
        page.lines().find(|line| line.starts_with("palimpsest_training_step{")).unwrap_or_else(|| panic!("{page}"));
    // In either order.
    assert!(step.contains("job=\"small\"") && step.contains("namespace=\"research\""), "{step}");
    pod.signal("TERM");
    assert_eq!(pod.wait().0.code(), Some(143));
    let step = pod.termination()["step"].as_u64().unwrap();
    assert_eq!(checkpoints(&cluster.output()).last(), Some(&step));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_the_user_can_mend_ends_its_pod_with_2_and_the_reason() {
    let cluster = Cluster::new(|job| job.replace("recipes.jsonl", "nothing.jsonl"));
    let mut operator = cluster.operator().await;
    let mut pod = cluster.pod("small-0-0", &[]);
    let reason = operator
        .until(|seen| match seen {
            Seen::Told(report::Report::Failure(failure)) => Some(failure.reason.clone()),
            _ => None,
        })
        .await;
    assert_eq!(reason, "DatasetNotFound");
    assert!(matches!(operator.session.coordinator().state(), State::Failed { .. }));
    // Said before the agent ends: it may be killed.
    assert_eq!(pod.termination()["reason"], "DatasetNotFound");
    operator.session.dismiss();
    assert_eq!(pod.wait().0.code(), Some(2));
    let termination = pod.termination();
    assert_eq!(termination["cause"], "User", "{termination}");
    assert!(termination["message"].as_str().unwrap().contains("nothing.jsonl"), "{termination}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_pod_goes_at_once_and_a_wrong_flag_is_an_error_of_the_user() {
    let cluster = Cluster::new(str::to_owned);
    let mut pod = cluster.pod("small-0-0", &[]);
    pod.logs("cannot reach");
    pod.signal("TERM");
    assert_eq!(pod.wait().0.code(), Some(143));
    let mounted = AgentFolder::new(cluster.folder.path(), "wrong");
    let mut wrong = mounted.start(&[], &format!("http://{}", cluster.address), "small-0-0", &[]);
    assert_eq!(wrong.wait().0.code(), Some(2));
    assert!(wrong.log().contains("--ca has no use with http://"), "{}", wrong.log());
}
