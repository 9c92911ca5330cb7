//! `TrainingJob` on a real API server: it judges job files as `palimpsest validate --cluster` does, lets change what may
//! change, and shows what `kubectl` is asked.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use palimpsest_tests::{ApiServer, Ended, Fixture, repository, run, wait_until};

/// An API server that knows our resources.
fn start() -> ApiServer {
    let server = ApiServer::start();
    let definitions = repository().join("deploy/crds");
    server.kubectl_succeed(&["apply", "-f", definitions.to_str().unwrap()]);
    server.wait_for_resources();
    server
}

/// Both ways of applying, without keeping the object.
const APPLY: [&[&str]; 2] = [&["apply", "--server-side", "--dry-run=server"], &["apply", "--dry-run=server"]];

fn judge(server: &ApiServer, yaml: &str) -> [Ended; 2] {
    APPLY.map(|arguments| server.kubectl_with_input(arguments, yaml))
}

fn validate(fixture: &Fixture) -> Ended {
    run(&["validate", "--cluster", fixture.path.to_str().unwrap()])
}

/// Calls `check` with every fixture, several at once: each waits for processes most of the time.
fn for_each(fixtures: &[Fixture], check: impl Fn(&Fixture) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let failures: Vec<String> = thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            while let Some(fixture) = fixtures.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(failure) = check(fixture) {
                    failures.push(format!("{}: {failure}", fixture.path.display()));
                }
            }
            failures
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The API server's answers hold `parts`, whichever way the object was applied.
fn refused_with(answers: &[Ended; 2], parts: &[&str]) -> Result<(), String> {
    for answer in answers {
        let missing: Vec<&&str> = parts.iter().filter(|part| !answer.stderr.contains(**part)).collect();
        if answer.code == Some(0) || !missing.is_empty() {
            return Err(format!("code {:?}, without {missing:?}: {}{}", answer.code, answer.stdout, answer.stderr));
        }
    }
    Ok(())
}

fn accepted(answers: &[Ended; 2]) -> Result<(), String> {
    match answers.iter().find(|answer| answer.code != Some(0)) {
        Some(refused) => Err(refused.stderr.clone()),
        None => Ok(()),
    }
}

/// The field and the message of a sentence.
fn parts(sentence: &str) -> [&str; 2] {
    let (field, message) = sentence.split_once(": ").unwrap();
    [field, message]
}

#[test]
fn the_api_server_and_validate_judge_alike() {
    let server = start();
    let fixtures = [Fixture::all("crates/api/fixtures/good"), Fixture::all("crates/api/fixtures/bad")].concat();
    // What the command line overrides, `kubectl` never sees.
    let fixtures: Vec<Fixture> = fixtures.into_iter().filter(|fixture| fixture.comments("set").is_empty()).collect();
    assert!(fixtures.len() > 150, "{}", fixtures.len());
    for_each(&fixtures, |fixture| {
        let answers = judge(&server, &fixture.text);
        let (servers, clusters) = (fixture.comments("server"), fixture.comments("cluster"));
        let expected = if clusters.is_empty() { fixture.comments("expect") } else { clusters };
        let is_valid = validate(fixture).code == Some(0);
        if is_valid != expected.is_empty() {
            return Err(format!("validate --cluster accepts it: {is_valid}"));
        }
        match servers.as_slice() {
            // Ours is the stricter reader of YAML, and client-side `kubectl` the laxer: it takes what is null for absent.
            ["accepted"] if answers[1].code == Some(0) => Ok(()),
            [] if is_valid => accepted(&answers),
            [] => refused_with(&answers, &expected.iter().flat_map(|sentence| parts(sentence)).collect::<Vec<_>>()),
            servers => refused_with(&answers, servers),
        }
    });
}

