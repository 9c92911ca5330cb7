//! The model and its tokenizer.

use super::Rule;
use super::shapes::{exactly_one, not_empty, unique, uri};

pub(super) fn rules() -> Vec<Rule> {
    let mut rules = vec![
        exactly_one("ModelSource", &["uri", "architecture", "checkpoint"]),
        uri("ModelSource.uri"),
        uri("CheckpointSource.uri"),
        Rule::new("TokenizerSpec", "!(has(self.uri) && has(self.learn))", "has uri and learn; keep exactly one"),
        Rule::new(
            "TokenizerSpec",
            "has(self.uri) || has(self.learn) || has(self.extension)",
            "is empty; write uri, learn or extension, or remove it to use the model's own",
        ),
        uri("TokenizerSpec.uri"),
        vocabulary_size("LearnTokenizer.vocabularySize", 260),
        not_empty("LearnTokenizer.from", "is empty; name a dataset to learn from"),
        unique("LearnTokenizer.from"),
        vocabulary_size("TokenizerExtension.vocabularySize", 2),
        unique("TokenizerExtension.learnFrom"),
        uri("PiecesSource.uri"),
        Rule::new(
            "TokenizerSpec",
            "!has(self.learn) || !has(self.extension) || self.extension.vocabularySize > self.learn.vocabularySize",
            "is the size after the extension, so it must be more than that of spec.tokenizer.learn",
        )
        .at(".extension.vocabularySize"),
    ];
    rules.push(extension_source());
    rules.extend(between_model_and_tokenizer());
    rules
}

/// An empty `learnFrom` is none.
fn extension_source() -> Rule {
    let learns = "(has(self.learnFrom) && self.learnFrom.size() > 0)";
    Rule::new("TokenizerExtension", format!("{learns} != has(self.pieces)"), "needs exactly one of learnFrom and pieces")
        .says(format!("{learns} ? 'has learnFrom and pieces; keep exactly one' : 'has none of learnFrom and pieces; write exactly one'"))
}

fn vocabulary_size(on: &str, smallest: u32) -> Rule {
    let message = format!("is out of range; write {smallest} to 1048576");
    Rule::new(on, format!("self >= {smallest} && self <= 1048576"), message)
}

fn between_model_and_tokenizer() -> Vec<Rule> {
    let keeps_moments = "has(self.model.checkpoint) && self.model.checkpoint.state == 'Full'";
    vec![
        Rule::new(
            "TrainingJobSpec",
            "!has(self.model.architecture) || (has(self.tokenizer) && (has(self.tokenizer.uri) || has(self.tokenizer.learn)))",
            "a model made from spec.model.architecture has no tokenizer of its own; write uri or learn",
        )
        .at(".tokenizer"),
        Rule::new(
            "TrainingJobSpec",
            "!has(self.tokenizer) || !has(self.tokenizer.learn) || has(self.model.architecture)",
            "a newly learned tokenizer does not fit the weights of an existing model; use spec.model.architecture, or tokenizer.extension instead of learn",
        )
        .at(".tokenizer.learn"),
        Rule::new(
            "TrainingJobSpec",
            format!("!has(self.tokenizer) || !({keeps_moments})"),
            "the moments of spec.model.checkpoint with state Full fit its own tokenizer only; remove tokenizer, or write state: Weights",
        )
        .at(".tokenizer"),
        Rule::new(
            "TrainingJobSpec",
            format!("self.stages.size() == 0 || self.stages[0].carryOver != 'WeightsAndOptimizer' || ({keeps_moments})"),
            "carryOver of the first stage: it has no optimizer state to take over; write Weights, or give spec.model.checkpoint with state: Full",
        )
        .at(".stages"),
        Rule::new(
            "TrainingJobSpec",
            format!("!({keeps_moments}) || self.stages.size() == 0 || self.stages[0].carryOver != 'Weights'"),
            "Full reads moments that spec.stages[0].carryOver: Weights throws away; write state: Weights, or carryOver: WeightsAndOptimizer",
        )
        .at(".model.checkpoint.state"),
        Rule::new(
            "TrainingJobSpec",
            "(has(self.tokenizer) && has(self.tokenizer.extension)) || self.stages.all(stage, stage.trainable != 'NewEmbeddings')",
            "a stage trains the rows of an extension (trainable: NewEmbeddings) that is not there; write spec.tokenizer.extension or another value",
        )
        .at(".stages"),
    ]
}
