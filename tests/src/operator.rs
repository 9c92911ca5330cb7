//! What an operator does for one job: serves its agents over TLS and drives their session.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use palimpsest_api::TrainingJob;
use palimpsest_control::{Authenticate, Caller, Heard, Identity, Refusal, Session, serve};
use palimpsest_coordinator::{Config, Observation};
use palimpsest_proto::control::{Hello, RunPlan, report};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::async_trait;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// Who may come in: a test changes that while agents dial.
#[derive(Clone, Debug, Default)]
pub struct Door(Arc<Mutex<(String, Option<Refusal>)>>);

impl Door {
    /// Opens for one token.
    pub fn accept(&self, token: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (token.to_owned(), None);
    }

    /// Refuses all.
    pub fn refuse(&self, refusal: Refusal) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(refusal);
    }
}

#[async_trait]
impl Authenticate for Door {
    async fn authenticate(&self, token: Option<&str>, hello: &Hello) -> Result<Caller, Refusal> {
        let (accepted, refusal) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (refusal, token) {
            (Some(refusal), _) => Err(refusal),
            (None, None) => Err(Refusal::Unauthenticated("there is no token".to_owned())),
            (None, Some(token)) if token != accepted => {
                Err(Refusal::Unauthenticated("the token has expired".to_owned()))
            }
            (None, Some(token)) => {
                let namespace = "default".to_owned();
                Ok(Caller { pod: hello.agent.clone(), namespace, uid: token.to_owned() })
            }
        }
    }
}

/// Something that the operator was told.
#[derive(Clone, Debug)]
pub enum Seen {
    /// An agent came: who it is, what it runs.
    Attached(Caller, Hello, Option<u64>),
    /// It told something.
    Told(report::Report),
    /// Its stream has ended.
    Detached,
}

/// An operator of one job.
#[derive(Debug)]
pub struct Operator {
    heard: mpsc::Receiver<Heard>,
    /// The job under way.
    pub session: Session,
    began: Instant,
}

impl Operator {
    /// Listens at `address`, which may have been another operator's until now.
    pub async fn start(address: SocketAddr, identity: Identity, door: &Door, job: &TrainingJob, plan: RunPlan) -> Self {
        let began = Instant::now();
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(began.elapsed() < LONG, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let heard = serve(listener, Some(identity), door.clone()).unwrap_or_else(|error| panic!("{error}"));
        let session = Session::new(Config::new(job, 0), "uid-1", plan, Duration::ZERO);
        Self { heard, session, began: Instant::now() }
    }

    /// Does what an operator does until something is seen that `wanted` picks.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(&Seen) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + LONG;
        loop {
            let heard = tokio::time::timeout_at(deadline, self.heard.recv()).await;
            let heard = heard.unwrap_or_else(|_| panic!("it is not told in {LONG:?}"));
            let (seen, observation) = match heard.unwrap_or_else(|| panic!("nothing is served any more")) {
                Heard::Attached(attached) => {
                    let running = attached.attempt.as_ref().map(|attempt| attempt.number);
                    let seen = Seen::Attached(attached.caller.clone(), attached.hello.clone(), running);
                    (seen, self.session.attach(attached).ok())
                }
                Heard::Reported(reported) => {
                    let observation = self.session.report(&reported);
                    (Seen::Told(reported.report), observation)
                }
                Heard::Detached { link } => {
                    self.session.detach(link);
                    (Seen::Detached, None)
                }
            };
            self.observe(observation.unwrap_or(Observation::TimePassed));
            if let Some(found) = wanted(&seen) {
                return found;
            }
        }
    }

    /// Has the coordinator observe.
    pub fn observe(&mut self, observation: Observation) {
        self.session.observe(self.began.elapsed(), observation);
    }

    /// Waits for the first step from `step` on.
    pub async fn step(&mut self, step: u64) -> u64 {
        self.until(|seen| match seen {
            Seen::Told(report::Report::Progress(progress)) if progress.step >= step => Some(progress.step),
            _ => None,
        })
        .await
    }
}

/// What the agents of a job are given, whose file lies in `folder`: one CPU thread or more, as the worker sees fit.
pub fn plan_of(job: &TrainingJob, folder: &Path) -> RunPlan {
    RunPlan {
        job_json: serde_json::to_string(job).unwrap_or_else(|error| panic!("{error}")),
        job_folder: folder.to_string_lossy().into_owned(),
        device: "cpu".to_owned(),
        ..RunPlan::default()
    }
}

/// A job file as the API server would give it.
pub fn job_of(yaml: &str) -> TrainingJob {
    palimpsest_api::load(yaml, &[]).unwrap_or_else(|error| panic!("{error}"))
}
