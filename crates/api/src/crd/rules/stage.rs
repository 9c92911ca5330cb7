//! Stages: mixtures, budgets, batches.

use super::Rule;
use super::shapes::{exactly_one, name, not_empty, positive, unique_names};

pub(super) fn rules() -> Vec<Rule> {
    let mut rules = vec![
        not_empty("TrainingJobSpec.stages", "is empty; write at least one stage, with its name, mixture and budget"),
        unique_names("TrainingJobSpec.stages", "name"),
        name("Stage.name"),
        positive("Stage.buckets", "0 buckets hold nothing; write 1 to train on everything at once"),
        not_empty("Stage.mixture", "is empty; name at least one dataset"),
        mixture_twice(),
        positive("MixtureEntry.weight", "a weight of 0 trains on nothing; remove the dataset from the mixture or write 1 or more"),
        Rule::new(
            "MixtureEntry.weight",
            "self <= 4294967295",
            "is too large; weights are relative, so write smaller ones in the same proportion",
        ),
        Rule::new(
            "Stage",
            "!has(self.budget.epochs) || self.mixture.all(entry, !has(entry.weight))",
            "a budget in epochs takes every document, so there are no weights; remove each weight",
        )
        .at(".mixture"),
        Rule::new(
            "Stage",
            "has(self.budget.epochs) || self.mixture.all(entry, has(entry.weight))",
            "weight is required, but missing; write a whole number, such as 1",
        )
        .says("'the weight of \"' + self.mixture.map(entry, has(entry.weight) ? '' : entry.dataset).filter(name, name != '')[0] + '\" is required, but missing; write a whole number, such as 1'")
        .at(".mixture"),
        exactly_one("Budget", &["tokens", "steps", "epochs"]),
        positive("Stage.maxRepeats", "0 leaves no document to train on; write 1 or more"),
        Rule::new(
            "Stage",
            "!has(self.budget.epochs) || self.maxRepeats == 0 || self.budget.epochs <= self.maxRepeats",
            "uses each document more often than maxRepeats allows; write fewer epochs or a larger maxRepeats",
        )
        .at(".budget.epochs"),
    ];
    for amount in ["tokens", "steps", "epochs"] {
        let message = "a budget of 0 trains on nothing; remove the stage or write 1 or more";
        rules.push(positive(&format!("Budget.{amount}"), message));
    }
    rules.extend(batch());
    rules
}

fn mixture_twice() -> Rule {
    let names = "self.map(entry, entry.dataset)";
    let message = "is in the mixture twice; keep one, with the sum of the weights";
    Rule::new("Stage.mixture", format!("{names}.all(name, {names}.exists_one(other, other == name))"), message)
        .says(format!("'\"' + {names}.filter(name, !{names}.exists_one(other, other == name))[0] + '\" {message}'"))
}

/// The default of `microBatch` depends on `sequences`, so it is no constant of the schema.
fn batch() -> Vec<Rule> {
    vec![
        positive("Batch.sequences", "0 sequences make no step; write 1 or more"),
        positive("Batch.microBatch", "0 sequences make no pass; write 1 or more"),
        Rule::new(
            "Batch",
            "!has(self.microBatch) || self.sequences == 0 || self.microBatch <= self.sequences",
            "is more than the sequences of a step; write at most that",
        )
        .at(".microBatch"),
    ]
}
