//! Datasets.

use super::Violations;
use crate::training_job::{DataSpec, Dataset, DatasetFormat, Fields};

pub(super) fn check(data: &DataSpec, violations: &mut Violations) {
    violations.add_if(
        data.sequence_length < 2,
        "spec.data.sequenceLength",
        format!("{} is too short to predict anything; write 2 or more", data.sequence_length),
    );
    if let Some(prepared) = &data.prepared {
        violations.writable_uri("spec.data.prepared.uri", &prepared.uri);
    }
    violations.add_if(
        data.datasets.is_empty(),
        "spec.data.datasets",
        "is empty; write at least one dataset, with its name and uri",
    );
    violations.unique("spec.data.datasets", "name", data.datasets.iter().map(|dataset| dataset.name.as_str()));
    for (index, dataset) in data.datasets.iter().enumerate() {
        check_dataset(&format!("spec.data.datasets[{index}]"), dataset, violations);
    }
}

fn check_dataset(field: &str, dataset: &Dataset, violations: &mut Violations) {
    violations.uri(format!("{field}.uri"), &dataset.uri);
    check_fields(&format!("{field}.fields"), dataset, violations);
    if let Some(hold_out) = &dataset.hold_out {
        violations.add_if(
            !(0.0..1.0).contains(&hold_out.fraction.value()),
            format!("{field}.holdOut.fraction"),
            format!(
                "{} is not a part of the dataset; write 0 or more and less than 1, such as \"0.01\"",
                hold_out.fraction
            ),
        );
    }
    violations.add_if(
        dataset.language.as_deref() == Some(""),
        format!("{field}.language"),
        "is empty; write a tag such as zh, or remove it",
    );
}

fn check_fields(field: &str, dataset: &Dataset, violations: &mut Violations) {
    let Fields { text, prompt, category } = &dataset.fields;
    if dataset.format == DatasetFormat::Text {
        violations.add_if(
            dataset.fields != Fields::default(),
            field,
            "files of format Text have no fields; remove it, or write format: Jsonl or Parquet",
        );
        return;
    }
    for (name, value) in [("text", text), ("prompt", prompt), ("category", category)] {
        violations.add_if(
            value.is_empty(),
            format!("{field}.{name}"),
            "is empty; write a field's name, or remove the line for the default",
        );
    }
    violations.add_if(
        text == prompt,
        format!("{field}.prompt"),
        format!("\"{prompt}\" is the text's field too; a prompt needs one of its own"),
    );
}
