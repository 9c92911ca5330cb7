//! Where a test runs: a cluster with the operator installed and a namespace that holds the claims `corpora` and `results`.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use palimpsest_tests::{Cluster, Kubectl, built, install, make_image, repository, wait_until};

use crate::results::Results;
use crate::users_cluster;

/// What the job trains on.
pub(crate) const CORPUS: &str = "examples/corpora/en/recipes.jsonl";
pub(crate) const NAMESPACE: &str = "palimpsest-e2e";
pub(crate) const WORKER: &str = "palimpsest.test/worker:e2e";
pub(crate) const OPERATOR: &str = "palimpsest.test/operator:e2e";

/// A cluster with the operator of this checkout.
pub(crate) struct Setting {
    /// Where it is one of our own, which has nodes that may come to harm.
    own: Option<Cluster>,
    kubectl: Kubectl,
    pub(crate) results: Results,
}

impl Setting {
    /// One with a node: the cluster that `KUBECONFIG` names, or one of our own. `None`, said why, where this machine can run none.
    pub(crate) fn start() -> Option<Self> {
        match users_cluster::named() {
            Some(kubeconfig) => {
                let kubectl = users_cluster::find(&kubeconfig);
                // What goes wrong from here on leaves nothing either.
                let setting = Self { own: None, results: Results::Pod(kubectl.clone()), kubectl };
                users_cluster::enter(&setting);
                Some(setting)
            }
            None => Self::with_nodes(1),
        }
    }

    /// One of our own with so many nodes; `None`, said why, where this machine can run none, or is not to.
    pub(crate) fn with_nodes(nodes: u32) -> Option<Self> {
        let setting = Self::without_operator(nodes)?;
        install(&setting, &repository(), OPERATOR, WORKER);
        Some(setting)
    }

    /// The same before the operator is installed.
    pub(crate) fn without_operator(nodes: u32) -> Option<Self> {
        if users_cluster::named().is_some() {
            eprintln!("skipped: it needs nodes of our own; it runs where KUBECONFIG is not set");
            return None;
        }
        if !Cluster::can_run() {
            return None;
        }
        make_image(WORKER, &[built("palimpsest-worker")]);
        make_image(OPERATOR, &[built("palimpsest-operator")]);
        let cluster = Cluster::start(nodes);
        let kubectl = cluster.within(NAMESPACE);
        kubectl.kubectl_succeed(&["create", "namespace", NAMESPACE]);
        let corpora = cluster.volume_within(NAMESPACE, "corpora");
        fs::copy(repository().join(CORPUS), corpora.join("recipes.jsonl")).unwrap();
        let results = Results::Folder(cluster.volume_within(NAMESPACE, "results"));
        Some(Self { own: Some(cluster), kubectl, results })
    }

    /// The cluster of our own.
    pub(crate) fn cluster(&self) -> &Cluster {
        self.own.as_ref().unwrap()
    }

    /// The folder of a claim in it.
    pub(crate) fn folder(&self, claim: &str) -> PathBuf {
        self.cluster().folder().join(format!("volumes/{NAMESPACE}-{claim}"))
    }

    /// The node on which the operator's leader runs, and one of the others.
    pub(crate) fn nodes(&self) -> (String, String) {
        let system = self.within("palimpsest-system");
        let holder = ["get", "lease", "palimpsest-operator", "--output=jsonpath={.spec.holderIdentity}"];
        let mut leader = String::new();
        wait_until("a leader", || {
            leader = system.kubectl(&holder).stdout;
            !leader.is_empty()
        });
        let node = ["get", "pod", &leader, "--output=jsonpath={.spec.nodeName}"];
        let node = system.kubectl_succeed(&node).stdout;
        let all = self.kubectl_succeed(&["get", "nodes", "--output=jsonpath={.items[*].metadata.name}"]).stdout;
        let other = all.split_whitespace().find(|name| *name != node).unwrap().to_owned();
        (node, other)
    }

    /// Applies a job so that its pod comes to one node, though it may go to any later, and waits until the cluster knows the pod as ready:
    /// of one that it never knew so, it does not say that its node has fallen silent.
    pub(crate) fn apply_on(&self, node: &str, yaml: &str) {
        let others = format!("--selector=kubernetes.io/hostname!={node}");
        self.kubectl_succeed(&["cordon", &others]);
        self.apply(yaml);
        wait_until("the pod's node", || self.pods().iter().any(|pod| pod.node == node));
        self.kubectl_succeed(&["uncordon", &others]);
        let pod = "--selector=palimpsest.dev/job";
        self.kubectl_succeed(&["wait", "pods", pod, "--for=condition=Ready", "--timeout=60s"]);
    }

    /// The pods of jobs.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        let columns = "--output=jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName}{\"\\n\"}{end}";
        let listed = self.kubectl(&["get", "pods", "--selector=palimpsest.dev/job", columns]).stdout;
        let pod = |line: &str| {
            let (name, node) = line.split_once(' ')?;
            Some(Pod { name: name.to_owned(), node: node.to_owned() })
        };
        listed.lines().filter_map(pod).collect()
    }
}

/// The events of a job, as `kubectl describe` lists them.
pub(crate) fn events(kubectl: &Kubectl, job: &str) -> String {
    let described = kubectl.kubectl_succeed(&["describe", "tj", job]).stdout;
    described.split_once("Events:").unwrap().1.to_owned()
}

/// A job's pod.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) node: String,
}

impl Deref for Setting {
    type Target = Kubectl;

    fn deref(&self) -> &Kubectl {
        &self.kubectl
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let described = self.kubectl(&["describe", "tj"]).stdout;
            let system = self.within("palimpsest-system");
            let log = ["logs", "--selector=app.kubernetes.io/component=operator", "--tail=40", "--prefix"];
            eprintln!("{described}\n{}", system.kubectl(&log).stdout);
        }
        if self.own.is_none() {
            users_cluster::leave(&self.kubectl);
        }
    }
}
