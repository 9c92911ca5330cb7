//! A real API server without nodes, for tests of what the API server alone decides: schemas, rules, access, watches.
//!
//! ```no_run
//! use palimpsest_tests::ApiServer;
//!
//! let server = ApiServer::start(); // etcd and kube-apiserver: seconds. `start_with_controllers` adds the controller-manager
//! server.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: colours}\ndata: {sky: blue}\n");
//! assert_eq!(server.kubectl(&["get", "configmap", "colours", "-o", "jsonpath={.data.sky}"]).stdout, "blue");
//! // Other clients are given `server.kubeconfig()`. When `server` is dropped, also by a panic, everything is gone.
//! ```
//!
//! Each value is a server of its own, on a port of its own: tests may run side by side. It runs under
//! `tests/cluster/apiserver.sh`, which a person can start by hand.

use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::process::{Child, Command, Stdio};

use crate::{Kubectl, repository, wait_until};

/// An API server that lives as long as this value.
#[derive(Debug)]
pub struct ApiServer {
    kubectl: Kubectl,
    supervisor: Child,
    folder: tempfile::TempDir,
}

impl ApiServer {
    /// Starts etcd and kube-apiserver, and waits until it answers. There is nothing that collects garbage, makes service
    /// accounts or ends namespaces.
    pub fn start() -> Self {
        Self::start_as(&[])
    }

    /// The same with kube-controller-manager: owners' dependents are collected, namespaces can be deleted, service accounts
    /// are made.
    pub fn start_with_controllers() -> Self {
        Self::start_as(&["--controllers"])
    }

    fn start_as(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a temporary folder: {error}"));
        let script = repository().join("tests/cluster/apiserver.sh");
        // The script ends with its standard input, which is closed however this process ends.
        let supervisor = Command::new(&script)
            .arg("run")
            .arg(folder.path())
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        let mut server = Self { kubectl: Kubectl::of(folder.path()), supervisor, folder };
        let mut line = String::new();
        let output = server.supervisor.stdout.take();
        output.map(|output| BufReader::new(output).read_line(&mut line));
        assert_eq!(line.trim_end(), "ready", "the API server does not start: its script said why on standard error");
        server
    }

    /// Kills the API server outright, starts it again with what it had stored, and waits until it answers.
    pub fn restart(&self) {
        let folder = self.folder.path();
        let restarts = || fs::read_to_string(folder.join("restarts")).unwrap_or_default();
        let before = restarts();
        let signalled = Command::new("kill").arg("-USR1").arg(self.supervisor.id().to_string()).status();
        assert!(signalled.is_ok_and(|status| status.success()), "the API server's script has ended");
        wait_until("the API server again", || restarts() != before);
    }
}

impl Deref for ApiServer {
    type Target = Kubectl;

    fn deref(&self) -> &Kubectl {
        &self.kubectl
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // It has ended its programs before it ends; only then may their folder go.
        self.supervisor.wait().map_or_else(|error| eprintln!("the API server's script: {error}"), |_| ());
    }
}
