//! The real agent and rank, driven over the protocol by a coordinator that follows a script.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use palimpsest_proto::control::control_server::{Control, ControlServer};
use palimpsest_proto::control::{self, command, failure, finished, report};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// A tiny model over one of the example corpora.
const JOB: &str = r#"{
  "apiVersion": "palimpsest.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "watched"},
  "spec": {
    "model": {"architecture": {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
              "num_attention_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": true}},
    "tokenizer": {"learn": {"vocabularySize": 400, "from": ["recipes"]}},
    "data": {"sequenceLength": 64, "datasets": [{"name": "recipes", "uri": "file://CORPORA/en/recipes.jsonl"}]},
    "stages": [{"name": "only", "buckets": 1, "mixture": [{"dataset": "recipes", "weight": 1}], "budget": {"tokens": TOKENS},
                "batch": {"sequences": 4, "microBatch": 4}}],
    "checkpoint": {"intervalSteps": 10000},
    "output": {"uri": "file://OUTPUT/model"}
  }
}"#;

type Streams = (Streaming<control::Report>, mpsc::Sender<Result<control::Command, Status>>);

/// Hands every stream to the test.
struct Service(mpsc::Sender<Streams>);

#[tonic::async_trait]
impl Control for Service {
    type AttachStream = ReceiverStream<Result<control::Command, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<control::Report>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (commands, receiver) = mpsc::channel(8);
        self.0.send((request.into_inner(), commands)).await.map_err(|_| Status::unavailable("over"))?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

struct Coordinator {
    streams: mpsc::Receiver<Streams>,
    agent: Child,
}

impl Coordinator {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::channel(1);
        let service = tonic::transport::Server::builder().add_service(ControlServer::new(Service(sender)));
        tokio::spawn(service.serve_with_incoming(TcpListenerStream::new(listener)));
        let agent = Command::new(env!("CARGO_BIN_EXE_palimpsest-worker"))
            .args(["agent", "--until-stdin-closes", "--name", "w", "--coordinator", &format!("http://{address}")])
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { streams, agent }
    }

    async fn accept(&mut self) -> Stream {
        let (reports, commands) = timeout(LONG, self.streams.recv()).await.unwrap().unwrap();
        Stream { reports, commands }
    }

    /// Closes the agent's standard input, after which it has to end, and its rank too.
    async fn close(mut self, code: i32) {
        drop(self.agent.stdin.take());
        assert_eq!(timeout(LONG, self.agent.wait()).await.unwrap().unwrap().code(), Some(code));
    }
}

struct Stream {
    reports: Streaming<control::Report>,
    commands: mpsc::Sender<Result<control::Command, Status>>,
}

impl Stream {
    async fn order(&self, number: u64, command: command::Command) {
        self.order_of("job", number, command).await;
    }

    async fn order_of(&self, job: &str, number: u64, command: command::Command) {
        let attempt = Some(control::Attempt { job_uid: job.to_owned(), number });
        self.commands.send(Ok(control::Command { attempt, command: Some(command) })).await.unwrap();
    }

    async fn start(&self, number: u64, job: &str) {
        let join = control::Join { first_rank: 0, local_ranks: 1, world: 1, rendezvous: String::new() };
        self.order(number, command::Command::Join(join)).await;
        let plan = control::RunPlan {
            job_json: job.to_owned(),
            job_folder: "/".to_owned(),
            threads: 1,
            device: "cpu".to_owned(),
            ..control::RunPlan::default()
        };
        self.order(number, command::Command::RunPlan(plan)).await;
    }

    async fn next(&mut self) -> (u64, report::Report) {
        let report = timeout(LONG, self.reports.message()).await.unwrap().unwrap().unwrap();
        (report.attempt.map_or(0, |attempt| attempt.number), report.report.unwrap())
    }

