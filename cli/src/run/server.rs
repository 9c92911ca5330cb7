//! The coordinator's side of the protocol, on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;

use anyhow::{Context, Result};
use palimpsest_proto::control::control_server::{Control, ControlServer};
use palimpsest_proto::control::{self, report};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// What is heard of agents.
#[derive(Debug)]
pub(super) enum Heard {
    /// An agent opened a stream.
    Attached {
        hello: control::Hello,
        /// What it is running.
        attempt: Option<control::Attempt>,
        /// Its commands go here.
        commands: mpsc::Sender<Result<control::Command, Status>>,
    },
    /// It reported.
    Reported { agent: String, attempt: control::Attempt, report: report::Report },
}

/// Serves agents on a free port of this machine.
pub(super) async fn start() -> Result<(SocketAddr, mpsc::Receiver<Heard>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen on 127.0.0.1")?;
    let address = listener.local_addr().context("cannot listen on 127.0.0.1")?;
    let (heard, receiver) = mpsc::channel(64);
    let service = ControlServer::new(Service { heard });
    tokio::spawn(async move {
        let served = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        if let Err(error) = served.await {
            tracing::error!(%error, "the coordinator's server ended");
        }
    });
    Ok((address, receiver))
}

#[derive(Debug)]
struct Service {
    heard: mpsc::Sender<Heard>,
}

type Commands = Pin<Box<dyn Stream<Item = Result<control::Command, Status>> + Send>>;

#[tonic::async_trait]
impl Control for Service {
    type AttachStream = Commands;

    async fn attach(&self, request: Request<Streaming<control::Report>>) -> Result<Response<Commands>, Status> {
        let mut reports = request.into_inner();
        let heard = self.heard.clone();
        let (commands, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            if let Err(status) = listen(&mut reports, &heard, commands.clone()).await {
                let _ = commands.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

async fn listen(
    reports: &mut Streaming<control::Report>,
    heard: &mpsc::Sender<Heard>,
    commands: mpsc::Sender<Result<control::Command, Status>>,
) -> Result<(), Status> {
    let gone = |_| Status::unavailable("the run is over");
    let first = reports.next().await.transpose()?;
    let Some(control::Report { attempt, report: Some(report::Report::Hello(hello)) }) = first else {
        return Err(Status::invalid_argument("the first report has to be a hello"));
    };
    let agent = hello.agent.clone();
    heard.send(Heard::Attached { hello, attempt, commands }).await.map_err(gone)?;
    while let Some(report) = reports.next().await.transpose()? {
        let control::Report { attempt: Some(attempt), report: Some(report) } = report else {
            return Err(Status::invalid_argument("a report after the hello needs an attempt and something to tell"));
        };
        heard.send(Heard::Reported { agent: agent.clone(), attempt, report }).await.map_err(gone)?;
    }
    Ok(())
}
