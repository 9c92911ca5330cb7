//! A server with an engine behind it, and a client that can misbehave.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod arithmetic;
pub(crate) mod client;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use palimpsest_infer::Limits;
use palimpsest_serve::{Config, EngineLink, Server, serve_engine};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use arithmetic::{Arithmetic, mk_limits, mk_served, write_model};

/// The name by which the model is served.
pub(crate) const MODEL: &str = "arithmetic";

/// How a world differs from the usual one.
pub(crate) struct Options {
    pub(crate) pause: Duration,
    pub(crate) limits: Limits,
    pub(crate) configure: Box<dyn FnOnce(&mut Config)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { pause: Duration::ZERO, limits: mk_limits(), configure: Box::new(|_| {}) }
    }
}

/// A server, and an engine on a thread of its own behind a Unix socket.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) folder: TempDir,
    pub(crate) server: JoinHandle<palimpsest_serve::Result<()>>,
    pub(crate) engine: JoinHandle<palimpsest_serve::Result<()>>,
    stop: Option<oneshot::Sender<()>>,
}

pub(crate) fn mk_config(folder: &std::path::Path) -> Config {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config::new(folder, any);
    config.grpc_address = Some(any);
    config.model_name = Some(MODEL.to_owned());
    config
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path());
        let socket = folder.path().join("engine.sock");
        let model = Arithmetic::new(options.pause, false);
        let path = socket.clone();
        let limits = options.limits;
        let engine =
            tokio::spawn(async move { serve_engine(model, limits, mk_served(), &path, std::future::pending()).await });
        let link = loop {
            match EngineLink::connect(&socket).await {
                Ok(link) => break link,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let mut config = mk_config(folder.path());
        (options.configure)(&mut config);
        let server = Server::bind(config).await.unwrap();
        let (address, grpc) = (server.http_address(), server.grpc_address().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(server.run(link, async {
            let _ = stopped.await;
        }));
        Self { address, grpc, folder, server, engine, stop: Some(stop) }
    }

    /// Asks the server to end.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// A figure of `/metrics`, labels and all.
    pub(crate) async fn figure(&self, name: &str) -> f64 {
        figure(self.address, name).await
    }

    /// Waits until a figure has a value, for ten seconds at most, and says how long that took.
    pub(crate) async fn wait_for(&self, name: &str, value: f64) -> Duration {
        let began = Instant::now();
        loop {
            let now = self.figure(name).await;
            if now == value {
                return began.elapsed();
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{name} is {now} and not {value}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A figure of `/metrics`: the sum of those that have the name and, if it is given with labels, these labels.
pub(crate) async fn figure(address: SocketAddr, name: &str) -> f64 {
    let text = client::get(address, "/metrics").await.text();
    let (name, labels) = name.split_once('{').unwrap_or((name, ""));
    let labels: Vec<&str> = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
    let wanted = |line: &&str| {
        let found = line.split(['{', ' ']).next().unwrap();
        found == format!("palimpsest_inference_{name}") && labels.iter().all(|label| line.contains(label))
    };
    text.lines().filter(wanted).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}
