//! The real operator, as a process.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::{built, free_address};

/// A replica of the operator that lives as long as this value.
#[derive(Debug)]
pub struct OperatorProcess {
    child: Child,
    log: tempfile::NamedTempFile,
    /// The port of /metrics.
    pub http_port: u16,
}

impl OperatorProcess {
    /// Starts a replica. All replicas of an API server share the port for agents, as a Service's do; `environment` is added to its
    /// own.
    pub(super) fn start(kubeconfig: &Path, control_port: u16, lease: [&str; 3], environment: &[(&str, &str)]) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap_or_else(|error| panic!("{error}"));
        let stderr = File::options().append(true).open(log.path()).unwrap_or_else(|error| panic!("{error}"));
        let http_port = free_address().port();
        let child = Command::new(built("palimpsest-operator"))
            .args(["--coordinator", &format!("localhost:{control_port}")])
            .args(["--control-address", &format!("127.0.0.1:{control_port}")])
            .args(["--http-address", &format!("127.0.0.1:{http_port}")])
            .args(["--lease-duration-seconds", lease[0], "--lease-renew-deadline-seconds", lease[1]])
            .args(["--lease-retry-period-seconds", lease[2]])
            .env("KUBECONFIG", kubeconfig)
            .env("WORKER_IMAGE", "worker.test:1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("palimpsest-operator: {error}"));
        Self { child, log, http_port }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it serves at /metrics; empty where it does not yet.
    pub fn metrics(&self) -> String {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.http_port))?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        ask().unwrap_or_default()
    }

    /// Kills it outright.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Tells it to end, and waits until it has.
    pub fn end(&mut self) -> ExitStatus {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(killed.is_ok_and(|status| status.success()), "the operator had ended before it was told to");
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "the operator does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("{error}"))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }
}

impl Drop for OperatorProcess {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the operator's log:\n{}", self.log());
        }
    }
}
