//! `bench loss`: the final norm, the head and the loss on the embeddings of a batch, forward and backward.

use palimpsest_train::Result;

use super::train::Source;
use super::turns::{self, TurnArguments, Work};

/// The model whose head it is, and the labels.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    turns: TurnArguments,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (model, batch, forward) = arguments.source.open()?;
    let tokens = batch.labels.numel() as i64;
    let x = model.input_embeddings(&batch.input_ids, forward.compute)?;
    let scale = 1.0 / tokens as f64;
    let work = Work { tokens: tokens.unsigned_abs(), flops: None, compute: forward.compute, device: x.device() };
    turns::measure(&arguments.turns, &work, || {
        Ok(model.head_loss_and_backward(&x, &batch.labels, scale, &forward)?.0.sum * scale)
    })
}
