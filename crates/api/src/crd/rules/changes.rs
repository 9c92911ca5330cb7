//! What may change in a job that is there: `suspend`, `runPolicy`, `workers.replicas` within `elastic`, and `workers`
//! while the job is suspended.

use super::Rule;

/// Always there: required, or with a default.
const FIXED: [&str; 9] =
    ["model", "data", "stages", "precision", "activationCheckpointing", "parallelism", "seed", "checkpoint", "output"];
/// There or not.
const OPTIONAL: [&str; 3] = ["tokenizer", "evaluation", "stores"];
const REMEDY: &str = "cannot change once the job is there; undo the change, or delete the job and create another";

pub(super) fn rules() -> Vec<Rule> {
    let fixed = FIXED.into_iter().chain(["managedBy"]).map(|field| {
        Rule::new("TrainingJobSpec", format!("self.{field} == oldSelf.{field}"), REMEDY).at(format!(".{field}"))
    });
    let optional = OPTIONAL.into_iter().map(|field| {
        let expression = unchanged(field);
        Rule::new("TrainingJobSpec", expression, REMEDY).at(format!(".{field}"))
    });
    fixed.chain(optional).chain(workers()).collect()
}

/// CEL: a field that may be absent is as it was.
fn unchanged(field: &str) -> String {
    format!("has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})")
}

/// One update may change the workers and end the suspension, or begin it: so do queues.
fn workers() -> Vec<Rule> {
    let suspended = "self.suspend || oldSelf.suspend";
    let fixed = |field: &str| {
        let path = format!("workers.{field}");
        Rule::new(
            "TrainingJobSpec",
            format!("{suspended} || ({})", unchanged(&path)),
            "cannot change while the job runs; set spec.suspend to true first",
        )
        .at(format!(".{path}"))
    };
    vec![
        fixed("template"),
        fixed("elastic"),
        Rule::new(
            "TrainingJobSpec",
            format!("{suspended} || has(self.workers.elastic) || self.workers.replicas == oldSelf.workers.replicas"),
            "cannot change while the job runs, for it has no spec.workers.elastic; set spec.suspend to true first",
        )
        .at(".workers.replicas"),
    ]
}
