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

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::{Ended, repository};

/// An API server that lives as long as this value.
#[derive(Debug)]
pub struct ApiServer {
    folder: tempfile::TempDir,
    supervisor: Child,
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
        let mut server = Self { folder, supervisor };
        let mut line = String::new();
        let output = server.supervisor.stdout.take();
        output.map(|output| BufReader::new(output).read_line(&mut line));
        assert_eq!(line.trim_end(), "ready", "the API server does not start: its script said why on standard error");
        server
    }

    /// The file by which clients find the server, as its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// `kubectl`, set up for this server.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.folder.path().join("bin/kubectl"));
        // Its own cache goes by address, and a later server may have the same.
        command.env("KUBECONFIG", self.kubeconfig()).env("KUBECACHEDIR", self.folder.path().join("cache"));
        command.stdin(Stdio::null());
        command
    }

    /// Runs `kubectl` to its end.
    pub fn kubectl(&self, arguments: &[&str]) -> Ended {
        self.kubectl_command()
            .args(arguments)
            .output()
            .map(Ended::from)
            .unwrap_or_else(|error| panic!("kubectl: {error}"))
    }

    /// Runs `kubectl` and expects it to succeed.
    pub fn kubectl_succeed(&self, arguments: &[&str]) -> Ended {
        let ended = self.kubectl(arguments);
        assert_eq!(ended.code, Some(0), "kubectl {arguments:?}: {}\n{}", ended.stdout, ended.stderr);
        ended
    }

    /// Gives `kubectl ARGUMENTS -f -` the documents on its standard input.
    pub fn kubectl_with_input(&self, arguments: &[&str], yaml: &str) -> Ended {
        let fail = |error: std::io::Error| -> Child { panic!("kubectl {arguments:?}: {error}") };
        let mut command = self.kubectl_command();
        command.args(arguments).args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(fail);
        // kubectl reads all of it before it writes much; where it ends early, it says why itself.
        child.stdin.take().map(|mut stdin| stdin.write_all(yaml.as_bytes()));
        child.wait_with_output().map(Ended::from).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// Applies YAML documents on the server's side and expects it to take them.
    pub fn apply(&self, yaml: &str) -> Ended {
        let ended = self.kubectl_with_input(&["apply", "--server-side"], yaml);
        assert_eq!(ended.code, Some(0), "kubectl apply: {}\n{yaml}", ended.stderr);
        ended
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // It has ended its programs before it ends; only then may their folder go.
        self.supervisor.wait().map_or_else(|error| eprintln!("the API server's script: {error}"), |_| ());
    }
}
