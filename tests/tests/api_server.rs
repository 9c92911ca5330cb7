//! The API server that other tests stand on: it is a real one, alone or beside others, and goes with its owner.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use palimpsest_tests::{ApiServer, repository, wait_until};

/// A rule that only a real API server judges.
const CARDS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: cards.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Card, plural: cards}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties: {pips: {type: integer}}
              x-kubernetes-validations: [{rule: "self.pips <= 13", message: "spec.pips is above 13"}]
"#;

fn card(name: &str, pips: u32) -> String {
    format!("{{apiVersion: example.com/v1, kind: Card, metadata: {{name: {name}}}, spec: {{pips: {pips}}}}}")
}

/// The processes whose command line names a folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let command_lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let readable = command_lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    readable.filter(|line| line.contains(&*folder.to_string_lossy())).collect()
}

#[test]
fn two_servers_side_by_side_hold_objects_of_their_own_and_judge_rules() {
    let (one, other) = thread::scope(|scope| {
        let one = scope.spawn(ApiServer::start);
        let other = scope.spawn(ApiServer::start);
        (one.join().unwrap(), other.join().unwrap())
    });
    one.apply(CARDS);
    one.wait_for_resources();
    one.apply(&card("ace", 1));
    let refused = one.kubectl_with_input(&["apply", "--server-side"], &card("joker", 14));
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("spec.pips is above 13"), "{}", refused.stderr);
    assert_eq!(one.kubectl_succeed(&["get", "cards", "-o", "name"]).stdout, "card.example.com/ace\n");
    assert!(other.kubectl(&["get", "cards"]).stderr.contains("doesn't have a resource type"));
}

#[test]
fn controllers_collect_what_a_deleted_owner_leaves() {
    let server = ApiServer::start_with_controllers();
    server.kubectl_succeed(&["create", "namespace", "short-lived"]);
    server.kubectl_succeed(&["create", "configmap", "owner"]);
    let uid = server.kubectl_succeed(&["get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}"]).stdout;
    server.apply(&format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: owned, ownerReferences: \
         [{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]}}}}"
    ));
    server.kubectl_succeed(&["delete", "configmap", "owner"]);
    server.kubectl_succeed(&["wait", "--for=delete", "configmap/owned", "--timeout=60s"]);
    server.kubectl_succeed(&["delete", "namespace", "short-lived", "--timeout=60s"]);
}

#[test]
fn nothing_is_left_when_its_value_is_dropped_or_its_script_killed() {
    let server = ApiServer::start();
    let folder = server.kubeconfig().parent().unwrap().to_owned();
    assert!(processes_of(&folder).len() >= 3, "{:?}", processes_of(&folder));
    drop(server);
    assert_eq!(processes_of(&folder), Vec::<String>::new());
    assert!(!folder.exists());

    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(repository().join("tests/cluster/apiserver.sh"));
    command.arg("run").arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut supervisor = command.spawn().unwrap();
    wait_until("the server", || folder.path().join("kubeconfig").exists());
    // A supervisor that is killed outright cannot clean up: the kernel does.
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    wait_until("the end of every program", || processes_of(folder.path()).is_empty());
}

#[test]
fn a_person_starts_and_stops_one() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("server");
    let script = |action: &str| {
        let script = repository().join("tests/cluster/apiserver.sh");
        Command::new(script).arg(action).arg(&folder).stdin(Stdio::null()).output().unwrap()
    };
    let started = script("up");
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let told = format!("export KUBECONFIG={}/kubeconfig\n", folder.display());
    assert_eq!(String::from_utf8_lossy(&started.stdout), told);
    let again = script("up");
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("holds an API server"));
    assert!(script("down").status.success());
    assert!(!folder.exists());
    assert_eq!(processes_of(&folder), Vec::<String>::new());
}