    /// The first report from here that `wanted` picks, and its attempt.
    async fn until<T>(&mut self, wanted: impl Fn(&report::Report) -> Option<T>) -> (u64, T) {
        loop {
            let (attempt, report) = self.next().await;
            if let Some(found) = wanted(&report) {
                return (attempt, found);
            }
            let is_end = matches!(report, report::Report::Finished(_) | report::Report::Failure(_));
            assert!(!is_end, "{report:?}");
        }
    }

    async fn hello(&mut self) -> (u64, control::Hello) {
        self.until(|report| match report {
            report::Report::Hello(hello) => Some(hello.clone()),
            _ => None,
        })
        .await
    }

    async fn step(&mut self) -> (u64, u64) {
        self.until(|report| match report {
            report::Report::Progress(progress) => Some(progress.step),
            _ => None,
        })
        .await
    }

    async fn committed(&mut self) -> u64 {
        let committed = |report: &report::Report| match report {
            report::Report::CheckpointCommitted(committed) => Some(committed.step),
            _ => None,
        };
        self.until(committed).await.1
    }

    async fn finished(&mut self) -> (u64, finished::Outcome) {
        self.until(|report| match report {
            report::Report::Finished(finished) => Some(finished.outcome()),
            _ => None,
        })
        .await
    }

    async fn failure(&mut self) -> (u64, control::Failure) {
        self.until(|report| match report {
            report::Report::Failure(failure) => Some(failure.clone()),
            _ => None,
        })
        .await
    }
}

fn mk_job(folder: &Path, tokens: u32) -> String {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/corpora").canonicalize().unwrap();
    let job = JOB.replace("CORPORA", corpora.to_str().unwrap()).replace("OUTPUT", folder.to_str().unwrap());
    job.replace("TOKENS", &tokens.to_string())
}

#[tokio::test]
async fn a_rank_is_drained_told_of_again_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let job = mk_job(folder.path(), 1_000_000);
    let mut coordinator = Coordinator::start().await;
    let mut stream = coordinator.accept().await;
    let (attempt, hello) = stream.hello().await;
    assert_eq!((attempt, hello.agent.as_str(), hello.local_ranks), (0, "w", 1));

    stream.start(3, &job).await;
    assert_eq!(stream.step().await, (3, 1));
    // Twice is once.
    stream.start(3, &job).await;
    // An older attempt's command is not for this rank.
    stream.order(2, command::Command::Abort(control::Abort {})).await;
    let (attempt, failure) = stream.failure().await;
    assert_eq!(attempt, 2);
    assert!(failure.message.contains("older than attempt 3"), "{}", failure.message);
    // Nor is that of another job, however new.
    stream.order_of("another", 9, command::Command::Abort(control::Abort {})).await;
    let (attempt, before) = stream.step().await;
    assert_eq!(attempt, 3);
    // A checkpoint is written between those that are due, and training goes on.
    stream.order(3, command::Command::Checkpoint(control::Checkpoint {})).await;
    let committed = stream.committed().await;
    assert!((before..10_000).contains(&committed), "{committed}");
    let (_, before) = stream.step().await;
    assert!(before > committed, "{before} > {committed}");

    // The coordinator goes and comes back: training has gone on meanwhile.
    drop(stream);
    let mut stream = coordinator.accept().await;
    let (attempt, hello) = stream.hello().await;
    assert_eq!(attempt, 3);
    assert!(hello.step >= before, "{} >= {before}", hello.step);
    stream.order(3, command::Command::Drain(control::Drain {})).await;
    let (_, committed) = stream
        .until(|report| match report {
            // The newest before is told again.
            report::Report::CheckpointCommitted(committed) => Some(committed.step).filter(|step| *step >= before),
            _ => None,
        })
        .await;
    assert_eq!(stream.finished().await, (3, finished::Outcome::Stopped));

    // How it ended is told again to whoever asks.
    stream.start(3, &job).await;
    assert_eq!(stream.finished().await, (3, finished::Outcome::Stopped));
    drop(stream);
    let mut stream = coordinator.accept().await;
    assert_eq!(stream.hello().await.0, 3);
    assert_eq!(stream.finished().await, (3, finished::Outcome::Stopped));

    // The next attempt goes on after the checkpoint; it is aborted.
    stream.start(4, &job).await;
    assert_eq!(stream.step().await, (4, committed + 1));
    stream.order(4, command::Command::Abort(control::Abort {})).await;
    let (attempt, failure) = stream.failure().await;
    assert_eq!((attempt, failure.cause()), (4, failure::Cause::Internal));
    coordinator.close(0).await;
}

