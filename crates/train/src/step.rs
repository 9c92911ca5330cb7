//! One optimizer step: forward and backward over micro-batches, clip, judge, update.

use palimpsest_api::{FailureReason, Stage};
use palimpsest_corpus::{Sequence, StageReader};
use palimpsest_model::{Batch, Decoder, ForwardOptions, Row};
use palimpsest_prepare::Shape;
use palimpsest_torch::{Span, device_memory, host_memory};
use tch::Device;

use crate::dataset_loss::DatasetLosses;
use crate::error::{Error, Result};
use crate::flops;
use crate::optimizer::Optimizer;
use crate::records::{StepParts, StepRecord};
use crate::schedule::learning_rate;
use crate::spikes::{SpikeWindow, Verdict};

/// What a step works on.
pub(crate) struct StepContext<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) reader: &'a StageReader,
    /// The stage's steps.
    pub(crate) steps: u64,
    /// Input positions of a sequence.
    pub(crate) sequence_length: usize,
    /// Whether a position attends to its own document alone.
    pub(crate) document_attention: bool,
    pub(crate) forward: ForwardOptions,
    pub(crate) device: Device,
    pub(crate) shape: Shape,
}

/// Takes step `stage_step` (from 0) of a stage; `step` (from 1) is its number in the job. The loss comes by dataset, too.
pub(crate) fn take_step(
    context: &StepContext<'_>,
    model: &mut Decoder,
    optimizer: &mut Optimizer,
    spikes: &mut SpikeWindow,
    stage_step: u64,
    step: u64,
) -> Result<(StepRecord, DatasetLosses)> {
    let whole = Span::begin(c"step");
    let mut parts = StepParts::default();
    let data = Span::begin(c"data");
    let batch = u64::from(context.stage.batch.sequences);
    let first = stage_step * batch;
    let last = (first + batch).min(context.reader.sequences() as u64);
    let sequences: Vec<Sequence<'_>> =
        (first..last).map(|index| context.reader.sequence(index as usize)).collect::<Result<_, _>>()?;

    let targets: u64 = sequences.iter().map(|sequence| count_targets(sequence)).sum();
    parts.data_seconds += data.end().as_secs_f64();
    let mut sum = 0.0;
    let mut by_dataset = DatasetLosses::default();
    for micro_batch in sequences.chunks(context.stage.batch.micro_batch as usize) {
        let data = Span::begin(c"data");
        let batch = mk_batch(context, micro_batch);
        parts.data_seconds += data.end().as_secs_f64();
        let scale = 1.0 / targets.max(1) as f64;
        let pass = model.token_losses_and_backward(&batch, scale, &context.forward)?;
        let losses = Span::begin(c"losses");
        sum += pass.loss.sum;
        by_dataset.count(micro_batch, batch.width(), &pass.token_losses)?;
        parts.forward_seconds += pass.forward.as_secs_f64();
        parts.backward_seconds += (pass.backward + losses.end()).as_secs_f64();
    }
    let loss = sum / targets.max(1) as f64;

    let update = Span::begin(c"optimizer");
    let clip = optimizer.clip(model, context.stage.optimizer.clip_norm.value())?;
    let rate = learning_rate(
        &context.stage.schedule,
        context.stage.optimizer.learning_rate.value(),
        stage_step,
        context.steps,
    );
    let verdict = spikes.judge(&context.stage.spikes, loss, clip.norm);
    match verdict {
        Verdict::Step | Verdict::StepThough => optimizer.step(model, &context.stage.optimizer, rate)?,
        Verdict::Skip => {}
        Verdict::Fail => return Err(spike_error(context.stage, step, loss)),
    }
    model.zero_gradients()?;
    parts.optimizer_seconds = update.end().as_secs_f64();

    let tokens: u64 = sequences.iter().map(|sequence| u64::from(sequence.document_tokens)).sum();
    let slots = sequences.len() as u64 * context.sequence_length as u64;
    let filled: usize = sequences.iter().map(|sequence| sequence.input_ids.len()).sum();
    let seconds = whole.end().as_secs_f64();
    let record = StepRecord {
        step,
        stage: context.stage.name.clone(),
        bucket: sequences.first().map_or(0, |sequence| sequence.bucket),
        tokens,
        targets,
        slots,
        loss: Some(loss).filter(|loss| loss.is_finite()),
        grad_norm: Some(clip.norm).filter(|norm| norm.is_finite()),
        learning_rate: rate,
        tokens_per_second: tokens as f64 / seconds,
        seconds,
        time: 0.0,
        checkpoint_seconds: 0.0,
        parts,
        fill: filled as f64 / slots.max(1) as f64,
        resident_bytes: host_memory().map(|memory| memory.resident),
        device_bytes: device_memory(context.device)?.map(|memory| memory.peak),
        flops_per_token: flops::of_step(context, &sequences) / (tokens as f64).max(1.0),
        mfu: None,
        // A step that was not taken used no gradient, scaled down or not.
        clipped: clip.clipped && verdict != Verdict::Skip,
        spike: verdict != Verdict::Step,
        skipped: verdict == Verdict::Skip,
    };
    Ok((record, by_dataset))
}

fn spike_error(stage: &Stage, step: u64, loss: f64) -> Error {
    let message = format!(
        "step {step} of stage {}: the loss is {loss}, a spike, and spikes.action is Fail; lower the learning rate, look \
         at the bucket's documents with `palimpsest data inspect`, or set spikes.action to SkipStep",
        stage.name
    );
    Error::refused(FailureReason::LossSpike, message)
}

fn count_targets(sequence: &Sequence<'_>) -> u64 {
    sequence.labels.iter().filter(|label| **label >= 0).count() as u64
}

/// The sequences as one batch, no wider than its longest sequence: padding at the end of all is never computed.
fn mk_batch(context: &StepContext<'_>, sequences: &[Sequence<'_>]) -> Batch {
    let rows: Vec<Row<'_>> = sequences
        .iter()
        .map(|sequence| Row { input_ids: sequence.input_ids, labels: sequence.labels, segments: sequence.segments })
        .collect();
    let width = sequences.iter().map(|sequence| sequence.input_ids.len()).max().unwrap_or(0);
    let batch = Batch::from_rows(&rows, width, context.device);
    if context.document_attention { batch } else { batch.attending_to_whole_rows() }
}
