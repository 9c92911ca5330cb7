//! Listens, serves, and leaves in order.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use palimpsest_proto::inference::inference_server::InferenceServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::transport::{Server as GrpcServer, ServerTlsConfig};
use tower::util::MapRequestLayer;

use crate::app::App;
use crate::bodies::Shared;
use crate::config::{Config, ServerLimits};
use crate::error::{Error, Result};
use crate::grpc::Public;
use crate::http::{Stalling, router};
use crate::keys::ApiKeys;
use crate::link::EngineLink;
use crate::phase::{Phase, reached};
use crate::place::placed;
use crate::served::ServedModel;
use crate::tls::Certificate;

/// How long what is cut off may take to say so.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long to wait after a connection could not be accepted, mostly because there are no file descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Connections that wait to be accepted; the system may have room for fewer.
const BACKLOG: u32 = 4096;

/// How often a quiet gRPC connection is tried: a machine that is gone closes nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A server that listens and does not answer yet.
pub struct Server {
    config: Config,
    model: ServedModel,
    keys: ApiKeys,
    certificate: Option<Certificate>,
    http: TcpListener,
    grpc: Option<TcpListener>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Serves an engine until `shutdown` is there, then ends in order: says that it is not ready, takes no more, and ends what is under
/// way, up to a limit. An error where it cannot begin, or where there will be no engine any more.
pub async fn serve(config: Config, engine: EngineLink, shutdown: impl Future<Output = ()>) -> Result<()> {
    Server::bind(config).await?.run(engine, shutdown).await
}

/// What listens already, and knows its keys and certificates, but not its model yet.
pub struct Listening {
    config: Config,
    keys: ApiKeys,
    certificate: Option<Certificate>,
    http: TcpListener,
    grpc: Option<TcpListener>,
}

impl std::fmt::Debug for Listening {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Listening").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Listening {
    /// Reads the small files that the configuration names, and listens.
    pub fn new(config: Config) -> Result<Self> {
        config.validate()?;
        let keys = config.api_keys.as_deref().map(ApiKeys::read).transpose()?.unwrap_or_default();
        let certificate = config.tls.as_ref().map(Certificate::read).transpose()?;
        let http = listen(config.http_address)?;
        let grpc = config.grpc_address.map(listen).transpose()?;
        Ok(Self { config, keys, certificate, http, grpc })
    }

    /// Reads the model's tokenizer and template, which takes a good part of a second.
    pub fn read_model(self) -> Result<Server> {
        let Self { config, keys, certificate, http, grpc } = self;
        let model = ServedModel::open(&config)?;
        Ok(Server { config, model, keys, certificate, http, grpc })
    }
}

impl Server {
    /// Reads what the configuration names, and listens.
    pub async fn bind(config: Config) -> Result<Self> {
        Listening::new(config)?.read_model()
    }

    /// Where HTTP is served, by the port that the system has chosen.
    pub fn http_address(&self) -> SocketAddr {
        self.http.local_addr().unwrap_or(self.config.http_address)
    }