/// Examples run on one machine; on a cluster their data has to be on a volume, and nothing else.
#[test]
fn examples_need_their_data_on_a_volume() {
    let server = start();
    for_each(&Fixture::all("examples"), |fixture| {
        refused_with(&judge(&server, &fixture.text), &["is a path of one machine", "spec.output.uri"])?;
        if validate(fixture).code != Some(2) {
            return Err("validate --cluster accepts it".to_owned());
        }
        accepted(&judge(&server, &fixture.text.replace("file://../", "file://").replace("file://", "pvc://data/")))
    });
}

/// Changes a job as `kubectl patch` does.
fn patch(server: &ApiServer, job: &str, spec: &str) -> Ended {
    server.kubectl(&["patch", "trainingjob", job, "--type=merge", "--patch", &format!("spec: {spec}")])
}

#[track_caller]
fn changes(server: &ApiServer, job: &str, spec: &str) {
    let ended = patch(server, job, spec);
    assert_eq!(ended.code, Some(0), "{spec}: {}", ended.stderr);
}

#[track_caller]
fn refuses(ended: &Ended, parts: &[&str]) {
    assert_ne!(ended.code, Some(0), "{parts:?}: {}", ended.stdout);
    for part in parts {
        assert!(ended.stderr.contains(part), "{part} is not in {}", ended.stderr);
    }
}

const DESIGN: &str = include_str!("../../crates/api/fixtures/good/design.yaml");
const ARCHITECTURE: &str = include_str!("../../crates/api/fixtures/good/anchors-and-nulls.yaml");

/// A job whose model is an architecture. Its fields without values are for client-side `kubectl` to take away.
fn create_with_architecture(server: &ApiServer) {
    let created = server.kubectl_with_input(&["apply"], ARCHITECTURE);
    assert_eq!(created.code, Some(0), "{}", created.stderr);
}

const FIXED: &str = "cannot change once the job is there; undo the change, or delete the job and create another";
const RUNNING: &str = "set spec.suspend to true first";

#[test]
fn a_job_changes_where_its_life_allows_it_alone() {
    let server = start();
    server.apply(DESIGN);
    let job = "llama2-zh";
    for (field, change) in [
        ("model", "{model: {uri: \"pvc://models/other\"}}"),
        ("model", "{model: {uri: null, architecture: {hidden_size: 64}}}"),
        ("tokenizer", "{tokenizer: null}"),
        ("tokenizer", "{tokenizer: {extension: {vocabularySize: 69105}}}"),
        ("data", "{data: {packing: Splice}}"),
        ("data", "{data: {prepared: null}}"),
        ("precision", "{precision: Float32}"),
        ("activationCheckpointing", "{activationCheckpointing: None}"),
        ("parallelism", "{parallelism: {data: Replicate}}"),
        ("seed", "{seed: 43}"),
        ("checkpoint", "{checkpoint: {keep: 4}}"),
        ("evaluation", "{evaluation: null}"),
        ("output", "{output: {onExisting: Replace}}"),
        ("stores", "{stores: [{uriPrefix: \"s3://corpora/\"}]}"),
        ("managedBy", "{managedBy: example.com/other}"),
    ] {
        refuses(&patch(&server, job, change), &[&format!("spec.{field}: "), FIXED]);
    }
    let stage = "/spec/stages/1/budget/steps";
    let patch_stage = format!("[{{\"op\": \"replace\", \"path\": \"{stage}\", \"value\": 401}}]");
    refuses(&server.kubectl(&["patch", "tj", job, "--type=json", "--patch", &patch_stage]), &["spec.stages: ", FIXED]);

    changes(&server, job, "{runPolicy: {backoffLimit: 3, activeDeadlineSeconds: null}}");
    changes(&server, job, "{workers: {replicas: 4}}");
    refuses(&patch(&server, job, "{workers: {replicas: 9}}"), &["spec.workers.replicas: ", "minReplicas"]);
    refuses(&patch(&server, job, "{workers: {elastic: {maxReplicas: 16}}}"), &["spec.workers.elastic: ", RUNNING]);
    refuses(&patch(&server, job, "{workers: {elastic: null}}"), &["spec.workers.elastic: ", RUNNING]);
    let template = "{workers: {template: {spec: {nodeSelector: {gpu: h100}}}}}";
    refuses(&patch(&server, job, template), &["spec.workers.template: ", RUNNING]);

    changes(&server, job, "{suspend: true}");
    changes(&server, job, template);
    changes(&server, job, "{workers: {elastic: {maxReplicas: 16}, replicas: 16}}");
    refuses(&patch(&server, job, "{seed: 43}"), &["spec.seed: ", FIXED]);
    // As queues do: the workers change in the update that ends the suspension, and in the one that begins it.
    changes(&server, job, "{suspend: false, workers: {replicas: 8, template: {metadata: {labels: {pool: one}}}}}");
    changes(&server, job, "{suspend: true, workers: {template: {metadata: {labels: {pool: null}}}}}");
    changes(&server, job, "{suspend: false}");
    refuses(&patch(&server, job, template.replace("h100", "h200").as_str()), &["spec.workers.template: ", RUNNING]);
}

