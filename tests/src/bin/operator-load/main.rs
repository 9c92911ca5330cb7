//! How fast the operator gives very many jobs their children, beside a bare loop that makes the same writes: in turns, against one
//! API server. A line of JSON a turn. `bench/run.py operator` runs it.
#![allow(clippy::panic, reason = "what fails here ends the measurement")]

mod bare;
mod figures;
mod jobs;

use std::time::{Duration, Instant};

use clap::Parser;
use palimpsest_tests::{Call, Fate, OperatorProcess, Proxy, World};
use serde_json::{Value, json};

use self::figures::{Process, Requests};

/// Measures the operator beside a bare loop.
#[derive(Debug, Parser)]
struct Arguments {
    /// The jobs of a turn.
    #[arg(long, default_value_t = 10_000)]
    jobs: usize,
    /// How many jobs are made, and visited, at once.
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// Who has the turns.
    #[arg(long, value_delimiter = ',', default_value = "operator,bare,operator")]
    turns: Vec<String>,
}

/// For how long nothing is written before a turn is over.
const QUIET: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let world = World::without_nodes().await;
    let writes = record(&world).await;
    eprintln!("the writes of a job: {}", described(&writes));
    for (number, turn) in arguments.turns.iter().enumerate() {
        let namespace = format!("turn-{number}");
        jobs::make_namespace(&world, &namespace).await;
        let figures = match turn.as_str() {
            "bare" => bare_turn(&world, &namespace, &writes, &arguments).await,
            _ => operator_turn(&world, &namespace, &arguments).await,
        };
        println!("{figures}");
    }
}

/// What the operator writes for one job, word by word.
async fn record(world: &World) -> Vec<Call> {
    let namespace = bare::RECORDED;
    jobs::make_namespace(world, namespace).await;
    let proxy = Proxy::start(world.client_as_operator().await, |_| Fate::Answered).await;
    let mut operator = world.operator_behind(&proxy, &[("WATCH_NAMESPACE", namespace)]);
    jobs::make(world, namespace, bare::RECORDED).await;
    while jobs::count(world, namespace, "pods").await < 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    operator.end();
    let calls = proxy.calls().into_iter().map(|(call, _)| call);
    calls.filter(|call| call.is_write() && !call.is_of_the_operator()).collect()
}

fn described(writes: &[Call]) -> String {
    let words: Vec<String> = writes.iter().map(|call| format!("{} {}", call.method, call.resource())).collect();
    words.join(", ")
}

async fn operator_turn(world: &World, namespace: &str, arguments: &Arguments) -> Value {
    let jobs = arguments.jobs;
    let mut operator = world.patient_operator(&[("WATCH_NAMESPACE", namespace)]);
    wait_until_it_leads(&operator).await;
    let process = Process::of(operator.id());
    let before = Requests::read(world).await;
    let idle = process.cpu_seconds();
    let began = Instant::now();
    let making = jobs::make_all(world.client(), namespace, jobs, arguments.concurrency, |_| {});
    let done = async {
        while jobs::count(world, namespace, "pods").await < jobs {
            assert!(began.elapsed() < Duration::from_secs(600), "the jobs' children do not come");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        began.elapsed()
    };
    let ((), took) = tokio::join!(making, done);
    tokio::time::sleep(QUIET).await;
    let cpu = process.cpu_seconds() - idle;
    let requests = Requests::read(world).await.since(&before);
    let state = jobs::state(world, namespace).await;
    let peak = process.peak_bytes();
    operator.end();
    json!({
        "turn": "operator", "jobs": jobs, "seconds": took.as_secs_f64(), "peak": peak, "cpuSeconds": cpu,
        "writes": requests.writes(), "requests": requests.per(jobs), "state": state,
    })
}

async fn bare_turn(world: &World, namespace: &str, writes: &[Call], arguments: &Arguments) -> Value {
    let jobs = arguments.jobs;
    let before = Requests::read(world).await;
    let client = world.client_as_operator().await;
    let own = Process::of(std::process::id());
    let idle = own.cpu_seconds();
    let began = Instant::now();
    let (made, to_do) = tokio::sync::mpsc::unbounded_channel();
    let making = jobs::make_all(world.client(), namespace, jobs, arguments.concurrency, move |job| {
        let _ = made.send(job);
    });
    let writing = bare::write_all(client, namespace, writes, arguments.concurrency, to_do);
    tokio::join!(making, writing);
    let took = began.elapsed();
    let cpu = own.cpu_seconds() - idle;
    let requests = Requests::read(world).await.since(&before);
    let state = jobs::state(world, namespace).await;
    json!({
        "turn": "bare", "jobs": jobs, "seconds": took.as_secs_f64(), "cpuSeconds": cpu,
        "writes": requests.writes(), "requests": requests.per(jobs), "state": state,
    })
}

async fn wait_until_it_leads(operator: &OperatorProcess) {
    let began = Instant::now();
    while !operator.metrics().contains("leader_election_master_status{name=\"palimpsest-operator\"} 1") {
        assert!(began.elapsed() < Duration::from_secs(60), "the operator does not lead: {}", operator.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
