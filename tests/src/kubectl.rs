//! `kubectl` for a server that the tests started.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Ended;

/// Runs `kubectl` as the administrator of an [`ApiServer`](crate::ApiServer) or a [`Cluster`](crate::Cluster), both of which can be
/// used as one of these.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// The folder of what it remembers, where that is not kubectl's own.
    cache: Option<PathBuf>,
    namespace: Option<String>,
}

impl Kubectl {
    /// `kubectl` of the scripts' folder for a server: `kubeconfig` and `bin/kubectl` are in it.
    pub(crate) fn of(folder: &Path) -> Self {
        let (program, kubeconfig) = (folder.join("bin/kubectl"), folder.join("kubeconfig"));
        // kubectl's own cache goes by address, and a later server may have the same.
        Self { program, kubeconfig, cache: Some(folder.join("cache")), namespace: None }
    }

    /// A user's own `kubectl`, for the cluster of a file.
    pub fn of_user(kubeconfig: &Path) -> Self {
        Self { program: PathBuf::from("kubectl"), kubeconfig: kubeconfig.to_owned(), cache: None, namespace: None }
    }

    /// The same, in a namespace where a command names no other.
    pub fn within(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self.clone() }
    }

    /// The file by which clients find the server, as its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// `kubectl`, set up for this server.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null());
        if let Some(cache) = &self.cache {
            command.env("KUBECACHEDIR", cache);
        }
        command.args(self.namespace.iter().map(|namespace| format!("--namespace={namespace}")));
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

    /// Waits until the server serves all resources that it was given. `kubectl wait` fails where there are no conditions yet.
    pub fn wait_for_resources(&self) {
        let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
        crate::wait_until("the resources", || self.kubectl(&established).code == Some(0));
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