#[tokio::test]
async fn a_job_comes_to_its_end_and_is_finished_already_after_that() {
    let folder = tempfile::tempdir().unwrap();
    let job = mk_job(folder.path(), 5000);
    let mut coordinator = Coordinator::start().await;
    let mut stream = coordinator.accept().await;
    stream.start(1, &job).await;
    assert_eq!(stream.finished().await, (1, finished::Outcome::Succeeded));
    assert!(folder.path().join("model/config.json").exists());
    stream.start(2, &job).await;
    assert_eq!(stream.finished().await, (2, finished::Outcome::AlreadyFinished));
    coordinator.close(0).await;
}

#[tokio::test]
async fn what_the_user_can_mend_is_told_as_such_with_a_word_for_programs() {
    let folder = tempfile::tempdir().unwrap();
    let job = mk_job(folder.path(), 5000);
    let mut coordinator = Coordinator::start().await;
    let mut stream = coordinator.accept().await;
    let mut attempt = 0;
    let mut check = async |job: String, reason: &str, names: &str| {
        attempt += 1;
        stream.start(attempt, &job).await;
        let (of, failure) = stream.failure().await;
        assert_eq!((of, failure.cause(), failure.reason.as_str()), (attempt, failure::Cause::User, reason));
        assert!(failure.message.contains(names), "{}", failure.message);
    };
    check(job.replace("recipes.jsonl", "nothing.jsonl"), "DatasetNotFound", "nothing.jsonl").await;
    let begin = job.find("file://").unwrap();
    let end = begin + job[begin..].find('"').unwrap();
    check(job.replace(&job[begin..end], "pvc://data/recipes.jsonl"), "NotMounted", "not mounted").await;
    let of_model = |model: &str| {
        let begin = job.find("\"model\": {\"arch").unwrap();
        let end = begin + job[begin..].find("}},").unwrap() + 3;
        job.replace(&job[begin..end], &format!("\"model\": {{{model}}},"))
    };
    check(of_model("\"uri\": \"file:///no/model\""), "ModelNotFound", "/no/model").await;
    let checkpoint = format!("\"checkpoint\": {{\"uri\": \"file://{}\"}}", folder.path().display());
    check(of_model(&checkpoint), "ModelNotFound", "no whole checkpoint").await;
    std::fs::create_dir(folder.path().join("model")).unwrap();
    std::fs::write(folder.path().join("model/precious"), "").unwrap();
    check(job.clone(), "OutputExists", "is there already").await;
    std::fs::remove_file(folder.path().join("model/precious")).unwrap();
    // Work of a job that differs.
    std::fs::write(
        folder.path().join("job.json"),
        job.replace("\"microBatch\": 4", "\"microBatch\": 2").replace("5000", "6000"),
    )
    .unwrap();
    check(job, "CheckpointConflict", "differs in").await;
    coordinator.close(2).await;
}

#[tokio::test]
async fn a_closed_standard_input_ends_the_agent_and_its_rank() {
    let folder = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let mut stream = coordinator.accept().await;
    stream.start(1, &mk_job(folder.path(), 1_000_000)).await;
    stream.step().await;
    coordinator.close(0).await;
    // Nobody writes any more.
    let length = || std::fs::metadata(folder.path().join("metrics.jsonl")).unwrap().len();
    let before = length();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(length(), before);
}
