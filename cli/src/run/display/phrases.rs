//! Events as a person reads them.

use palimpsest_proto::control::{Evaluation, Planned, Progress};

use crate::words;

/// The loss, or that it was none.
pub(super) fn loss(loss: Option<f64>) -> String {
    loss.map_or("not a number".to_owned(), |loss| format!("{loss:.4}"))
}

/// Which stage and bucket a step is of.
pub(super) fn place(progress: &Progress) -> String {
    format!(
        "stage {}/{} {}, bucket {}/{}",
        progress.stage_index + 1,
        progress.stages,
        progress.stage,
        progress.bucket + 1,
        progress.buckets
    )
}

/// A measurement in a line.
pub(super) fn evaluation(evaluation: &Evaluation) -> String {
    let after = match (evaluation.when.as_str(), &evaluation.stage) {
        ("Base", _) => "of the base model".to_owned(),
        ("JobStart", _) => "before the first step".to_owned(),
        ("StageEnd", Some(stage)) => format!("after stage {stage}"),
        _ => format!("after step {}", evaluation.step),
    };
    format!("{}: {:.4} bits per byte {after}", evaluation.name, evaluation.bits_per_byte)
}

/// The plan in a line.
pub(super) fn plan(planned: &Planned) -> String {
    let stages = match planned.stages.len() {
        1 => "1 stage".to_owned(),
        stages => format!("{stages} stages"),
    };
    format!("{stages}, {} steps, {} tokens", words::count(planned.steps), words::count(planned.tokens))
}
