//! `telemetry.json`: the loss of each dataset, and how the rows that a vocabulary extension appended fare beside the old
//! ones.

use std::collections::BTreeMap;

use palimpsest_corpus::StageReader;
use palimpsest_model::Decoder;
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::dataset_loss::{DatasetLosses, LossOfDataset};
use crate::error::Result;
use crate::records::{EvaluationRecord, Moment};

/// The mean norms of the embedding's rows at some moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RowNorms {
    /// The stage after which they were taken; absent: before the first.
    pub(crate) stage: Option<String>,
    pub(crate) norm_old: f64,
    pub(crate) norm_new: f64,
}

impl RowNorms {
    /// The mean Euclidean norm of the embedding's rows below and from `first_new` on.
    pub(crate) fn of(model: &Decoder, first_new: i64, stage: Option<String>) -> Option<Self> {
        let embedding = model.parameter("model.embed_tokens.weight")?.detach();
        let norms = embedding.norm_scalaropt_dim(2.0, [1i64].as_slice(), false).to_kind(Kind::Double);
        let rows = norms.size()[0];
        let mean = |first: i64, count: i64| norms.narrow(0, first, count).mean(Kind::Double).double_value(&[]);
        Some(Self { stage, norm_old: mean(0, first_new), norm_new: mean(first_new, rows - first_new) })
    }
}

/// `telemetry.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Telemetry<'a> {
    /// Absent where the vocabulary is not extended, and until the end of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_tokens: Option<NewTokens>,
    per_dataset: Vec<StageLoss<'a>>,
}

/// The training loss of a dataset in a stage.
#[derive(Debug, Serialize)]
struct StageLoss<'a> {
    dataset: &'a str,
    stage: &'a str,
    /// The mean over its target tokens so far, in nats.
    loss: f64,
    targets: u64,
}

impl<'a> Telemetry<'a> {
    /// `losses[stage]` holds what each of the datasets, by its index, has come to.
    pub(crate) fn new(
        new_tokens: Option<NewTokens>,
        stages: &[&'a str],
        datasets: &[&'a str],
        losses: &[DatasetLosses],
    ) -> Self {
        let mut per_dataset = Vec::new();
        for (stage, losses) in stages.iter().zip(losses) {
            for (dataset, LossOfDataset { sum, targets }) in datasets.iter().zip(&losses.0) {
                if *targets > 0 {
                    per_dataset.push(StageLoss { dataset, stage, loss: sum / *targets as f64, targets: *targets });
                }
            }
        }
        Self { new_tokens, per_dataset }
    }
}

/// How the appended ids fare.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewTokens {
    /// How many ids were appended.
    count: usize,
    /// How many of them were a target of training at least once.
    trained: usize,
    never_seen: usize,
    /// How many of them were a target that often.
    occurrences: BTreeMap<&'static str, usize>,
    norm_old: f64,
    norm_new: f64,
    stages: Vec<StageTelemetry>,
    loss_jump: Option<LossJump>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StageTelemetry {
    stage: Option<String>,
    norm_old: f64,
    norm_new: f64,
    loss_old: Option<f64>,
    loss_new: Option<f64>,
}

/// Bits per byte over all held-out text before the vocabulary was extended and after, no step taken yet.
#[derive(Debug, Serialize)]
struct LossJump {
    before: f64,
    after: f64,
}

impl NewTokens {
    /// Gathers what is known at a job's end. `targets[i]` says how often the `i`-th new id was a target.
    pub(crate) fn new(targets: &[u64], rows: &[RowNorms], evaluations: &[EvaluationRecord]) -> Self {
        let trained = targets.iter().filter(|count| **count > 0).count();
        let mut occurrences = BTreeMap::new();
        for count in targets {
            *occurrences.entry(class_of(*count)).or_insert(0) += 1;
        }
        let stages = rows.iter().map(|norms| StageTelemetry {
            stage: norms.stage.clone(),
            norm_old: norms.norm_old,
            norm_new: norms.norm_new,
            loss_old: mean_loss(evaluations, norms.stage.as_deref(), |score| {
                (score.tokens - score.new_tokens, score.old_loss)
            }),
            loss_new: mean_loss(evaluations, norms.stage.as_deref(), |score| (score.new_tokens, score.new_loss)),
        });
        let last = rows.last();
        Self {
            count: targets.len(),
            trained,
            never_seen: targets.len() - trained,
            occurrences,
            norm_old: last.map_or(0.0, |norms| norms.norm_old),
            norm_new: last.map_or(0.0, |norms| norms.norm_new),
            stages: stages.collect(),
            loss_jump: loss_jump(evaluations),
        }
    }
}

fn class_of(count: u64) -> &'static str {
    match count {
        0 => "0",
        1..=9 => "1-9",
        10..=99 => "10-99",
        100..=999 => "100-999",
        _ => "1000+",
    }
}

fn mean_loss(
    evaluations: &[EvaluationRecord],
    stage: Option<&str>,
    part: impl Fn(&palimpsest_eval::Score) -> (u64, f64),
) -> Option<f64> {
    let moment = if stage.is_some() { Moment::StageEnd } else { Moment::JobStart };
    let parts = evaluations
        .iter()
        .filter(|evaluation| evaluation.when == moment && evaluation.stage.as_deref() == stage)
        .map(|evaluation| part(&evaluation.score));
    let (tokens, sum) =
        parts.fold((0, 0.0), |(tokens, sum), (count, loss)| (tokens + count, sum + count as f64 * loss));
    (tokens > 0).then(|| sum / tokens as f64)
}

fn loss_jump(evaluations: &[EvaluationRecord]) -> Option<LossJump> {
    let bits = |moment: Moment| {
        let scores =
            evaluations.iter().filter(|evaluation| evaluation.when == moment).map(|evaluation| &evaluation.score);
        let (bits, bytes) = scores.fold((0.0, 0), |(bits, bytes), score| {
            (bits + score.bits_per_byte * score.bytes as f64, bytes + score.bytes)
        });
        (bytes > 0).then(|| bits / bytes as f64)
    };
    Some(LossJump { before: bits(Moment::Base)?, after: bits(Moment::JobStart)? })
}

/// How often each id from `first_new` on is a target of the sequences of all stages.
pub(crate) fn count_targets(readers: &[StageReader], first_new: u32, count: usize) -> Result<Vec<u64>> {
    let mut targets = vec![0; count];
    for reader in readers {
        for index in 0..reader.sequences() {
            for label in reader.sequence(index)?.labels {
                if let Some(place) =
                    label.checked_sub(first_new as i32).and_then(|place| targets.get_mut(usize::try_from(place).ok()?))
                {
                    *place += 1;
                }
            }
        }
    }
    Ok(targets)
}
