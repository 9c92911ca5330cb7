//! The cluster that other tests stand on: pods run, names and cluster IPs lead to them, nodes die and come back, and nothing is left.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use palimpsest_tests::{Cluster, built, make_image, repository, wait_until};

/// A web server that tells a pod's volume, and a Service before it.
const WEB: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  hostname: first
  subdomain: pods
  securityContext: {runAsNonRoot: true}
  containers:
    - name: web
      image: palimpsest.test/base:1
      command: [httpd, -f, -p, "8080", -h, /data]
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: pods}
spec: {selector: {app: web}, clusterIP: None, ports: [{port: 8080}]}
"#;

/// Runs the worker, whose libraries are the largest image that there is.
const WORKER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: worker}
spec:
  restartPolicy: Never
  containers: [{name: worker, image: "palimpsest.test/worker:smoke", args: [--help]}]
"#;

/// Asks the web server on node-1 from a pod on node-2.
const VISITOR: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: visitor}
spec:
  nodeName: node-2
  restartPolicy: OnFailure
  containers: [{name: visitor, image: "palimpsest.test/base:1", command: [timeout, "5", wget, -q, -O, "-", "http://front/page"]}]
"#;

fn output(command: &mut Command) -> String {
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

fn script(name: &str) -> Command {
    Command::new(repository().join("tests/cluster").join(name))
}

/// What a page says, asked from a pod.
fn page(cluster: &Cluster, url: &str) -> String {
    // wget has a timeout of its own, with which busybox's crashes.
    cluster.kubectl(&["exec", "web", "--", "timeout", "5", "wget", "-q", "-O", "-", url]).stdout
}

#[test]
fn pods_run_and_are_found_by_name_and_nodes_die_and_come_back() {
    if !Cluster::can_run() {
        return;
    }
    make_image("palimpsest.test/worker:smoke", &[built("palimpsest-worker")]);
    let cluster = Cluster::start(1);

    let data = cluster.volume("data");
    fs::write(data.join("page"), "written on the machine").unwrap();
    cluster.apply(WEB);
    cluster.apply(WORKER);
    cluster.kubectl_succeed(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    wait_until("the page by its cluster IP's name", || page(&cluster, "http://front/page") == "written on the machine");
    let full = page(&cluster, "http://pods.default.svc.cluster.local:8080/page");
    assert_eq!(full, "written on the machine", "a headless Service's name leads to its pod");
    let nobody = cluster.kubectl(&["exec", "web", "--", "nslookup", "nobody.default.svc.cluster.local"]);
    assert!(nobody.stdout.contains("NXDOMAIN"), "{}{}", nobody.stdout, nobody.stderr);
    // A pod's own name is in its /etc/hosts; others have it from the cluster's DNS.
    let server = format!("10.89.{}.2", cluster.name().trim_start_matches("pal"));
    let found = output(Command::new("busybox").args(["nslookup", "first.pods.default.svc.cluster.local", &server]));
    let pod = cluster.kubectl_succeed(&["get", "pod", "web", "--output=jsonpath={.status.podIP}"]).stdout;
    assert!(found.contains(&format!("Address: {pod}\n")), "{found}");
    // Pods run as a user who is not root, and can write to a volume.
    cluster.kubectl_succeed(&["exec", "web", "--", "sh", "-c", "id -u > /data/user"]);
    assert_eq!(fs::read_to_string(data.join("user")).unwrap(), "65532\n");
    // The machine that runs the tests reaches cluster IPs, too.
    let address = cluster.kubectl_succeed(&["get", "service", "front", "--output=jsonpath={.spec.clusterIP}"]).stdout;
    let mut wget = Command::new("busybox");
    assert_eq!(
        output(wget.args(["wget", "-q", "-O", "-", &format!("http://{address}/page")])),
        "written on the machine"
    );

    cluster.kubectl_succeed(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/worker", "--timeout=60s"]);
    let log = cluster.kubectl_succeed(&["logs", "worker"]).stdout;
    assert!(log.contains("Usage: palimpsest-worker"), "{log}");

    if cluster.kubectl(&["get", "node", "node-2"]).code != Some(0) {
        assert_eq!(cluster.add_node(), "node-2");
    }
    cluster.apply(VISITOR);
    cluster.kubectl_succeed(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/visitor", "--timeout=60s"]);
    assert_eq!(cluster.kubectl_succeed(&["logs", "visitor"]).stdout, "written on the machine");

    cluster.kill_node("node-1");
    cluster.kubectl_succeed(&["wait", "--for=condition=Ready=Unknown", "node/node-1", "--timeout=60s"]);
    cluster.boot_node("node-1");
    // The pod is started again by its node, with an address that may be another.
    wait_until("the page after the node has come back", || {
        page(&cluster, "http://front/page") == "written on the machine"
    });
    let restarts = "--output=jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(cluster.kubectl_succeed(&["get", "pod", "web", restarts]).stdout, "1");
}

/// What of this machine names a cluster: links, routes, cgroups, mounts, processes, files.
fn traces_of(name: &str, folder: &Path) -> Vec<String> {
    let number = name.trim_start_matches("pal");
    let mut traces = Vec::new();
    let mut find = |what: &str, text: String, needles: &[String]| {
        let lines = text.lines().filter(|line| needles.iter().any(|needle| line.contains(needle)));
        traces.extend(lines.map(|line| format!("{what}: {line}")));
    };
    let link = [format!(" {name}:"), format!(" {name}-")];
    find("link", output(Command::new("ip").args(["-oneline", "link"])), &link);
    find("route", output(Command::new("ip").arg("route")), &[format!("10.89.{number}."), format!("10.96.{number}.")]);
    let cgroups = output(Command::new("find").args(["/sys/fs/cgroup", "-path", &format!("*/{name}*")]));
    find("cgroup", cgroups, &[format!("/{name}")]);
    let files = folder.to_string_lossy().into_owned();
    find("mount", fs::read_to_string("/proc/self/mountinfo").unwrap(), std::slice::from_ref(&files));
    find("process", output(Command::new("ps").args(["-eo", "pid,args"])), &[format!("{files}/")]);
    if folder.exists() {
        traces.push(format!("file: {files}"));
    }
    traces
}

/// The settings that a kubelet and kube-proxy would change, and the rules of the machine's own network.
fn settings() -> String {
    let names = ["vm.overcommit_memory", "vm.panic_on_oom", "kernel.panic", "kernel.panic_on_oops"];
    let more = ["kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes", "net.ipv4.ip_forward"];
    let sysctls = output(Command::new("sysctl").args(names).args(more));
    sysctls + &output(Command::new("iptables").args(["--list-rules"]))
}

#[test]
fn nothing_is_left_whatever_was_killed_by_hand() {
    if !Cluster::can_run() {
        return;
    }
    let before = settings();
    let cluster = Cluster::start(2);
    if std::env::var_os("KUBECONFIG").is_some_and(|kubeconfig| kubeconfig == *cluster.kubeconfig()) {
        eprintln!("skipped: KUBECONFIG names a cluster that is to live on");
        return;
    }
    let (name, folder) = (cluster.name().to_owned(), cluster.folder());
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: p, image: 'palimpsest.test/base:1'}]}}");
    cluster.kubectl_succeed(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    assert!(traces_of(&name, &folder).len() > 20, "{:#?}", traces_of(&name, &folder));

    // A frozen node cannot be killed as it is; of the other, the first process and the files are gone, and so is the bridge.
    cluster.freeze_node("node-2");
    let first = "pgrep --full \"inside/node.sh $0 1\" | head -n 1 | xargs kill -KILL; rm -r \"$1/node-1\" \"$1/pki\"; ip link delete $0";
    assert!(Command::new("bash").args(["-c", first, &name]).arg(&folder).status().unwrap().success());
    drop(cluster);
    assert_eq!(traces_of(&name, &folder), Vec::<String>::new());
    assert_eq!(settings(), before);

    // One whose owner and whose supervisor were killed outright is found by whoever comes next.
    let mut supervisor = script("up.sh");
    supervisor.args(["--owned", "0"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut supervisor = supervisor.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(supervisor.stdout.as_mut().unwrap()), &mut line).unwrap();
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let folder = folder.with_file_name(line.trim_end());
    assert!(!traces_of(line.trim_end(), &folder).is_empty());
    assert!(script("down.sh").arg("--orphans").status().unwrap().success());
    assert_eq!(traces_of(line.trim_end(), &folder), Vec::<String>::new());
}
