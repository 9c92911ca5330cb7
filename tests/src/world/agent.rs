//! An agent that decides by the code of real ones and speaks their protocol, with a rank that only counts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use palimpsest_coordinator::{AgentState, Deed, Order, Standing};
use palimpsest_proto::control::control_client::ControlClient;
use palimpsest_proto::control::{self, command, failure, finished, phase, report};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Request, Streaming};

use super::folder::{Folder, Mishap, lock};

/// The digest of whatever is published.
const DIGEST: &str = "sha256:2222";

/// How an agent's pod ended.
pub(super) enum End {
    /// By itself: the exit code and the termination message.
    Exited(i32, String),
    /// The node wanted its memory back.
    Evicted,
}

struct Agent {
    pod: String,
    folder: Arc<Mutex<Folder>>,
    state: AgentState<report::Report>,
    job_uid: String,
    /// The rank: its attempt, and the step that it takes next.
    rank: Option<(u64, u64)>,
    /// What is to be told, with its attempt.
    outbox: Vec<(u64, report::Report)>,
    is_leaving: bool,
    /// Whether it says only what agents of the version before said.
    is_of_before: bool,
}

struct Stream {
    reports: mpsc::Sender<control::Report>,
    commands: Streaming<control::Command>,
}

/// Lives until its pod ends.
pub(super) async fn live(
    client: Client,
    pod: &Pod,
    folder: Arc<Mutex<Folder>>,
    mut terminate: watch::Receiver<bool>,
) -> End {
    let is_of_before = lock(&folder).script.agents_of_before;
    let mut agent = Agent {
        pod: pod.name_any(),
        folder,
        state: AgentState::default(),
        job_uid: pod.owner_references().first().map(|owner| owner.uid.clone()).unwrap_or_default(),
        rank: None,
        outbox: Vec::new(),
        is_leaving: false,
        is_of_before,
    };
    let mut stream: Option<Stream> = None;
    loop {
        let pace = Duration::from_millis(lock(&agent.folder).script.step_millis);
        let mut is_cut = false;
        tokio::select! {
            () = async { let _ = terminate.wait_for(|is_told| *is_told).await; } => {
                // Said before the rank stops, so that nobody takes its end for a crash.
                agent.say(report::Report::Leaving(control::Leaving {}));
                agent.drain();
                if let Some(stream) = &stream {
                    agent.tell(stream).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                return End::Exited(143, String::new());
            }
            command = next(&mut stream) => match command {
                Some(command) => agent.obey(command),
                None => is_cut = true,
            },
            () = tokio::time::sleep(pace) => {
                if let Some(end) = agent.step() {
                    return end;
                }
                if stream.is_none() {
                    stream = agent.dial(&client, pod).await;
                }
            }
        }
        match &stream {
            _ if is_cut => stream = None,
            Some(open) if !agent.tell(open).await => stream = None,
            _ => {}
        }
        if agent.is_leaving && agent.rank.is_none() {
            return End::Exited(0, String::new());
        }
    }
}

async fn next(stream: &mut Option<Stream>) -> Option<control::Command> {
    match stream {
        Some(stream) => stream.commands.message().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

impl Agent {
    fn obey(&mut self, command: control::Command) {
        let number = command.attempt.as_ref().map_or(0, |attempt| attempt.number);
        let order = match command.command {
            Some(command::Command::Join(join)) => {
                Order::Join { first_rank: join.first_rank, local_ranks: join.local_ranks, world: join.world }
            }
            Some(command::Command::RunPlan(_)) => Order::RunPlan,
            Some(command::Command::Checkpoint(_)) => Order::Checkpoint,
            Some(command::Command::Drain(_)) => Order::Drain,
            Some(command::Command::Abort(_)) => Order::Abort,
            Some(command::Command::Leave(_)) => {
                self.rank = None;
                self.is_leaving = true;
                return;
            }
            _ => return,
        };
        for deed in self.state.obey(number, order) {
            match deed {
                Deed::Start { attempt, place } => self.start(attempt, place.is_some()),
                Deed::Checkpoint => self.checkpoint(),
                Deed::Drain => self.drain(),
                Deed::Stop | Deed::StopAndWait => self.end(failure("it was told to stop")),
                Deed::Refuse { attempt, newest } => {
                    self.outbox.push((attempt, failure(&format!("attempt {newest} is newer"))));
                }
                Deed::Tell { attempt, end } => self.outbox.push((attempt, end)),
            }
        }
    }

    fn start(&mut self, attempt: u64, has_place: bool) {
        self.rank = Some((attempt, 0));
        if !has_place {
            return self.end(failure("it has no place"));
        }
        let (is_claimed, published, next) = {
            let mut folder = lock(&self.folder);
            (folder.claim(attempt), folder.published, folder.checkpoint + 1)
        };
        if !is_claimed {
            return self.end(failure(&format!("attempt {attempt} is claimed already")));
        }
        if published > 0 {
            return self.end(self.finished(finished::Outcome::AlreadyFinished, next - 1));
        }
        self.rank = Some((attempt, next));
        if !self.is_of_before {
            self.say(report::Report::Resolved(control::Resolved { precision: "Float32".to_owned() }));
        }
        self.say(report::Report::Phase(control::Phase {
            kind: phase::Kind::Training.into(),
            fraction: None,
            message: String::new(),
        }));
    }

    fn checkpoint(&mut self) {
        let Some((attempt, next)) = self.rank else { return };
        let mut folder = lock(&self.folder);
        if folder.claimed == attempt && next > 1 {
            let step = folder.keep(next - 1);
            drop(folder);
            self.say(report::Report::CheckpointCommitted(control::CheckpointCommitted { step }));
        }
    }

    fn drain(&mut self) {
        if let Some((_, next)) = self.rank.filter(|_| !lock(&self.folder).script.is_deaf) {
            self.checkpoint();
            self.end(self.finished(finished::Outcome::Stopped, next - 1));
        }
    }

    /// Takes a step, or what befalls it. Gives the pod's end where it is one.
    fn step(&mut self) -> Option<End> {
        let (attempt, step) = self.rank?;
        let mut folder = lock(&self.folder);
        if folder.claimed != attempt {
            drop(folder);
            self.end(failure("a newer attempt has begun"));
            return None;
        }
        match folder.script.mishaps.get(&step).cloned() {
            Some(Mishap::Wait) => {
                drop(folder);
                self.say(report::Report::Alive(control::Alive { takes_steps: false }));
                return None;
            }
            Some(mishap) => {
                folder.script.mishaps.remove(&step);
                drop(folder);
                match mishap {
                    Mishap::UserError(reason, message) => self.end(report::Report::Failure(control::Failure {
                        cause: failure::Cause::User.into(),
                        message: message.to_owned(),
                        reason: reason.to_owned(),
                    })),
                    Mishap::PodEnds(code, message) => {
                        let mut folder = lock(&self.folder);
                        if folder.script.published_unheard {
                            folder.publish();
                        }
                        return Some(End::Exited(code, message.to_owned()));
                    }
                    Mishap::Evicted => return Some(End::Evicted),
                    Mishap::Crash | Mishap::Wait => self.end(failure("the rank crashed")),
                }
                return None;
            }
            None => {}
        }
        let kept = folder.take(step);
        let steps = folder.script.steps;
        if step == steps {
            folder.publish();
        }
        drop(folder);
        self.state.rank_took(step);
        self.rank = Some((attempt, step + 1));
        self.say(report::Report::Progress(control::Progress {
            step,
            steps,
            stage: "one".to_owned(),
            stages: 1,
            bucket: 1,
            buckets: 10,
            loss: Some(1.5),
            tokens: step * 100,
            tokens_per_second: 1000.0,
            ..control::Progress::default()
        }));
        if let Some(step) = kept {
            self.say(report::Report::CheckpointCommitted(control::CheckpointCommitted { step }));
        }
        if step == steps {
            self.end(self.finished(finished::Outcome::Succeeded, step));
        }
        None
    }

    fn finished(&self, outcome: finished::Outcome, step: u64) -> report::Report {
        let is_published = outcome != finished::Outcome::Stopped;
        let digest = if is_published && !self.is_of_before { DIGEST } else { "" };
        report::Report::Finished(control::Finished { outcome: outcome.into(), step, digest: digest.to_owned() })
    }

    fn say(&mut self, report: report::Report) {
        if let Some((attempt, _)) = self.rank {
            self.outbox.push((attempt, report));
        }
    }

    fn end(&mut self, end: report::Report) {
        self.rank = None;
        self.state.rank_says(end.clone());
        self.outbox.extend(self.state.rank_is_gone(end));
    }

    /// Tells what there is to tell; false where the stream has ended.
    async fn tell(&mut self, stream: &Stream) -> bool {
        for (number, report) in std::mem::take(&mut self.outbox) {
            let attempt = Some(control::Attempt { job_uid: self.job_uid.clone(), number });
            if stream.reports.send(control::Report { attempt, report: Some(report) }).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn dial(&mut self, client: &Client, pod: &Pod) -> Option<Stream> {
        let token = token(client, pod).await?;
        let channel = channel(client, pod).await?;
        let (reports, receiver) = mpsc::channel(64);
        let greeting = self.state.greeting();
        let number = match greeting.standing {
            Standing::Running { attempt } => Some(attempt),
            Standing::Idle => None,
        };
        let hello =
            control::Hello { agent: self.pod.clone(), version: "test".to_owned(), local_ranks: 1, step: greeting.step };
        let attempt = number.map(|number| control::Attempt { job_uid: self.job_uid.clone(), number });
        let hello = control::Report { attempt, report: Some(report::Report::Hello(hello)) };
        reports.send(hello).await.ok()?;
        let mut request = Request::new(ReceiverStream::new(receiver));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().ok()?);
        let attached = tokio::time::timeout(Duration::from_secs(2), ControlClient::new(channel).attach(request)).await;
        let commands = attached.ok()?.ok()?.into_inner();
        // What was told while nobody heard it is not told again, but for the end.
        self.outbox.clear();
        self.outbox.extend(greeting.end);
        Some(Stream { reports, commands })
    }
}

fn failure(message: &str) -> report::Report {
    report::Report::Failure(control::Failure {
        cause: failure::Cause::Internal.into(),
        message: message.to_owned(),
        reason: "Crash".to_owned(),
    })
}

/// What a kubelet would have projected into the pod: a token of its own.
async fn token(client: &Client, pod: &Pod) -> Option<String> {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec!["palimpsest.dev".to_owned()],
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name_any()),
                uid: pod.uid(),
            }),
            expiration_seconds: Some(3600),
        },
        ..TokenRequest::default()
    };
    let answer = accounts.create_token_request("default", &PostParams::default(), &request).await.ok()?;
    Some(answer.status?.token)
}

/// A connection to where the pod's arguments say, that trusts whom the job's ConfigMap names.
async fn channel(client: &Client, pod: &Pod) -> Option<Channel> {
    let arguments = pod.spec.as_ref()?.containers.first()?.args.clone()?;
    let flag = arguments.iter().position(|argument| argument == "--coordinator")?;
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let job = pod.labels().get("palimpsest.dev/job")?;
    let config_map = config_maps.get(&format!("{job}-palimpsest")).await.ok()?;
    let certificate = Certificate::from_pem(config_map.data?.get("ca.crt")?);
    let endpoint = Channel::from_shared(arguments.get(flag + 1)?.clone()).ok()?;
    let endpoint = endpoint.tls_config(ClientTlsConfig::new().ca_certificate(certificate)).ok()?;
    endpoint.connect_timeout(Duration::from_secs(1)).connect().await.ok()
}
