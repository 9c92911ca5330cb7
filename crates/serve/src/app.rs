//! What all requests share.

use std::sync::Arc;

use palimpsest_vocab::Tokenizer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::blocking::Blocking;
use crate::bodies::Bodies;
use crate::config::{Config, ServerLimits};
use crate::error::Result;
use crate::keys::ApiKeys;
use crate::link::{Connected, EngineLink, EngineState};
use crate::metrics::Metrics;
use crate::openai::ApiError;
use crate::phase::Phase;
use crate::served::ServedModel;

/// Bytes of text that are encoded on the spot. More would keep others waiting.
const ENCODED_ON_THE_SPOT: usize = 4096;

/// Bytes of a body that is read, and of whose conversation a text is made, on the spot.
pub(crate) const READ_ON_THE_SPOT: usize = 64 << 10;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) model: Arc<ServedModel>,
    pub(crate) engine: EngineLink,
    pub(crate) metrics: Metrics,
    pub(crate) limits: ServerLimits,
    pub(crate) keys: ApiKeys,
    pub(crate) phase: watch::Receiver<Phase>,
    /// One for each request that may be under way.
    slots: Arc<Semaphore>,
    /// What bodies take while they are read.
    pub(crate) bodies: Bodies,
    /// Threads for what takes long: bodies, conversations and texts that are large.
    blocking: Blocking,
}

impl App {
    /// Reads what a configuration names.
    pub(crate) fn new(
        config: &Config,
        engine: EngineLink,
        keys: ApiKeys,
        model: ServedModel,
        phase: watch::Receiver<Phase>,
    ) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            metrics: Metrics::new(&model.name)?,
            model: Arc::new(model),
            engine,
            limits: config.limits,
            keys,
            phase,
            slots: Arc::new(Semaphore::new(config.limits.requests)),
            bodies: Bodies::new(config.limits.bodies_bytes),
            blocking: Blocking::new(cores),
        })
    }

    pub(crate) fn tokenizer(&self) -> Arc<Tokenizer> {
        Arc::clone(&self.model.tokenizer)
    }

    /// Whether requests would be answered.
    pub(crate) fn is_ready(&self) -> bool {
        *self.phase.borrow() == Phase::Serving && self.engine.is_ready()
    }

    /// A place among the requests under way; it is given back when it is dropped.
    pub(crate) fn slot(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if *self.phase.borrow() >= Phase::Draining {
            return Err(draining());
        }
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            let most = self.limits.requests;
            ApiError::full(format!("{most} requests are being answered already; try again later"))
        })
    }

    /// The engine, or why there is none now.
    pub(crate) fn connected(&self) -> Result<Arc<Connected>, ApiError> {
        match self.engine.state() {
            EngineState::Ready(connected) => Ok(connected),
            EngineState::Starting => {
                Err(ApiError::unavailable("engine_loading", "the model is being loaded; try again later"))
            }
            EngineState::Restarting => Err(restarting()),
            EngineState::Gone(_) | EngineState::Refused => {
                Err(ApiError::unavailable("engine_gone", "there is no engine any more"))
            }
        }
    }

    /// The ids of a text, as [`ServedModel::encode`] gives them.
    pub(crate) async fn encode(
        &self,
        text: String,
        begins: bool,
        names_tokens: bool,
        param: &str,
    ) -> Result<Vec<u32>, ApiError> {
        let refuse = |error: palimpsest_vocab::Error| ApiError::field(param, format!("{param}: {error}"));
        let (is_long, model) = (text.len() > ENCODED_ON_THE_SPOT, Arc::clone(&self.model));
        let encoded = self.work(is_long, move || model.encode(&text, begins, names_tokens)).await;
        encoded.ok_or_else(|| ApiError::internal(format!("{param} cannot be encoded")))?.map_err(refuse)
    }

    /// Does some work, on a thread of its own where it `is_long`; nothing where that fails.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        is_long: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if is_long { self.blocking.run(work).await } else { Some(work()) }
    }
}

/// The server ends.
pub(crate) fn draining() -> ApiError {
    ApiError::unavailable("draining", "the server is shutting down; ask another")
}

/// The engine has died under a request, or before it.
pub(crate) fn restarting() -> ApiError {
    ApiError::unavailable("engine_restarting", "the engine has died and is being restarted; try again later")
}
