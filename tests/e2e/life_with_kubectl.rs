//! A job's life as a user with `kubectl` alone sees and steers it.

use palimpsest_tests::wait_until;

use crate::job::{JOB, Run, STEPS, job_called};
use crate::setting::{Setting, events};

fn has_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

/// Expects `kubectl` to be refused, with words that hold all of these.
fn is_refused(setting: &Setting, arguments: &[&str], why: &[&str]) {
    let ended = setting.kubectl(arguments);
    assert_ne!(ended.code, Some(0), "{arguments:?}: {}", ended.stdout);
    has_all(&ended.stderr, why);
}

fn suspend(setting: &Setting, suspend: bool) {
    let patch = format!("{{\"spec\": {{\"suspend\": {suspend}}}}}");
    setting.kubectl_succeed(&["patch", "tj", "recipes", "--type=merge", "--patch", &patch]);
}

#[test]
fn a_user_with_kubectl_watches_suspends_resumes_and_breaks_a_job() {
    let Some(setting) = Setting::start() else { return };
    let applied = setting.kubectl_with_input(&["apply"], JOB);
    assert_eq!((applied.code, applied.stdout.trim()), (Some(0), "trainingjob.palimpsest.dev/recipes created"));
    let run = Run::of(&setting);
    run.more_steps(1);
    is_shown(&setting);
    is_refused_what_cannot_be(&setting);

    suspend(&setting, true);
    setting.kubectl_succeed(&["wait", "tj/recipes", "--for=condition=Suspended", "--timeout=60s"]);
    wait_until("the end of a suspended job's pods", || setting.pods().is_empty());
    let message = "--output=jsonpath={.status.conditions[?(@.type==\"Progressing\")].message}";
    let message = setting.kubectl_succeed(&["get", "tj", "recipes", message]).stdout;
    assert_eq!(message, format!("suspended after step {}, with a checkpoint", run.steps()));
    suspend(&setting, false);
    run.more_steps(1);
    assert_eq!(run.counted(), "0 0", "a suspension is no disruption");
    // Every turn has an event that explains it.
    let events = events(&setting, "recipes");
    has_all(&events, &["Starting", "Preparing", "Training", "Suspending", "Suspended", "Normal"]);
    assert!(!events.contains("Warning"), "nothing went wrong: {events}");

    let pod = setting.pods().remove(0).name;
    setting.kubectl_succeed(&["delete", "pod", &pod]);
    run.more_steps(1);
    assert_ne!(setting.pods().remove(0).name, pod, "a name is used once");
    assert_eq!(run.counted(), "0 1", "a pod that is taken away is a disruption");

    let attempts = run.attempts();
    let operators = ["delete", "pods", "--selector=app.kubernetes.io/component=operator"];
    setting.within("palimpsest-system").kubectl_succeed(&operators);
    run.more_steps(30);
    run.succeeds();
    assert_eq!((run.attempts(), run.counted().as_str()), (attempts, "0 1"), "the operator's end was not noticed");
    setting.kubectl_succeed(&["delete", "tj", "recipes", "--timeout=60s"]);
    wait_until("the end of the job's pods", || setting.pods().is_empty());
}

/// Figures come every few seconds.
fn is_shown(setting: &Setting) {
    let row = || setting.kubectl_succeed(&["get", "tj"]).stdout;
    wait_until("a loss in the row", || {
        let row = row();
        let columns: Vec<&str> = row.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        matches!(columns[..], ["recipes", "Training", "text", _, _, _, "0", _])
    });
    has_all(&row(), &["NAME", "STATE", "STAGE", "PROGRESS", "LOSS", "TOKENS/S", "RESTARTS", "AGE"]);
    has_all(&setting.kubectl_succeed(&["get", "palimpsest"]).stdout, &["recipes"]);
    let logs = setting.kubectl_succeed(&["logs", "--selector=palimpsest.dev/job=recipes"]).stdout;
    has_all(&logs, &["training stage text", &format!("step 1/{STEPS}"), "loss"]);
    let explained = setting.kubectl_succeed(&["explain", "trainingjob.spec.checkpoint.intervalSteps"]).stdout;
    has_all(&explained, &["FIELD: intervalSteps <integer>", "DESCRIPTION"]);
}

fn is_refused_what_cannot_be(setting: &Setting) {
    is_refused(setting, &["scale", "tj", "recipes", "--replicas=2"], &["workers.replicas"]);
    is_refused(setting, &["patch", "tj", "recipes", "--type=merge", "--patch", "{\"spec\": {\"seed\": 7}}"], &["seed"]);
    let unknown = JOB.replace("checkpoint: {", "checkpoint: {keeps: 3, ");
    let refusal = setting.kubectl_with_input(&["apply", "--server-side"], &unknown);
    assert_ne!(refusal.code, Some(0));
    has_all(&refusal.stderr, &["keeps"]);
}

#[test]
fn a_job_without_its_data_fails_with_a_reason_and_one_that_is_deleted_publishes_nothing() {
    let Some(setting) = Setting::start() else { return };
    let elsewhere = |name: &str| job_called(name).replace("results/recipes", &format!("results/{name}"));
    setting.apply(&elsewhere("missing").replace("recipes.jsonl", "nothing.jsonl"));
    setting.kubectl_succeed(&["wait", "tj/missing", "--for=condition=Failed", "--timeout=60s"]);
    let described = setting.kubectl_succeed(&["describe", "tj", "missing"]).stdout;
    has_all(&described, &["DatasetNotFound", "pvc://corpora/nothing.jsonl", "Warning"]);
    assert!(!described.contains("/mnt/"), "where a claim is mounted is nobody's business: {described}");

    setting.apply(&elsewhere("brief"));
    let taken = || setting.results.lines("brief/metrics.jsonl").len();
    wait_until("a step", || taken() > 0);
    setting.kubectl_succeed(&["delete", "tj", "missing", "brief", "--timeout=60s"]);
    assert!(setting.pods().is_empty(), "no pod outlives its job");
    assert!(taken() < STEPS && setting.results.names("brief/model").is_empty(), "nothing is published");
}
