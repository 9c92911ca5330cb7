//! What concerns the job as a whole: its name, checkpoints, evaluation, output, stores, workers, limits.

use super::{Violations, names};
use crate::training_job::{
    API_VERSION, CheckpointSpec, Evaluation, RunPolicy, StoreSpec, TrainingJob, TrainingJobSpec, Workers,
};
use crate::uri::{Scheme, Uri};

pub(super) fn check_metadata(job: &TrainingJob, violations: &mut Violations) {
    for (field, value, expected) in [("apiVersion", &job.api_version, API_VERSION), ("kind", &job.kind, "TrainingJob")]
    {
        violations.add_if(value != expected, field, format!("\"{value}\" is not known here; write {expected}"));
    }
    names::check_job_name(&job.metadata.name, violations);
}

pub(super) fn check(spec: &TrainingJobSpec, violations: &mut Violations) {
    check_checkpoint(&spec.checkpoint, violations);
    violations.unique("spec.evaluation", "name", spec.evaluation.iter().map(|evaluation| evaluation.name.as_str()));
    for (index, evaluation) in spec.evaluation.iter().enumerate() {
        check_evaluation(&format!("spec.evaluation[{index}]"), evaluation, spec, violations);
    }
    violations.writable_uri("spec.output.uri", &spec.output.uri);
    for (index, store) in spec.stores.iter().enumerate() {
        check_store(&format!("spec.stores[{index}]"), store, &spec.stores[..index], violations);
    }
    check_workers(&spec.workers, violations);
    check_run_policy(&spec.run_policy, violations);
    let is_controller =
        matches!(spec.managed_by.split_once('/'), Some((domain, name)) if !domain.is_empty() && !name.is_empty());
    violations.add_if(
        !is_controller || spec.managed_by.len() > 63,
        "spec.managedBy",
        format!("\"{}\" names no controller; write DOMAIN/NAME, such as palimpsest.dev/operator", spec.managed_by),
    );
}

fn check_checkpoint(checkpoint: &CheckpointSpec, violations: &mut Violations) {
    let field = "spec.checkpoint";
    if let Some(uri) = &checkpoint.uri {
        violations.writable_uri(format!("{field}.uri"), uri);
    }
    violations.add_if(
        checkpoint.interval_steps.is_some() && checkpoint.interval_seconds.is_some(),
        field,
        "has intervalSteps and intervalSeconds; keep at most one",
    );
    for (name, interval) in
        [("intervalSteps", checkpoint.interval_steps), ("intervalSeconds", checkpoint.interval_seconds)]
    {
        violations.add_if(
            interval == Some(0),
            format!("{field}.{name}"),
            "0 is no interval; write 1 or more, or remove it",
        );
    }
    violations.add_if(
        checkpoint.keep == 0,
        format!("{field}.keep"),
        "0 would leave no checkpoint to go on from; write 1 or more",
    );
}

fn check_evaluation(field: &str, evaluation: &Evaluation, spec: &TrainingJobSpec, violations: &mut Violations) {
    violations.exactly_one(
        field,
        &[("bitsPerByte", evaluation.bits_per_byte.is_some()), ("suite", evaluation.suite.is_some())],
    );
    if let Some(bits_per_byte) = &evaluation.bits_per_byte {
        let (field, name) = (format!("{field}.bitsPerByte.dataset"), &bits_per_byte.dataset);
        violations.known_dataset(&field, name, &spec.data.datasets);
        if let Some(index) = spec.data.datasets.iter().position(|dataset| dataset.name == *name) {
            let holds_out = spec.data.datasets[index].hold_out.as_ref().is_some_and(|it| it.fraction.value() > 0.0);
            violations.add_if(
                !holds_out,
                field,
                format!("nothing of \"{name}\" is held out to measure on; write holdOut: {{fraction: \"0.01\"}} in spec.data.datasets[{index}]"),
            );
        }
    }
    if let Some(suite) = &evaluation.suite {
        violations.uri(format!("{field}.suite.uri"), &suite.uri);
        violations.add_if(
            suite.kind.is_empty(),
            format!("{field}.suite.kind"),
            "is empty; write a suite such as CMMLU",
        );
    }
    violations.add_if(
        evaluation.when.is_empty() && evaluation.interval_steps.is_none(),
        format!("{field}.when"),
        "is empty, so that nothing is ever measured; write JobStart, StageEnd or JobEnd, or intervalSteps",
    );
    for (index, when) in evaluation.when.iter().enumerate() {
        violations.add_if(
            evaluation.when[..index].contains(when),
            format!("{field}.when[{index}]"),
            format!("{when:?} is there already; remove one"),
        );
    }
    violations.add_if(
        evaluation.interval_steps == Some(0),
        format!("{field}.intervalSteps"),
        "0 is no interval; write 1 or more, or remove it",
    );
}