    /// Where gRPC is served, if it is.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves, as [`serve`] does.
    pub async fn run(self, engine: EngineLink, shutdown: impl Future<Output = ()>) -> Result<()> {
        let (http_address, grpc_address) = (self.http_address(), self.grpc_address());
        let (phase, receiver) = watch::channel(Phase::Serving);
        let app = Arc::new(App::new(&self.config, engine.clone(), self.keys, self.model, receiver)?);
        tracing::info!(%http_address, ?grpc_address, tls = self.certificate.is_some(), model = app.model.name, "listening");
        let mut told = JoinSet::new();
        told.spawn(tell_of_engine(Arc::clone(&app)));
        let acceptor = self.certificate.as_ref().map(Certificate::acceptor);
        let places = Arc::new(Semaphore::new(app.limits.connections));
        let mut servers = JoinSet::new();
        servers.spawn(serve_http(self.http, acceptor, Arc::clone(&places), Arc::clone(&app)));
        if let Some(listener) = self.grpc {
            servers.spawn(serve_grpc(listener, self.certificate, places, Arc::clone(&app)));
        }
        let mut watched = engine;
        let why = tokio::select! {
            () = shutdown => None,
            why = watched.gone() => Some(why),
        };
        leave(&phase, &mut servers, &app.limits, why.is_some()).await;
        why.map_or(Ok(()), Err)
    }
}

/// Leaves in order.
async fn leave(phase: &watch::Sender<Phase>, servers: &mut JoinSet<()>, limits: &ServerLimits, is_broken: bool) {
    if !is_broken && !limits.drain_delay.is_zero() {
        phase.send_replace(Phase::Leaving);
        tracing::info!(seconds = limits.drain_delay.as_secs_f64(), "not ready any more");
        tokio::time::sleep(limits.drain_delay).await;
    }
    phase.send_replace(Phase::Draining);
    tracing::info!(seconds = limits.drain_timeout.as_secs_f64(), "requests under way may end");
    if tokio::time::timeout(limits.drain_timeout, all_ended(servers)).await.is_err() {
        tracing::warn!("requests are still under way and are cut off");
        phase.send_replace(Phase::Closing);
        let _ = tokio::time::timeout(FAREWELL, all_ended(servers)).await;
    }
    servers.abort_all();
}

async fn all_ended(servers: &mut JoinSet<()>) {
    while servers.join_next().await.is_some() {}
}

/// Listens with room for a crowd: whom the system has no room for is cut off without an answer.
fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let listen = |socket: TcpSocket| {
        // A server that is started anew finds its address in use by connections that have ended.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    socket.and_then(listen).map_err(|source| Error::Listen { address, source })
}

/// Says what the engine is when it is ready.
async fn tell_of_engine(app: Arc<App>) {
    let mut engine = app.engine.clone();
    while let Ok(facts) = engine.ready().await {
        tracing::info!(
            model = app.model.name,
            device = facts.device,
            precision = facts.precision,
            context = facts.context,
            cache_tokens = facts.cache_tokens,
            whole_contexts = facts.cache_tokens / u64::from(facts.context.max(1)),
            "ready"
        );
        if !engine.lost().await {
            return;
        }
    }
}

async fn serve_http(listener: TcpListener, tls: Option<TlsAcceptor>, places: Arc<Semaphore>, app: Arc<App>) {
    let service = router(Arc::clone(&app));
    let mut phase = app.phase.clone();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = reached(&mut phase, Phase::Draining) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let connection = converse(stream, tls.clone(), service.clone(), app.limits, app.phase.clone());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    // Who connects now is refused.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection to its end.
async fn converse(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: axum::Router,
    limits: ServerLimits,
    phase: watch::Receiver<Phase>,
) {
    let _ = stream.set_nodelay(true);
    let stream = Stalling::new(stream, limits.write_timeout);
    let Some(tls) = tls else { return answer_on(stream, service, limits, phase).await };
    // A handshake takes no longer than a head.
    match tokio::time::timeout(limits.header_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => answer_on(stream, service, limits, phase).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn answer_on(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: axum::Router,
    limits: ServerLimits,
    mut phase: watch::Receiver<Phase>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = reached(&mut phase, Phase::Draining) => {
            // The request under way is the last.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = crate::error::causes(&error), "a connection broke");
    }
}

async fn serve_grpc(listener: TcpListener, certificate: Option<Certificate>, places: Arc<Semaphore>, app: Arc<App>) {
    let mut phase = app.phase.clone();
    let most = app.limits.body_bytes;
    let streams = u32::try_from(app.limits.requests).unwrap_or(u32::MAX);
    let mut server =
        GrpcServer::builder().http2_keepalive_interval(Some(KEEP_ALIVE)).max_concurrent_streams(Some(streams));
    if let Some(certificate) = certificate {
        server = match server.tls_config(ServerTlsConfig::new().identity(certificate.identity())) {
            Ok(server) => server,
            Err(error) => return tracing::error!(%error, "gRPC is not served"),
        };
    }
    let bodies = app.bodies.clone();
    let shared =
        move |request: http::Request<Body>| request.map(|body| Body::new(Shared { body, share: bodies.share() }));
    let served = server
        .layer(MapRequestLayer::new(shared))
        .add_service(InferenceServer::new(Public::new(app)).max_decoding_message_size(most))
        .serve_with_incoming_shutdown(placed(listener, places), async move {
            reached(&mut phase, Phase::Draining).await;
        });
    if let Err(error) = served.await {
        tracing::error!(%error, "gRPC is served no more");
    }
}
