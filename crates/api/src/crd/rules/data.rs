//! Datasets, and where they are named.

use super::Rule;
use super::shapes::{decimal, is_decimal, name, not_empty, unique_names, uri, writable_uri};

pub(super) fn rules() -> Vec<Rule> {
    let default_fields =
        "self.fields.text == 'target' && self.fields.prompt == 'source' && self.fields.category == 'category'";
    let mut rules = vec![
        Rule::new("DataSpec.sequenceLength", "self >= 2", "is too short to predict anything; write 2 or more"),
        not_empty("DataSpec.datasets", "is empty; write at least one dataset, with its name and uri"),
        unique_names("DataSpec.datasets", "name"),
        name("Dataset.name"),
        uri("Dataset.uri"),
        not_empty("Dataset.language", "is empty; write a tag such as zh, or remove it"),
        Rule::new(
            "Dataset",
            format!("self.format != 'Text' || ({default_fields})"),
            "files of format Text have no fields; remove it, or write format: Jsonl or Parquet",
        )
        .at(".fields"),
        Rule::new(
            "Dataset",
            "self.format == 'Text' || self.fields.text != self.fields.prompt",
            "the text's field cannot be the prompt's too; a prompt needs one of its own",
        )
        .says("'\"' + self.fields.prompt + '\" is the text\\'s field too; a prompt needs one of its own'")
        .at(".fields.prompt"),
        decimal(
            "HoldOut.fraction",
            "value >= 0.0 && value < 1.0",
            "is not a part of the dataset; write 0 or more and less than 1, such as \"0.01\"",
        ),
    ];
    for field in ["text", "prompt", "category"] {
        rules.push(not_empty(
            &format!("Fields.{field}"),
            "is empty; write a field's name, or remove the line for the default",
        ));
    }
    rules.extend(writable_uri("Prepared.uri"));
    rules.extend(named_datasets());
    rules
}

/// Whoever names a dataset names one of the job's.
fn named_datasets() -> Vec<Rule> {
    let known = "self.data.datasets.map(dataset, dataset.name)";
    // Where there are none, that alone is said.
    let named = |lists: &str, field: &str| {
        let unknown = format!("{lists}.filter(name, !(name in {known}))");
        Rule::new(
            "TrainingJobSpec",
            format!("self.data.datasets.size() == 0 || {lists}.all(name, name in {known})"),
            "names a dataset that is not in spec.data.datasets; add it there, or write one that is",
        )
        .says(format!(
            "'there is no dataset \"' + {unknown}[0] + '\" in spec.data.datasets; add it there, or write one that is'"
        ))
        .at(field)
    };
    let learned = "(has(self.tokenizer) && has(self.tokenizer.learn) ? self.tokenizer.learn.from : [])";
    let extended = "(has(self.tokenizer) && has(self.tokenizer.extension) && has(self.tokenizer.extension.learnFrom) ? self.tokenizer.extension.learnFrom : [])";
    let measured = "(has(self.evaluation) ? self.evaluation.filter(one, has(one.bitsPerByte)).map(one, one.bitsPerByte.dataset) : [])";
    let fraction = "one.holdOut.fraction";
    let held_out = format!(
        "self.data.datasets.exists(one, one.name == name && has(one.holdOut) && (!{} || double({fraction}) > 0.0))",
        is_decimal(fraction)
    );
    vec![
        named(learned, ".tokenizer.learn.from"),
        named(extended, ".tokenizer.extension.learnFrom"),
        named(measured, ".evaluation"),
        Rule::new(
            "TrainingJobSpec",
            format!("{measured}.all(name, !(name in {known}) || {held_out})"),
            "measures a dataset of which nothing is held out; write holdOut: {fraction: \"0.01\"} in spec.data.datasets",
        )
        .says(format!(
            "'nothing of \"' + {measured}.filter(name, !{held_out})[0] + '\" is held out to measure on; write holdOut: {{fraction: \"0.01\"}} in spec.data.datasets'"
        ))
        .at(".evaluation"),
        mixtures(known),
    ]
}

/// The sentence names the stage: the API server cannot bound what it costs to find the dataset.
fn mixtures(known: &str) -> Rule {
    let is_known = format!("stage.mixture.all(entry, entry.dataset in {known})");
    let message = "names a dataset that is not in spec.data.datasets; add it there, or write one that is";
    Rule::new(
        "TrainingJobSpec",
        format!("self.data.datasets.size() == 0 || self.stages.all(stage, {is_known})"),
        format!("a mixture {message}"),
    )
    .says(format!(
        "'the mixture of stage \"' + self.stages.map(stage, {is_known} ? '' : stage.name).filter(name, name != '')[0] + '\" {message}'"
    ))
    .at(".stages")
}
