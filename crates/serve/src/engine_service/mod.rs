//! Serves an engine over a Unix socket: the engine's process.
//!
//! The engine computes on a thread of its own. What it gives goes through a bounded channel for each request, so that nobody who
//! reads slowly holds it up.
//!
//! ```text
//! gRPC ──► service ── submissions ──► driver (a thread) ──► Engine::step ──► outlet of each request ──► gRPC
//! ```

mod driver;
mod formats;
mod outlet;
mod service;
mod snapshot;
mod timed;
mod translate;

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use palimpsest_infer::{Engine, Limits, Model};
use palimpsest_proto::inference::inference_server::InferenceServer;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::error::{Error, Result};
use driver::Driver;
pub use formats::Formats;
use service::Service;
use snapshot::Snapshot;
use timed::Timed;

/// Submissions that may wait for the step under way to end; who has one more waits to hand it in.
const SUBMISSIONS: usize = 1024;

/// Streams of one connection: the server in front has one connection for all of its requests.
const STREAMS: u32 = 1 << 20;

/// Bytes of a request: more than the server in front takes from a client, so that what is wrong with one is told by its name.
const MESSAGE: usize = 256 << 20;

/// What a model is, beside what an engine knows of it.
#[derive(Clone, Debug)]
pub struct Served {
    /// What it computes on, in words.
    pub device: String,
    /// The type of its weights and sums, in words.
    pub precision: String,
    /// The tokens that end its output (EOS).
    pub end_ids: Vec<u32>,
    /// What its tokens mean, so that outputs can follow formats; absent: they cannot. [`token_bytes`](crate::token_bytes) says it of
    /// a model's folder.
    pub formats: Option<Formats>,
}

/// Serves a model at a Unix socket, within `limits`, until `shutdown` is there or the model fails. Requests that are under way at
/// the end are cut off: the server in front waits for them before it ends its engine.
pub async fn serve_engine<M>(
    model: M,
    limits: Limits,
    served: Served,
    socket: &Path,
    shutdown: impl Future<Output = ()>,
) -> Result<()>
where
    M: Model + Send + 'static,
    M::Error: Display,
{
    let listener = UnixListener::bind(socket).map_err(|source| Error::Socket { path: socket.to_owned(), source })?;
    let (timed, model_time) = Timed::new(model);
    let vocabulary = timed.vocabulary();
    let snapshot = Arc::new(Snapshot::new(&served, &limits, vocabulary, model_time));
    let (submit, submissions) = mpsc::channel(SUBMISSIONS);
    let engine = Engine::new(timed, limits);
    let driver = Driver::new(engine, submissions, Arc::clone(&snapshot));
    let (ended, end) = oneshot::channel();
    let thread = std::thread::Builder::new().name("engine".to_owned());
    // Where it panics, `ended` is dropped.
    thread.spawn(move || drop(ended.send(driver.run()))).map_err(Error::Spawn)?;
    let service = Service::new(submit, snapshot, served, vocabulary, limits);
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .add_service(InferenceServer::new(service).max_decoding_message_size(MESSAGE))
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::select! {
        served = server => Ok(served?),
        end = end => end.unwrap_or(Err(Error::Panicked)),
        () = shutdown => Ok(()),
    }
}

/// Waits until whoever started this process has gone: it holds the other end of standard input and never writes to it. An engine
/// that outlived its server would keep the device's memory for nobody.
pub async fn parent_gone() {
    let mut ignored = [0; 64];
    while matches!(tokio::io::stdin().read(&mut ignored).await, Ok(count) if count > 0) {}
}