#[test]
fn replicas_scale_within_elastic_alone() {
    let server = start();
    server.apply(DESIGN);
    let scale = |job: &str, replicas: u32| server.kubectl(&["scale", "tj", job, &format!("--replicas={replicas}")]);
    assert_eq!(scale("llama2-zh", 5).code, Some(0));
    let replicas = ["get", "tj", "llama2-zh", "-o", "jsonpath={.spec.workers.replicas}"];
    assert_eq!(server.kubectl_succeed(&replicas).stdout, "5");
    refuses(&scale("llama2-zh", 3), &["spec.workers.replicas: ", "is outside spec.workers.elastic"]);
    refuses(&scale("llama2-zh", 0), &["spec.workers.replicas: ", "0 workers train nothing"]);

    create_with_architecture(&server);
    refuses(&scale("anchors-and-nulls", 2), &["spec.workers.replicas: ", "it has no spec.workers.elastic", RUNNING]);
    changes(&server, "anchors-and-nulls", "{suspend: true}");
    assert_eq!(scale("anchors-and-nulls", 2).code, Some(0));
}

/// `architecture` takes any field, so its equality is not that of a type of ours.
#[test]
fn an_architecture_changes_in_none_of_its_fields() {
    let server = start();
    create_with_architecture(&server);
    for change in
        ["{hidden_size: 65}", "{rms_norm_eps: 0.001}", "{use_cache: true}", "{hidden_size: null, head_dim: 64}"]
    {
        let change = format!("{{model: {{architecture: {change}}}}}");
        refuses(&patch(&server, "anchors-and-nulls", &change), &["spec.model: ", FIXED]);
    }
}

/// The status of the design's example, in short.
const STATUS: &str = r#"{"status": {
  "observedGeneration": 1,
  "conditions": [
    {"type": "Progressing", "status": "True", "reason": "Training", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}
  ],
  "stage": {"name": "knowledge-injection", "index": 0, "count": 2, "bucket": 3, "buckets": 10},
  "progress": {"step": 1200, "steps": 4520, "tokens": 2264924160, "progressPercentage": 26, "estimatedRemainingSeconds": 39800,
    "loss": "1.71", "tokensPerSecond": "157000", "lastUpdatedTime": "2026-01-02T03:04:05Z"},
  "attempt": 3, "restarts": 1, "disruptions": 2, "activeSeconds": 51200,
  "checkpoint": {"uri": "pvc://checkpoints/llama2-zh", "step": 1200, "time": "2026-01-02T03:04:05Z"},
  "evaluation": [{"name": "cmmlu", "stage": "knowledge-injection", "score": "0.4989", "samples": 11582}],
  "resolved": {"image": "worker@sha256:00", "precision": "BFloat16"},
  "replicas": 8, "readyReplicas": 8, "selector": "palimpsest.dev/job=llama2-zh", "startTime": "2026-01-02T03:04:05Z"
}}"#;

