//! `palimpsest serve`: a model as an OpenAI endpoint. The server is this process; the engine is the worker's, a process of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use palimpsest_serve::{Config, EngineProcess, EngineSettings, Listening, RestartPolicy, ServerLimits, TlsFiles};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::worker;

/// What to serve, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    engine: EngineSettings,
    /// The name by which requests ask for the model; default: its folder's.
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,
    /// The port of HTTP; 0: a free one.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// The address to listen at; 0.0.0.0: all of this machine's.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// The port of gRPC; default: none.
    #[arg(long, value_name = "PORT")]
    grpc_port: Option<u16>,
    /// A file of API keys, one a line.
    #[arg(long, value_name = "FILE")]
    api_keys: Option<PathBuf>,
    /// A PEM file with the server's certificate and those that lead to an authority's.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// A PEM file with its private key.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// A Jinja template in the place of the model's own.
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// How long a request may wait for its first token, in seconds; 0: for ever.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    queue_timeout: u64,
    /// How long requests under way may take to end after SIGTERM or Ctrl-C, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain_timeout: u64,
}

/// Serves until it is asked to end.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(serve(arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(arguments: &Arguments) -> Result<()> {
    // What is wrong with a port or a small file is told before a model is loaded.
    let listening = Listening::new(arguments.config())?;
    let mut command = Command::new(worker::binary()?);
    command.arg("engine").args(arguments.engine.words());
    // An idle thread of OpenMP that spins takes the core from the server, and from whatever else runs on the machine.
    if std::env::var_os("GOMP_SPINCOUNT").is_none() {
        command.env("GOMP_SPINCOUNT", "2000");
    }
    // Huge pages, where the system gives them: the cache is written to in less time.
    if std::env::var_os("THP_MEM_ALLOC_ENABLE").is_none() {
        command.env("THP_MEM_ALLOC_ENABLE", "1");
    }
    let engine = EngineProcess::start(command, RestartPolicy::default())?;
    // Read while the engine reads its weights.
    let server = listening.read_model()?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let end = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let served = server.run(engine.link(), end).await;
    engine.stop().await;
    Ok(served?)
}

impl Arguments {
    fn config(&self) -> Config {
        let tls = self.tls_certificate.clone().zip(self.tls_key.clone());
        Config {
            model_name: self.model_name.clone(),
            grpc_address: self.grpc_port.map(|port| SocketAddr::new(self.address, port)),
            api_keys: self.api_keys.clone(),
            tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
            chat_template: self.chat_template.clone(),
            limits: ServerLimits {
                queue_timeout: (self.queue_timeout > 0).then(|| Duration::from_secs(self.queue_timeout)),
                drain_timeout: Duration::from_secs(self.drain_timeout),
                ..ServerLimits::of(&self.engine)
            },
            ..Config::new(&self.engine.model, SocketAddr::new(self.address, self.port))
        }
    }
}
