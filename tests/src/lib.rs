//! What the end-to-end tests share: the binaries, a folder to work in, and the job files they run.
#![allow(clippy::panic, reason = "a test fails by panicking")]

mod agent;
mod api_server;
mod authority;
mod cluster;
mod fixtures;
mod install;
mod kubectl;
mod operator;
mod processes;
mod proxy;
mod world;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use agent::{Agent, AgentFolder};
pub use api_server::ApiServer;
pub use authority::Authority;
pub use cluster::{Cluster, make_image};
pub use fixtures::Fixture;
pub use install::install;
pub use kubectl::Kubectl;
pub use operator::{Door, Operator, Seen, job_of, plan_of};
pub use processes::{children, is_alive, signal};
pub use proxy::{Call, Fate, Proxy, RETRY_AFTER};
pub use world::{Folder, Kueue, Mishap, OperatorProcess, Script, Stillborn, World, condition};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// A binary, built by `make build` beside the tests.
pub fn built(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap_or_default();
    // Tests lie in a folder beside it, other binaries next to it.
    let found = tests.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|binary| binary.exists());
    found.unwrap_or_else(|| panic!("{name} is not beside {}: run `make build` first", tests.display()))
}

/// An address of this machine that nobody listens on at present.
pub fn free_address() -> SocketAddr {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    address.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until a condition holds, for a minute at most.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what} does not come");
        thread::sleep(Duration::from_millis(50));
    }
}

/// `palimpsest`.
pub fn palimpsest() -> Command {
    let mut command = Command::new(built("palimpsest"));
    command.stdin(Stdio::null()).current_dir(repository()).env_remove("RUST_BACKTRACE");
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// What every run of a tiny model is given: a second thread would only wait for the first.
pub const ONE_THREAD: [&str; 2] = ["--threads", "1"];

/// Runs `palimpsest` with the given arguments to its end; `run` on one thread.
pub fn run(arguments: &[&str]) -> Ended {
    let threads: &[&str] = if arguments.first() == Some(&"run") { &ONE_THREAD } else { &[] };
    palimpsest()
        .args(arguments)
        .args(threads)
        .output()
        .map(Ended::from)
        .unwrap_or_else(|error| panic!("palimpsest: {error}"))
}

/// Runs `palimpsest` and expects it to succeed.
pub fn succeed(arguments: &[&str]) -> Ended {
    let ended = run(arguments);
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}\n{}", ended.stdout, ended.stderr);
    ended
}

/// The JSON of a file.
pub fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The JSON lines of a file.
pub fn read_json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(parse).collect()
}

/// The steps that a run has written down so far in its `metrics.jsonl`.
pub fn steps(metrics: &Path) -> usize {
    std::fs::read_to_string(metrics).map_or(0, |text| text.lines().count())
}

/// A job of seconds: a tiny model from random weights over two of the example corpora, in two stages.
pub const SMALL_JOB: &str = include_str!("small_job.yaml");

/// Writes a job file into a folder, with the example corpora's folder in the place of `CORPORA`, and beside it
/// `questions.jsonl`, sums as question-answer pairs.
pub fn write_job(folder: &Path, yaml: &str) -> PathBuf {
    let sums = (0..40).flat_map(|one| (0..40).map(move |other| (one, other)));
    let questions: String = sums
        .map(|(one, other)| {
            format!(
                "{{\"source\": \"What is {one} plus {other}?\\n\", \"target\": \"{one} plus {other} is {}.\"}}\n",
                one + other
            )
        })
        .collect();
    std::fs::write(folder.join("questions.jsonl"), questions).unwrap_or_else(|error| panic!("{error}"));
    let corpora = repository().join("examples/corpora");
    let path = folder.join("job.yaml");
    let text = yaml.replace("CORPORA", &corpora.to_string_lossy());
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// Where downloads and builds are kept, outside the checkout.
fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    std::env::var_os("PALIMPSEST_CACHE").map_or_else(|| home().join(".cache/palimpsest"), PathBuf::from)
}

/// A folder of the unpacked test data, or `None`, said so, where it is absent; with `CI=true` absence fails.
pub fn test_data(name: &str) -> Option<PathBuf> {
    let folder = cache().join("data").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    let remedy = "scripts/test-data.sh and scripts/smollm2.sh make it";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "there is no {}: {remedy}", folder.display());
    eprintln!("skipped: there is no {}; {remedy}", folder.display());
    None
}

/// Python of the parity environment, or `None`, said so, where it is absent; with `CI=true` absence fails.
pub fn parity_python() -> Option<PathBuf> {
    let python = cache().join("venv/bin/python");
    if python.exists() {
        return Some(python);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is absent: run scripts/parity-venv.sh", python.display());
    eprintln!("skipped: {} is absent; scripts/parity-venv.sh makes it", python.display());
    None
}