#[test]
fn kubectl_shows_what_a_job_does_and_explains_its_fields() {
    let server = start();
    server.apply(DESIGN);
    server.kubectl_succeed(&["patch", "tj", "llama2-zh", "--subresource=status", "--type=merge", "--patch", STATUS]);
    let shown = server.kubectl_succeed(&["get", "palimpsest"]).stdout;
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "STATE", "STAGE", "PROGRESS", "LOSS", "TOKENS/S", "RESTARTS", "AGE"]);
    assert_eq!(rows[1][..7], ["llama2-zh", "Training", "knowledge-injection", "26", "1.71", "157000", "1"]);

    // The status is kept apart from the spec, and whole.
    let status: serde_json::Value = serde_json::from_str(STATUS).unwrap();
    let kept = server.kubectl_succeed(&["get", "tj", "llama2-zh", "-o", "json"]).stdout;
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["status"], status["status"]);
    assert_eq!(kept["metadata"]["generation"], 1);
    server.kubectl_succeed(&["wait", "tj", "llama2-zh", "--for=condition=Progressing", "--timeout=10s"]);
    let scale = server.kubectl_succeed(&["get", "tj", "llama2-zh", "--subresource=scale", "-o", "json"]).stdout;
    let scale: serde_json::Value = serde_json::from_str(&scale).unwrap();
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&8.into(), &8.into()));
    assert_eq!(scale["status"]["selector"], "palimpsest.dev/job=llama2-zh");

    // The API server serves objects of a new kind some time before it describes their fields.
    wait_until("the API server describes the fields", || server.kubectl(&["explain", "tj"]).code == Some(0));
    let explained = server.kubectl_succeed(&["explain", "tj.spec.data"]).stdout;
    let explained = explained.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(explained.contains("The datasets and how they are packed."), "{explained}");
    assert!(explained.contains("Splice: Documents follow one another"), "{explained}");
    let explained = server.kubectl_succeed(&["explain", "tj.spec.workers.template.spec.nodeSelector"]).stdout;
    assert!(explained.contains("<map[string]string>"), "{explained}");
}

/// Defaults are in the object from the first moment, and labels of the pod template are not lost.
#[test]
fn the_api_server_completes_a_job() {
    let server = start();
    server.apply(include_str!("../../crates/api/fixtures/good/template.yaml"));
    let kept = server.kubectl_succeed(&["get", "tj", "job", "-o", "json"]).stdout;
    let spec = serde_json::from_str::<serde_json::Value>(&kept).unwrap()["spec"].take();
    assert_eq!(spec["stages"][0]["optimizer"]["learningRate"], "1e-4");
    assert_eq!(spec["data"]["datasets"][0]["fields"]["text"], "target");
    assert_eq!(spec["runPolicy"]["backoffLimit"], 10);
    assert_eq!(spec["workers"]["template"]["metadata"]["labels"]["team"], "nlp");
    assert_eq!(spec["workers"]["template"]["metadata"]["annotations"]["example.com/note"], "kept");
    assert_eq!(spec["workers"]["template"]["spec"]["containers"][0]["ports"][1]["protocol"], "UDP");
    // Another manager adds a container and a volume of its own beside ours.
    let theirs = r"
        {apiVersion: palimpsest.dev/v1alpha1, kind: TrainingJob, metadata: {name: job}, spec: {suspend: true, workers: {template: {spec: {
          containers: [{name: sidecar, image: busybox}], volumes: [{name: more, emptyDir: {}}]}}}}}";
    server.kubectl_succeed(&["patch", "tj", "job", "--type=merge", "--patch", "{\"spec\": {\"suspend\": true}}"]);
    let merged =
        server.kubectl_with_input(&["apply", "--server-side", "--field-manager=other", "--force-conflicts"], theirs);
    assert_eq!(merged.code, Some(0), "{}", merged.stderr);
    let names = |path: &str| {
        let path = format!("jsonpath={{.spec.workers.template.spec.{path}[*].name}}");
        server.kubectl_succeed(&["get", "tj", "job", "-o", &path]).stdout
    };
    assert_eq!(names("containers"), "worker sidecar");
    assert_eq!(names("volumes"), "models scratch more");
}
