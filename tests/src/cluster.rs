//! A real Kubernetes with nodes on this machine, for tests of what pods and nodes do.
//!
//! ```no_run
//! use palimpsest_tests::{Cluster, make_image};
//!
//! if !Cluster::can_run() {
//!     return; // It has said why; with `CI=true` it fails.
//! }
//! make_image("palimpsest.test/tool:1", &["/bin/true"]); // of this machine's programs: there is no registry
//! let cluster = Cluster::start(2);
//! cluster.kubectl_succeed(&["wait", "--for=condition=Ready", "node/node-2", "--timeout=10s"]);
//! cluster.kill_node("node-2"); // every process on it, outright
//! // When `cluster` is dropped, also by a panic, everything is gone.
//! ```
//!
//! Each value is a cluster of its own, under `tests/cluster/up.sh`, which a person can start by hand; docs/cluster-for-tests.md says
//! what is where. With `KUBECONFIG` set to the one that `make cluster` printed, tests run in that cluster instead and leave it
//! running. No other cluster is ever touched.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::{Ended, Kubectl, cache, repository};

/// A cluster that lives as long as this value, or one that `make cluster` started.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    kubectl: Kubectl,
    /// Ends the cluster when its standard input ends. `None` for a cluster that somebody else started.
    supervisor: Option<Child>,
}

impl Cluster {
    /// Whether this machine can run one: root, Go and Debian's packages are needed. Says why not; with `CI=true` that fails.
    pub fn can_run() -> bool {
        let check = script("up.sh").arg("--check").output().map(Ended::from).unwrap_or_else(|error| panic!("{error}"));
        if check.code == Some(0) {
            return true;
        }
        assert!(env::var("CI").as_deref() != Ok("true"), "no cluster can be started: {}", check.stderr);
        eprintln!("skipped: {}", check.stderr.trim_end());
        false
    }

    /// Starts a cluster and waits until its nodes, `node-1` and so on, are Ready.
    pub fn start(nodes: u32) -> Self {
        if let Some(name) = running_cluster() {
            return Self { kubectl: Kubectl::of(&state(&name)), name, supervisor: None };
        }
        let mut supervisor = script("up.sh")
            .args(["--owned", &nodes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the test; the cluster goes when the test has gone.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("up.sh: {error}"));
        let mut line = String::new();
        supervisor.stdout.as_mut().map(|output| BufReader::new(output).read_line(&mut line));
        let name = line.trim_end().to_owned();
        assert!(!name.is_empty(), "the cluster does not start: its script said why on standard error");
        Self { kubectl: Kubectl::of(&state(&name)), name, supervisor: Some(supervisor) }
    }

    /// Its name: `pal1` or alike.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder that holds its files, `logs` among them.
    pub fn folder(&self) -> PathBuf {
        state(&self.name)
    }

    /// Adds a node, waits until it is Ready, and gives its name.
    pub fn add_node(&self) -> String {
        self.script("node.sh", &["add"])
    }

    /// Switches a node off: every process on it is killed outright, and what it had in memory is gone.
    pub fn kill_node(&self, node: &str) {
        self.script("node.sh", &["kill", node]);
    }

    /// Switches a node on again and waits until it is Ready.
    pub fn boot_node(&self, node: &str) {
        self.script("node.sh", &["boot", node]);
    }

    /// Stops every process of a node where it is.
    pub fn freeze_node(&self, node: &str) {
        self.script("node.sh", &["freeze", node]);
    }

    /// Lets the processes of a frozen node go on.
    pub fn thaw_node(&self, node: &str) {
        self.script("node.sh", &["thaw", node]);
    }

    /// Pulls a node's network cable.
    pub fn cut_node(&self, node: &str) {
        self.script("node.sh", &["cut", node]);
    }

    /// Puts a node's network cable back.
    pub fn mend_node(&self, node: &str) {
        self.script("node.sh", &["mend", node]);
    }

    /// Binds a claim of the default namespace to a folder that every node sees, and gives the folder: `pvc://CLAIM/PATH` is
    /// `FOLDER/PATH`.
    pub fn volume(&self, claim: &str) -> PathBuf {
        self.volume_within("default", claim)
    }

    /// The same in another namespace.
    pub fn volume_within(&self, namespace: &str, claim: &str) -> PathBuf {
        let mut command = script("volume.sh");
        PathBuf::from(succeed(command.arg(claim).env("CLUSTER", &self.name).env("NAMESPACE", namespace)))
    }

    /// The same, bound to a folder that is there.
    pub fn volume_of(&self, claim: &str, folder: &Path) -> PathBuf {
        PathBuf::from(self.script("volume.sh", &[claim, &folder.to_string_lossy()]))
    }

    fn script(&self, name: &str, arguments: &[&str]) -> String {
        succeed(script(name).args(arguments).env("CLUSTER", &self.name))
    }
}

impl Deref for Cluster {
    type Target = Kubectl;

    fn deref(&self) -> &Kubectl {
        &self.kubectl
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            let pods = self.kubectl(&["get", "nodes,pods", "--all-namespaces", "--output=wide"]);
            eprintln!("{} when the test failed:\n{}{}", self.name, pods.stdout, pods.stderr);
        }
        let Some(supervisor) = &mut self.supervisor else { return };
        drop(supervisor.stdin.take());
        supervisor.wait().map_or_else(|error| eprintln!("{}: {error}", self.name), |_| ());
    }
}

/// Makes a container image of programs of this machine and their shared libraries, the first of which is its entry point, and
/// brings it to every node of every cluster, those to come included. Before a cluster starts is the quicker moment.
pub fn make_image(name: &str, programs: &[impl AsRef<OsStr>]) {
    succeed(script("image.sh").arg(name).args(programs));
}

fn script(name: &str) -> Command {
    let mut command = Command::new(repository().join("tests/cluster").join(name));
    command.stdin(Stdio::null());
    command
}

fn succeed(command: &mut Command) -> String {
    let ended = command.output().map(Ended::from).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert_eq!(ended.code, Some(0), "{command:?}: {}", ended.stderr);
    ended.stdout.trim_end().to_owned()
}

fn state(name: &str) -> PathBuf {
    cache().join("clusters").join(name)
}

/// The cluster of ours that `KUBECONFIG` names.
fn running_cluster() -> Option<String> {
    let kubeconfig = PathBuf::from(env::var_os("KUBECONFIG")?);
    let folder = kubeconfig.parent()?;
    let ours = folder.parent()? == cache().join("clusters") && kubeconfig.exists();
    ours.then(|| folder.file_name().map(|name| name.to_string_lossy().into_owned()))?
}
