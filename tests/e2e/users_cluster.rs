//! A cluster that somebody else has: the operator is installed in it for each test, and nothing is left of it.

use std::env;
use std::path::{Path, PathBuf};

use palimpsest_tests::{Kubectl, install, repository};

use crate::setting::{CORPUS, NAMESPACE};

/// Claims of the cluster's default storage class, and a pod that brings the corpus to one and reads the other.
const FILES: &str = include_str!("files.yaml");

/// The cluster that `KUBECONFIG` names.
pub(crate) fn named() -> Option<PathBuf> {
    env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn image(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: push the image of deploy/ where the cluster finds it, and name it")
    })
}

/// Finds a cluster that has no operator yet.
pub(crate) fn find(kubeconfig: &Path) -> Kubectl {
    let cluster = Kubectl::of_user(kubeconfig);
    let system = "namespace/palimpsest-system";
    let ours = ["customresourcedefinition/trainingjobs.palimpsest.dev", system, &format!("namespace/{NAMESPACE}")];
    let found = cluster.kubectl_succeed(&[&["get", "--ignore-not-found", "--output=name"], &ours[..]].concat()).stdout;
    assert!(found.is_empty(), "the cluster holds an operator already, which these tests would remove:\n{found}");
    cluster.within(NAMESPACE)
}

/// Makes the claims `corpora` and `results`, and installs the operator.
pub(crate) fn enter(kubectl: &Kubectl) {
    let [operator, worker] = ["E2E_OPERATOR_IMAGE", "E2E_WORKER_IMAGE"].map(image);
    kubectl.kubectl_succeed(&["create", "namespace", NAMESPACE]);
    // Through a pod's standard input a file may come cut short.
    let corpus = format!("--from-file={}", repository().join(CORPUS).display());
    kubectl.kubectl_succeed(&["create", "configmap", "corpus", &corpus]);
    kubectl.apply(&FILES.replace("WORKER_IMAGE", &worker));
    kubectl.kubectl_succeed(&["wait", "pod/files", "--for=condition=Ready", "--timeout=300s"]);
    install(kubectl, &repository(), &operator, &worker);
}

/// Takes all of it away again: the jobs first, which need their operator for it. Says what it could not.
pub(crate) fn leave(kubectl: &Kubectl) {
    let say = |of: &Kubectl, arguments: &[&str]| {
        let ended = of.kubectl(arguments);
        if ended.code != Some(0) {
            eprintln!("kubectl {arguments:?}: {}", ended.stderr);
        }
    };
    say(kubectl, &["delete", "tj", "--all", "--timeout=60s"]);
    say(kubectl, &["delete", "namespace", NAMESPACE]);
    let deploy = repository().join("deploy").to_string_lossy().into_owned();
    let system = kubectl.within("palimpsest-system");
    say(&system, &["delete", "--ignore-not-found", "--kustomize", &deploy]);
}
