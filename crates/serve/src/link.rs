//! The server's way to its engine, which may be away for a while.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palimpsest_proto::inference::inference_client::InferenceClient;
use palimpsest_proto::inference::{StatsReply, StatsRequest};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use crate::error::{Error, Result};

/// Bytes of one request's events that wait to be read. Who reads no more than this is waited for by the engine's outlet alone.
const STREAM_WINDOW: u32 = 64 << 10;

/// Bytes of all requests' events: so many that one who does not read keeps nobody else's from coming.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// How long an engine may take to say what it is.
const ANSWER: Duration = Duration::from_secs(10);

/// How an engine is.
#[derive(Clone, Debug)]
pub(crate) enum EngineState {
    /// It loads its model.
    Starting,
    /// It takes requests.
    Ready(Arc<Connected>),
    /// It has died, and another is started in its place.
    Restarting,
    /// There will be none, for this reason.
    Gone(String),
    /// There will be none until its user has mended what it has said.
    Refused,
}

impl EngineState {
    /// Why there will be no engine any more, if so.
    fn end(&self) -> Option<Error> {
        match self {
            Self::Gone(why) => Some(Error::EngineGone(why.clone())),
            Self::Refused => Some(Error::EngineRefused),
            Self::Starting | Self::Ready(_) | Self::Restarting => None,
        }
    }
}

/// An engine that has answered.
#[derive(Debug)]
pub(crate) struct Connected {
    client: InferenceClient<Channel>,
    /// What it said of itself when it was ready.
    pub(crate) facts: StatsReply,
}

impl Connected {
    /// A client of its own for a request; all share one connection.
    pub(crate) fn client(&self) -> InferenceClient<Channel> {
        self.client.clone()
    }

    /// What the engine does now.
    pub(crate) async fn stats(&self) -> Result<StatsReply, tonic::Status> {
        let answer = tokio::time::timeout(ANSWER, self.client().stats(StatsRequest {})).await;
        let late = |_| tonic::Status::deadline_exceeded("the engine does not answer");
        Ok(answer.map_err(late)??.into_inner())
    }
}

/// The server's way to its engine. Clones lead to the same one.
#[derive(Clone, Debug)]
pub struct EngineLink {
    state: watch::Receiver<EngineState>,
    /// Processes that were started.
    starts: Arc<AtomicU64>,
}

impl EngineLink {
    /// To an engine that listens at a socket already and that somebody else looks after.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let connected = connect(socket).await?;
        let (_, state) = watch::channel(EngineState::Ready(Arc::new(connected)));
        Ok(Self { state, starts: Arc::default() })
    }

    pub(crate) fn new(state: watch::Receiver<EngineState>, starts: Arc<AtomicU64>) -> Self {
        Self { state, starts }
    }

    /// Processes that were started after the first, whether they came to be ready or not.
    pub(crate) fn restarts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Whether the engine takes requests.
    pub fn is_ready(&self) -> bool {
        matches!(*self.state.borrow(), EngineState::Ready(_))
    }

    /// What the engine is, once it is ready; an error where it never will be.
    pub async fn ready(&mut self) -> Result<StatsReply> {
        let settled = |state: &EngineState| matches!(state, EngineState::Ready(_)) || state.end().is_some();
        // Where nobody changes the state any more it is what it is.
        let _ = self.state.wait_for(settled).await;
        match &*self.state.borrow() {
            EngineState::Ready(connected) => Ok(connected.facts.clone()),
            state => Err(state.end().unwrap_or(Error::EngineGone("nobody starts the engine any more".to_owned()))),
        }
    }

    /// How the engine is now.
    pub(crate) fn state(&self) -> EngineState {
        self.state.borrow().clone()
    }

    /// Waits until the engine that is ready is not any more; false where nobody would start another.
    pub(crate) async fn lost(&mut self) -> bool {
        self.state.wait_for(|state| !matches!(state, EngineState::Ready(_))).await.is_ok()
    }

    /// Waits until there will be no engine any more, and says why.
    pub(crate) async fn gone(&mut self) -> Error {
        if let Ok(state) = self.state.wait_for(|state| state.end().is_some()).await
            && let Some(why) = state.end()
        {
            return why;
        }
        // Nobody looks after it here, so nobody will ever say.
        std::future::pending().await
    }
}

/// Connects to an engine that listens and answers.
pub(crate) async fn connect(socket: &Path) -> Result<Connected> {
    let refuse = |reason: String| Error::Engine { path: PathBuf::from(socket), reason };
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))
        .map_err(|error| refuse(error.to_string()))?
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let channel = endpoint.connect().await.map_err(|error| refuse(crate::error::causes(&error)))?;
    let mut client = InferenceClient::new(channel);
    let stats = tokio::time::timeout(ANSWER, client.stats(StatsRequest {})).await;
    let stats = stats.map_err(|_| refuse("it does not answer".to_owned()))?;
    let facts = stats.map_err(|status| refuse(status.message().to_owned()))?.into_inner();
    Ok(Connected { client, facts })
}
