//! What concerns the job as a whole: its name, checkpoints, evaluation, output, stores, workers, limits.

use super::Rule;
use super::shapes::{exactly_one, name, not_empty, positive, unique, unique_names, uri, writable_uri};

pub(super) fn rules() -> Vec<Rule> {
    let mut rules = job_name();
    rules.extend(writable_uri("CheckpointSpec.uri"));
    rules.extend(writable_uri("Output.uri"));
    rules.extend([
        Rule::new(
            "CheckpointSpec",
            "!(has(self.intervalSteps) && has(self.intervalSeconds))",
            "has intervalSteps and intervalSeconds; keep at most one",
        ),
        positive("CheckpointSpec.intervalSteps", "0 is no interval; write 1 or more, or remove it"),
        positive("CheckpointSpec.intervalSeconds", "0 is no interval; write 1 or more, or remove it"),
        positive("CheckpointSpec.keep", "0 would leave no checkpoint to go on from; write 1 or more"),
        positive("RunPolicy.activeDeadlineSeconds", "0 seconds end the job before it begins; write 1 or more"),
        positive("RunPolicy.startTimeoutSeconds", "0 seconds end the job before it begins; write 1 or more"),
        Rule::new(
            "TrainingJobSpec.managedBy",
            "self.matches('^[^/]+/.+$')",
            "names no controller; write DOMAIN/NAME, such as palimpsest.dev/operator",
        )
        .says("'\"' + self + '\" names no controller; write DOMAIN/NAME, such as palimpsest.dev/operator'"),
    ]);
    rules.extend(evaluation());
    rules.extend(stores());
    rules.extend(workers());
    rules
}

/// RFC 1035, at most 48 characters: pods add `-INDEX-INCARNATION`.
fn job_name() -> Vec<Rule> {
    let label = "is not an RFC 1035 label; use lower-case letters, digits and \"-\", beginning with a letter and ending with no \"-\"";
    vec![
        Rule::new("TrainingJob", "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')", label)
            .says(format!("'\"' + self.metadata.name + '\" {label}'"))
            .at(".metadata.name"),
        Rule::new("TrainingJob", "self.metadata.name.size() <= 48", "is too long; use at most 48 characters")
            .says("'\"' + self.metadata.name + '\" is too long; use at most 48 characters'")
            .at(".metadata.name"),
    ]
}

fn evaluation() -> Vec<Rule> {
    vec![
        unique_names("TrainingJobSpec.evaluation", "name"),
        name("Evaluation.name"),
        exactly_one("Evaluation", &["bitsPerByte", "suite"]),
        not_empty("Suite.kind", "is empty; write a suite such as CMMLU"),
        uri("Suite.uri"),
        Rule::new(
            "Evaluation",
            "self.when.size() > 0 || has(self.intervalSteps)",
            "is empty, so that nothing is ever measured; write JobStart, StageEnd or JobEnd, or intervalSteps",
        )
        .at(".when"),
        unique("Evaluation.when"),
        positive("Evaluation.intervalSteps", "0 is no interval; write 1 or more, or remove it"),
    ]
}

fn stores() -> Vec<Rule> {
    let names = "self.map(store, store.uriPrefix)";
    vec![
        Rule::new(
            "TrainingJobSpec.stores",
            format!("{names}.all(prefix, {names}.exists_one(other, other == prefix))"),
            "a uriPrefix is there already; keep one",
        )
        .says(format!("'\"' + {names}.filter(prefix, !{names}.exists_one(other, other == prefix))[0] + '\" is there already; keep one'")),
        Rule::new(
            "StoreSpec.uriPrefix",
            "self.matches('^(s3|gs|az|hf)://[^/]') && !self.matches('/[.][.](/|$)')",
            "is no prefix of an object store; write one such as \"s3://BUCKET/\"",
        )
        .says("self.matches('^(pvc|file)://') ? self.substring(0, self.indexOf('://')) + ':// needs no credentials; remove it' : '\"' + self + '\" is no prefix of an object store; write one such as \"s3://BUCKET/\"'"),
        Rule::new(
            "SecretReference.name",
            "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
            "is no name of a Secret; use lower-case letters, digits, \"-\" and \".\"",
        )
        .says("'\"' + self + '\" is no name of a Secret; use lower-case letters, digits, \"-\" and \".\"'"),
        Rule::new("StoreSpec.endpoint", "self.matches('^https?://[^/]')", "is no address; write one such as https://minio:9000")
            .says("'\"' + self + '\" is no address; write one such as https://minio:9000'"),
    ]
}

fn workers() -> Vec<Rule> {
    vec![
        positive("Workers.replicas", "0 workers train nothing; write 1 or more, or suspend the job"),
        positive("Elastic.minReplicas", "0 workers train nothing; write 1 or more"),
        Rule::new("Elastic", "self.minReplicas <= self.maxReplicas", "minReplicas is more than maxReplicas; exchange them"),
        Rule::new(
            "Workers",
            "!has(self.elastic) || self.replicas == 0 || self.elastic.minReplicas > self.elastic.maxReplicas || (self.replicas >= self.elastic.minReplicas && self.replicas <= self.elastic.maxReplicas)",
            "is outside spec.workers.elastic; write a number from its minReplicas to its maxReplicas",
        )
        .at(".replicas"),
        Rule::new(
            "Workers.template",
            "!has(self.spec) || !has(self.spec.restartPolicy) || self.spec.restartPolicy == 'Never'",
            "a worker that ends is started again as another pod; remove it, or write Never",
        )
        .says("'\"' + self.spec.restartPolicy + '\" is not for workers, which are started again as other pods; remove it, or write Never'")
        .at(".spec.restartPolicy"),
    ]
}
