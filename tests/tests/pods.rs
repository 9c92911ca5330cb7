//! A TrainingJob on real nodes, with the operator in its own pods as deploy/ installs it: submitted, watched and broken as a user
//! would.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use palimpsest_tests::{
    Cluster, SMALL_JOB, built, install, make_image, read_json, read_json_lines, repository, signal, steps, succeed,
    wait_until, write_job,
};

/// The worker's container has one CPU, so that its rank has as many threads as a run on this machine with `--threads 1`.
const TEMPLATE: &str = "  workers: {template: {spec: {containers: [{name: worker, resources: {limits: {cpu: 1}}}]}}}\n";

const WORKER: &str = "palimpsest.test/worker:pods";
const OPERATOR: &str = "palimpsest.test/operator:pods";

/// The rank in a pod, by the number that this machine knows it by.
fn rank_in(uid: &str) -> Option<u32> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut ranks = numbers.filter(|number: &u32| {
        let read = |name: &str| fs::read_to_string(format!("/proc/{number}/{name}")).unwrap_or_default();
        read("cgroup").contains(uid) && read("cmdline").split('\0').nth(1) == Some("rank")
    });
    ranks.next()
}

#[test]
fn a_job_survives_its_pods_and_its_operator_with_the_bits_of_a_run_on_one_machine() {
    if !Cluster::can_run() {
        return;
    }
    make_image(WORKER, &[built("palimpsest-worker")]);
    make_image(OPERATOR, &[built("palimpsest-operator")]);
    let cluster = Cluster::start(1);
    install(&cluster, &repository(), OPERATOR, WORKER);

    let yaml = SMALL_JOB.replace("tokens: 20000", "tokens: 300000");
    let folder = tempfile::tempdir().unwrap();
    let local = write_job(folder.path(), &yaml);
    let corpora = cluster.volume("corpora");
    for file in ["en/recipes.jsonl", "questions.jsonl"] {
        let source =
            if file.starts_with("en") { repository().join("examples/corpora") } else { folder.path().to_owned() };
        fs::copy(source.join(file), corpora.join(Path::new(file).file_name().unwrap())).unwrap();
    }
    let results = cluster.volume("results");
    let on_claims = yaml
        .replace("file://CORPORA/en/", "pvc://corpora/")
        .replace("file://questions", "pvc://corpora/questions")
        .replace("file://out/", "pvc://results/small/");
    cluster.apply(&format!("{}\n{TEMPLATE}", on_claims.trim_end()));

    let metrics = results.join("small/metrics.jsonl");
    let pod = || cluster.kubectl(&["get", "pods", "--selector=palimpsest.dev/job=small", "--output=name"]).stdout;
    wait_until("step 15", || steps(&metrics) >= 15);
    let first = pod();
    let uid = cluster.kubectl_succeed(&["get", first.trim(), "--output=jsonpath={.metadata.uid}"]).stdout;
    let rank = rank_in(&uid).unwrap();
    signal(rank, "KILL");
    let began = Instant::now();
    wait_until("another rank", || rank_in(&uid).is_some_and(|another| another != rank));
    let before = steps(&metrics);
    wait_until("the next step", || steps(&metrics) > before);
    println!("from a rank's crash to the next step: {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(pod(), first, "a rank is started again in its pod");

    cluster.kubectl_succeed(&["delete", first.trim(), "--wait=false"]);
    let began = Instant::now();
    wait_until("another pod", || !pod().contains(first.trim()) && !pod().is_empty());
    let before = steps(&metrics);
    wait_until("the next step", || steps(&metrics) > before);
    println!("from `kubectl delete pod` to the next step: {:.1} s", began.elapsed().as_secs_f64());

    // The operator's pods are gone, and the job's own takes no notice.
    let second = pod();
    let operators = ["--namespace=palimpsest-system", "delete", "pods", "--all", "--wait=false", "--grace-period=1"];
    cluster.kubectl_succeed(&operators);
    cluster.kubectl_succeed(&["wait", "tj/small", "--for=condition=Succeeded", "--timeout=120s"]);
    assert_eq!(pod(), second, "the pod of before");
    let row = cluster.kubectl_succeed(&["get", "tj", "small"]).stdout;
    assert!(row.contains("Succeeded"), "{row}");
    let counted = "--output=jsonpath={.status.restarts} {.status.disruptions} {.status.progress.progressPercentage}";
    assert_eq!(cluster.kubectl_succeed(&["get", "tj", "small", counted]).stdout, "1 1 100");

    let told = "--output=jsonpath={.status.resolved.precision} {.status.model.uri} {.status.model.digest}";
    let digest = read_json(&results.join("small/summary.json"))["model"]["digest"].clone();
    let expected = format!("Float32 pvc://results/small/model {}", digest.as_str().unwrap());
    assert_eq!(cluster.kubectl_succeed(&["get", "tj", "small", told]).stdout, expected);

    let output = folder.path().join("run");
    succeed(&["run", local.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    let weights = |folder: &Path| fs::read(folder.join("model/model.safetensors")).unwrap();
    assert!(
        weights(&results.join("small")) == weights(&output),
        "the weights are those of a run that nothing disturbed"
    );
    let of = |path: &Path| -> Vec<u64> {
        read_json_lines(&path.join("metrics.jsonl")).iter().map(|step| step["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(of(&results.join("small")), of(&output), "one line a step");

    // What is wrong is a condition with a reason, a message and an event, within seconds.
    let recipes = fs::read_to_string(corpora.join("recipes.jsonl")).unwrap();
    let first_line = recipes.lines().next().unwrap();
    fs::write(corpora.join("broken.jsonl"), format!("{first_line}\n{{\"text\": \n")).unwrap();
    let tells = |name: &str, from: &str, to: &str, condition: &str, parts: &[&str]| {
        let wrong = on_claims.trim_end().replace("name: small", &format!("name: {name}"));
        let wrong = format!("{}\n{TEMPLATE}", wrong.replace("pvc://results/small/", &format!("pvc://results/{name}/")));
        assert!(wrong.contains(from), "{from}");
        cluster.apply(&wrong.replace(from, to));
        let began = Instant::now();
        loop {
            let row = cluster.kubectl_succeed(&["get", "tj", name, &format!("--output=jsonpath={condition}")]).stdout;
            let described = cluster.kubectl_succeed(&["describe", "tj", name]).stdout;
            let is_told =
                row.starts_with(parts[0]) && parts.iter().chain(&["Warning"]).all(|part| described.contains(part));
            if is_told {
                println!("{name}: told after {:.1} s", began.elapsed().as_secs_f64());
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(15), "{name}: {parts:?} are not in {row}\n{described}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let failed = "{.status.conditions[?(@.type=='Failed')].reason}";
    let stuck = "{.status.conditions[?(@.type=='Progressing')].reason}";
    tells("missing", "recipes.jsonl", "nothing.jsonl", failed, &["DatasetNotFound", "nothing.jsonl"]);
    tells("broken", "questions.jsonl", "broken.jsonl", failed, &["DatasetInvalid", "broken.jsonl", "line 2"]);
    tells("claimless", "pvc://corpora/", "pvc://nowhere/", stuck, &["Unschedulable", "\"nowhere\" not found"]);
    let image = "{name: worker, image: palimpsest.test/none:1, ";
    tells("imageless", "{name: worker, ", image, stuck, &["ImagePullFailed", "palimpsest.test/none:1"]);
    cluster.kubectl_succeed(&["delete", "tj", "--all", "--timeout=30s"]);
    assert_eq!(pod(), "", "no pod outlives its job");
}
