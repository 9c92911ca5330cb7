//! What is served, where, and within which bounds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::engine_settings::EngineSettings;
use crate::error::{Error, Result};

/// What is served, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// The model's Hugging Face folder, of which the tokenizer and the chat template are read.
    pub model_folder: PathBuf,
    /// The name by which requests ask for it; absent: the folder's.
    pub model_name: Option<String>,
    /// Where HTTP is served; port 0 lets the system choose.
    pub http_address: SocketAddr,
    /// Where gRPC is served; absent: nowhere.
    pub grpc_address: Option<SocketAddr>,
    /// A file of API keys, one a line; absent: who can reach the address may ask.
    pub api_keys: Option<PathBuf>,
    /// Certificate and key; absent: in clear.
    pub tls: Option<TlsFiles>,
    /// A Jinja template in the place of the model's own.
    pub chat_template: Option<PathBuf>,
    /// What clients may use.
    pub limits: ServerLimits,
}

impl Config {
    /// A model at an address, in clear and without keys.
    pub fn new(model_folder: impl Into<PathBuf>, http_address: SocketAddr) -> Self {
        Self {
            model_folder: model_folder.into(),
            model_name: None,
            http_address,
            grpc_address: None,
            api_keys: None,
            tls: None,
            chat_template: None,
            limits: ServerLimits::default(),
        }
    }

    /// Says which setting cannot be.
    pub fn validate(&self) -> Result<()> {
        let limits = &self.limits;
        let refuse = |field, reason: &str| Err(Error::Setting { field, reason: reason.to_owned() });
        if self.model_name.as_ref().is_some_and(|name| name.is_empty() || name.len() > 256) {
            return refuse("model_name", "has to have 1 to 256 bytes");
        }
        // hyper's own minimum.
        if limits.header_bytes < 8192 {
            return refuse("header_bytes", "has to be 8192 at least");
        }
        for (field, value) in [
            ("body_bytes", limits.body_bytes),
            ("bodies_bytes", limits.bodies_bytes),
            ("connections", limits.connections),
            ("requests", limits.requests),
            ("choices", limits.choices),
        ] {
            if value == 0 {
                return refuse(field, "has to be 1 at least");
            }
            if value > Semaphore::MAX_PERMITS {
                return refuse(field, "is more than can be counted; ask for less");
            }
        }
        if limits.bodies_bytes < limits.body_bytes {
            return refuse("bodies_bytes", "is less than body_bytes: a large body would never be read");
        }
        Ok(())
    }

    /// The name by which requests ask for the model.
    pub(crate) fn served_name(&self) -> String {
        let folder = || {
            let folder = self.model_folder.canonicalize().unwrap_or_else(|_| self.model_folder.clone());
            folder.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
        };
        self.model_name.clone().unwrap_or_else(folder)
    }
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, and those that lead to an authority's.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What clients may use.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of all bodies that are being read at once, which take some times as much while they are; more are answered 429.
    pub bodies_bytes: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// How long a head may take to come, and a connection be quiet between requests.
    pub header_timeout: Duration,
    /// How long a body may take to come.
    pub body_timeout: Duration,
    /// How long a client may take no byte of what is sent to it.
    pub write_timeout: Duration,
    /// Connections that are open at once; more wait to be accepted.
    pub connections: usize,
    /// Requests that are answered at once, those that wait for the engine among them; more are answered 429.
    pub requests: usize,
    /// Choices of one request: its prompts times `n`.
    pub choices: usize,
    /// How long a request may wait until the engine begins with it; absent: for ever.
    pub queue_timeout: Option<Duration>,
    /// How long requests are still taken after the end was asked for, so that who sends them learns of it.
    pub drain_delay: Duration,
    /// How long requests in flight may take to end after that.
    pub drain_timeout: Duration,
}

impl ServerLimits {
    /// The usual ones, but for as many requests as an engine of these settings has at once, and connections for them.
    pub fn of(engine: &EngineSettings) -> Self {
        let usual = Self::default();
        let requests = usual.requests.max(engine.max_queued_requests.saturating_add(engine.max_sequences));
        // Whoever asks how the server is needs one, too.
        let connections = usual.connections.max(requests.saturating_add(usual.requests));
        Self { requests, connections, ..usual }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            bodies_bytes: 128 << 20,
            header_bytes: 32 << 10,
            header_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            connections: 4096,
            requests: 2048,
            choices: 128,
            queue_timeout: Some(Duration::from_secs(120)),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::engine_settings::tests::Line;

    #[test]
    fn a_server_takes_what_its_engine_lets_wait() {
        let limits = |words: &str| ServerLimits::of(&Line::parse_from(words.split(' ')).settings);
        let usual = limits("x --model m");
        assert_eq!((usual.requests, usual.connections), (2048, 4096));
        let large = limits("x --model m --max-queued-requests 10000 --max-sequences 100");
        assert_eq!((large.requests, large.connections), (10_100, 12_148));
        let mut config = Config::new("m", SocketAddr::from(([127, 0, 0, 1], 0)));
        assert!(config.validate().is_ok());
        config.limits = limits(&format!("x --model m --max-queued-requests {}", usize::MAX));
        assert!(config.validate().unwrap_err().to_string().contains("than can be counted"));
    }
}
