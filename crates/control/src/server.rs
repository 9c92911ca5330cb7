//! Serves `Control.Attach`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palimpsest_proto::control::control_server::{Control, ControlServer};
use palimpsest_proto::control::{self, report};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::heard::{Attached, Commands, Heard, LinkId, Reported};
use crate::{Authenticate, Error, Result};

/// What may be heard before the driver takes it in; then agents wait.
const HEARD: usize = 256;

/// The commands that an agent may be behind. It is told a handful at a time.
const COMMANDS: usize = 64;

/// How long a hello may take. Who says none holds a connection and nothing else.
const HELLO: Duration = Duration::from_secs(10);

/// How often a quiet connection is tried, and how long an answer may take: a machine that is gone closes nothing. Both
/// together are less than `Patience::silence`, so that an agent that is cut off is known as that before its ranks count as hanging.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Serves agents at `listener` until the receiver is dropped: with `tls` over TLS, otherwise in clear, which is for loopback
/// alone. Call it within a tokio runtime.
pub fn serve(
    listener: TcpListener,
    tls: Option<Identity>,
    authenticate: impl Authenticate,
) -> Result<mpsc::Receiver<Heard>> {
    let (heard, receiver) = mpsc::channel(HEARD);
    let service = Service { heard: heard.clone(), authenticate: Arc::new(authenticate), links: AtomicU64::new(0) };
    let mut server =
        Server::builder().http2_keepalive_interval(Some(KEEP_ALIVE)).http2_keepalive_timeout(Some(KEEP_ALIVE));
    if let Some(identity) = tls {
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).map_err(Error::Certificate)?;
    }
    let served = server
        .add_service(ControlServer::new(service))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move { heard.closed().await });
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "agents are served no more");
        }
    });
    Ok(receiver)
}

struct Service {
    heard: mpsc::Sender<Heard>,
    authenticate: Arc<dyn Authenticate>,
    links: AtomicU64,
}

type CommandStream = Pin<Box<dyn Stream<Item = Result<control::Command, Status>> + Send>>;

#[async_trait]
impl Control for Service {
    type AttachStream = CommandStream;

    /// Answers once it is known who calls: an agent that is answered is attached.
    async fn attach(&self, request: Request<Streaming<control::Report>>) -> Result<Response<CommandStream>, Status> {
        let (metadata, _, mut reports) = request.into_parts();
        let token = metadata.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let first = timeout(HELLO, reports.next()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))?.transpose()?;
        let Some(control::Report { attempt, report: Some(report::Report::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first report has to be a hello"));
        };
        let caller = self.authenticate.authenticate(token, &hello).await?;
        let link = LinkId(self.links.fetch_add(1, Ordering::Relaxed));
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let attached = Attached { link, caller, hello, attempt, commands: Commands(commands.clone()) };
        self.heard.send(Heard::Attached(attached)).await.map_err(gone)?;
        let heard = self.heard.clone();
        // Weak, so that the stream ends where the driver drops its side.
        let commands = commands.downgrade();
        tokio::spawn(async move {
            if let Err(status) = listen(link, &mut reports, &heard).await
                && let Some(commands) = commands.upgrade()
            {
                let _ = commands.try_send(Err(status));
            }
            let _ = heard.send(Heard::Detached { link }).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

async fn listen(
    link: LinkId,
    reports: &mut Streaming<control::Report>,
    heard: &mpsc::Sender<Heard>,
) -> Result<(), Status> {
    while let Some(report) = reports.next().await.transpose()? {
        let (attempt, report) = match (report.attempt, report.report) {
            (Some(attempt), Some(report)) => (attempt, report),
            (None, Some(leaving @ report::Report::Leaving(_))) => (control::Attempt::default(), leaving),
            _ => {
                let why = "a report after the hello needs an attempt and something to tell";
                return Err(Status::invalid_argument(why));
            }
        };
        heard.send(Heard::Reported(Reported { link, attempt, report })).await.map_err(gone)?;
    }
    Ok(())
}

fn gone<T>(_: T) -> Status {
    Status::unavailable("nobody coordinates here any more")
}
