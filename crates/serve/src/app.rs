//! What all requests share.

use std::sync::Arc;

use palimpsest_vocab::Tokenizer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

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
    /// One for each long text that may be encoded at once.
    encoders: Semaphore,
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
            encoders: Semaphore::new(cores),
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
        if text.len() <= ENCODED_ON_THE_SPOT {
            return self.model.encode(&text, begins, names_tokens).map_err(refuse);
        }
        let _permit = self.encoders.acquire().await.map_err(|_| draining())?;
        let model = Arc::clone(&self.model);
        let encoded = tokio::task::spawn_blocking(move || model.encode(&text, begins, names_tokens)).await;
        let lost = |_| ApiError::internal(format!("{param} cannot be encoded"));
        encoded.map_err(lost)?.map_err(refuse)
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
