//! A definition around the schema: names, columns, subresources.

use serde_json::{Value, json};

use super::structural_schema;
use crate::training_job::{TrainingJobSpec, TrainingJobStatus};

/// The definition of `TrainingJob`.
pub(super) fn training_job() -> Value {
    let mut root = json!({
        "type": "object",
        "description": "A job: what to train, on what, how, and where the result goes.",
        "required": ["metadata", "spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "palimpsest.dev/v1alpha1"},
            "kind": {"type": "string", "description": "TrainingJob"},
            // The API server bounds names itself; the rules on them cost what this says.
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": structural_schema::<TrainingJobSpec>("What to do."),
            "status": structural_schema::<TrainingJobStatus>("What has come of it."),
        },
    });
    super::rules::attach("TrainingJob", &mut root);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "trainingjobs.palimpsest.dev"},
        "spec": {
            "group": "palimpsest.dev",
            "names": {
                "kind": "TrainingJob",
                "listKind": "TrainingJobList",
                "plural": "trainingjobs",
                "singular": "trainingjob",
                "shortNames": ["tj"],
                "categories": ["palimpsest"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": root},
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.workers.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "additionalPrinterColumns": columns(),
            }],
        },
    })
}

/// What `kubectl get` shows; from `Restarts` on with `-o wide` only, but for the age, which comes last.
fn columns() -> Vec<Value> {
    let state = ".status.conditions[?(@.type==\"Progressing\")].reason";
    let column = |name: &str, kind: &str, path: &str, priority: u32, description: &str| json!({"name": name, "type": kind, "jsonPath": path, "priority": priority, "description": description});
    vec![
        column("State", "string", state, 0, "What the job does, or why it does nothing."),
        column("Stage", "string", ".status.stage.name", 0, "The stage that is being trained."),
        column("Progress", "integer", ".status.progress.progressPercentage", 0, "Percent of the steps."),
        column("Loss", "string", ".status.progress.loss", 0, "The loss of the last step."),
        column("Tokens/s", "string", ".status.progress.tokensPerSecond", 0, "Document tokens a second."),
        column("Restarts", "integer", ".status.restarts", 0, "Restarts of the whole by failure."),
        column("Ready", "integer", ".status.readyReplicas", 1, "Worker pods that take part."),
        column("Step", "integer", ".status.progress.step", 1, "Steps taken."),
        column("Steps", "integer", ".status.progress.steps", 1, "Steps of the whole job."),
        column("Remaining", "integer", ".status.progress.estimatedRemainingSeconds", 1, "Seconds left."),
        column("Age", "date", ".metadata.creationTimestamp", 0, "Since when there is the job."),
    ]
}
