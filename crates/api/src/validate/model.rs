//! The model and its tokenizer.

use super::Violations;
use crate::training_job::{CheckpointState, ModelSource, TokenizerExtension, TokenizerSpec, TrainingJobSpec};

/// `<unk> <s> </s>`, the 256 bytes, and one piece.
const SMALLEST_LEARNED: u32 = 260;
const LARGEST_VOCABULARY: u32 = 1 << 20;

pub(super) fn check(spec: &TrainingJobSpec, violations: &mut Violations) {
    check_model(&spec.model, violations);
    if let Some(tokenizer) = &spec.tokenizer {
        check_tokenizer(spec, tokenizer, violations);
    }
    let has_tokenizer = spec.tokenizer.as_ref().is_some_and(|it| it.uri.is_some() || it.learn.is_some());
    violations.add_if(
        spec.model.architecture.is_some() && !has_tokenizer,
        "spec.tokenizer",
        "a model made from spec.model.architecture has no tokenizer of its own; write uri or learn",
    );
}

fn check_model(model: &ModelSource, violations: &mut Violations) {
    violations.exactly_one(
        "spec.model",
        &[
            ("uri", model.uri.is_some()),
            ("architecture", model.architecture.is_some()),
            ("checkpoint", model.checkpoint.is_some()),
        ],
    );
    if let Some(uri) = &model.uri {
        violations.uri("spec.model.uri", uri);
    }
    if let Some(checkpoint) = &model.checkpoint {
        violations.uri("spec.model.checkpoint.uri", &checkpoint.uri);
    }
    violations.add_if(
        model.architecture.as_ref().is_some_and(serde_json::Map::is_empty),
        "spec.model.architecture",
        "is empty; write the fields of a Hugging Face config.json, such as model_type and hidden_size",
    );
}

fn check_tokenizer(spec: &TrainingJobSpec, tokenizer: &TokenizerSpec, violations: &mut Violations) {
    let field = "spec.tokenizer";
    let datasets = &spec.data.datasets;
    match (&tokenizer.uri, &tokenizer.learn, &tokenizer.extension) {
        (Some(_), Some(_), _) => violations.add(field, "has uri and learn; keep exactly one"),
        (None, None, None) => {
            violations.add(field, "is empty; write uri, learn or extension, or remove it to use the model's own");
        }
        _ => {}
    }
    if let Some(uri) = &tokenizer.uri {
        violations.uri("spec.tokenizer.uri", uri);
    }
    if let Some(learn) = &tokenizer.learn {
        violations.add_if(
            spec.model.architecture.is_none(),
            "spec.tokenizer.learn",
            "a newly learned tokenizer does not fit the weights of an existing model; use spec.model.architecture, or tokenizer.extension instead of learn",
        );
        check_vocabulary_size("spec.tokenizer.learn", learn.vocabulary_size, SMALLEST_LEARNED, violations);
        violations.add_if(learn.from.is_empty(), "spec.tokenizer.learn.from", "is empty; name a dataset to learn from");
        check_sources("spec.tokenizer.learn.from", &learn.from, datasets, violations);
    }
    if let Some(extension) = &tokenizer.extension {
        check_extension(extension, tokenizer, datasets, violations);
    }
    let keeps_moments = spec.model.checkpoint.as_ref().is_some_and(|it| it.state == CheckpointState::Full);
    violations.add_if(
        keeps_moments,
        "spec.tokenizer",
        "the moments of spec.model.checkpoint with state Full fit its own tokenizer only; remove tokenizer, or write state: Weights",
    );
}

fn check_extension(
    extension: &TokenizerExtension,
    tokenizer: &TokenizerSpec,
    datasets: &[crate::Dataset],
    violations: &mut Violations,
) {
    let field = "spec.tokenizer.extension";
    violations
        .exactly_one(field, &[("learnFrom", !extension.learn_from.is_empty()), ("pieces", extension.pieces.is_some())]);
    if let Some(pieces) = &extension.pieces {
        violations.uri(format!("{field}.pieces.uri"), &pieces.uri);
    }
    check_sources(&format!("{field}.learnFrom"), &extension.learn_from, datasets, violations);
    check_vocabulary_size(field, extension.vocabulary_size, 2, violations);
    if let Some(learn) = &tokenizer.learn {
        violations.add_if(
            extension.vocabulary_size <= learn.vocabulary_size,
            format!("{field}.vocabularySize"),
            format!(
                "{} is the size after the extension, so it must be more than the {} of spec.tokenizer.learn",
                extension.vocabulary_size, learn.vocabulary_size
            ),
        );
    }
}

fn check_sources(field: &str, names: &[String], datasets: &[crate::Dataset], violations: &mut Violations) {
    for (index, name) in names.iter().enumerate() {
        violations.known_dataset(format!("{field}[{index}]"), name, datasets);
        violations.add_if(
            names[..index].contains(name),
            format!("{field}[{index}]"),
            format!("\"{name}\" is there already; remove one"),
        );
    }
}

fn check_vocabulary_size(parent: &str, size: u32, smallest: u32, violations: &mut Violations) {
    violations.add_if(
        !(smallest..=LARGEST_VOCABULARY).contains(&size),
        format!("{parent}.vocabularySize"),
        format!("{size} is out of range; write {smallest} to {LARGEST_VOCABULARY}"),
    );
}