fn check_store(field: &str, store: &StoreSpec, before: &[StoreSpec], violations: &mut Violations) {
    let prefix = format!("{field}.uriPrefix");
    match Uri::parse(&store.uri_prefix) {
        Ok(uri) if matches!(uri.scheme(), Scheme::File | Scheme::Pvc) => {
            violations.add(&prefix, format!("{}:// needs no credentials; remove it", uri.scheme()));
        }
        Ok(_) => {}
        Err(_) => {
            let message = "is no prefix of an object store; write one such as \"s3://BUCKET/\"";
            violations.add(&prefix, format!("\"{}\" {message}", store.uri_prefix));
        }
    }
    if let Some(secret) = &store.secret_ref {
        let is_name = secret.name.starts_with(is_name_end)
            && secret.name.ends_with(is_name_end)
            && secret.name.chars().all(|c| is_name_end(c) || "-.".contains(c));
        violations.add_if(
            !is_name,
            format!("{field}.secretRef.name"),
            format!("\"{}\" is no name of a Secret; use lower-case letters, digits, \"-\" and \".\"", secret.name),
        );
    }
    if let Some(endpoint) = &store.endpoint {
        let address = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        violations.add_if(
            !address.is_some_and(|address| !address.is_empty() && !address.starts_with('/')),
            format!("{field}.endpoint"),
            format!("\"{endpoint}\" is no address; write one such as https://minio:9000"),
        );
    }
    violations.add_if(
        before.iter().any(|other| other.uri_prefix == store.uri_prefix),
        prefix,
        format!("\"{}\" is there already; keep one", store.uri_prefix),
    );
}

/// What a Kubernetes name may begin and end with.
fn is_name_end(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn check_workers(workers: &Workers, violations: &mut Violations) {
    violations.add_if(
        workers.replicas == 0,
        "spec.workers.replicas",
        "0 workers train nothing; write 1 or more, or suspend the job",
    );
    let restarts = workers.template.as_ref().and_then(|template| template["spec"]["restartPolicy"].as_str());
    if let Some(policy) = restarts.filter(|policy| *policy != "Never") {
        violations.add(
            "spec.workers.template.spec.restartPolicy",
            format!(
                "\"{policy}\" is not for workers, which are started again as other pods; remove it, or write Never"
            ),
        );
    }
    let Some(elastic) = &workers.elastic else { return };
    let field = "spec.workers.elastic";
    violations.add_if(
        elastic.min_replicas == 0,
        format!("{field}.minReplicas"),
        "0 workers train nothing; write 1 or more",
    );
    if elastic.min_replicas > elastic.max_replicas {
        let message = format!(
            "minReplicas {} is more than maxReplicas {}; exchange them",
            elastic.min_replicas, elastic.max_replicas
        );
        violations.add(field, message);
    } else if workers.replicas > 0 && !(elastic.min_replicas..=elastic.max_replicas).contains(&workers.replicas) {
        let message = format!(
            "{} is outside spec.workers.elastic; write {} to {}",
            workers.replicas, elastic.min_replicas, elastic.max_replicas
        );
        violations.add("spec.workers.replicas", message);
    }
}

fn check_run_policy(policy: &RunPolicy, violations: &mut Violations) {
    let start = Some(policy.start_timeout_seconds);
    for (name, seconds) in [("activeDeadlineSeconds", policy.active_deadline_seconds), ("startTimeoutSeconds", start)] {
        violations.add_if(
            seconds == Some(0),
            format!("spec.runPolicy.{name}"),
            "0 seconds end the job before it begins; write 1 or more",
        );
    }
}
