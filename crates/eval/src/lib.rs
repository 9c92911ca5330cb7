//! Bits per byte: how many bits a model needs for a byte of text it has not seen.
//!
//! Unlike perplexity the figure does not depend on the tokenizer, so a model can be compared with itself before and
//! after its vocabulary was extended.

mod windows;

use std::f64::consts::LN_2;

use palimpsest_model::{Batch, Decoder, ForwardOptions};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::windows::{Window, fill_rows, windows};

/// A document to measure.
#[derive(Clone, Debug)]
pub struct Document {
    /// BOS, prompt, text, EOS; BOS may be absent.
    pub ids: Vec<u32>,
    /// How many of the first ids are not measured: BOS and the prompt's.
    pub unmeasured: usize,
    /// UTF-8 bytes of the text, the prompt's not counted.
    pub text_bytes: u64,
}

/// What the model needed for some documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// Bits per byte of text.
    pub bits_per_byte: f64,
    /// Nats per measured id.
    pub loss: f64,
    /// Measured ids.
    pub tokens: u64,
    /// UTF-8 bytes of text.
    pub bytes: u64,
    /// Documents.
    pub documents: u64,
    /// Measured ids at or above the first id that was appended to the vocabulary.
    pub new_tokens: u64,
    /// Nats per measured id among those; 0 where there are none.
    pub new_loss: f64,
    /// Nats per measured id among the others; 0 where there are none.
    pub old_loss: f64,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// A longer document is measured in windows of this many positions, each beginning without context.
    pub window: usize,
    /// Windows' worth of positions in one forward pass.
    pub rows: usize,
    /// The first id that was appended to the vocabulary, if any.
    pub first_new_id: Option<u32>,
    /// How the forward pass computes.
    pub forward: ForwardOptions,
}

/// Measures bits per byte: minus the sum of log2 p over the text's ids, EOS not counted, over the bytes of the text.
pub fn bits_per_byte<E>(
    model: &Decoder,
    documents: impl Iterator<Item = Result<Document, E>>,
    options: &Options,
) -> Result<Score, E>
where
    E: From<palimpsest_model::Error>,
{
    let mut sums = Sums::default();
    let mut pending: Vec<Window> = Vec::new();
    let mut positions = 0;
    for document in documents {
        let document = document?;
        sums.documents += 1;
        sums.bytes += document.text_bytes;
        for window in windows(&document, options.window) {
            positions += window.inputs.len();
            pending.push(window);
        }
        // Many batches at a time, so that windows of like length share their rows.
        if positions >= 16 * options.window * options.rows {
            measure(model, std::mem::take(&mut pending), options, &mut sums)?;
            positions = 0;
        }
    }
    measure(model, pending, options, &mut sums)?;
    Ok(sums.score())
}

fn measure(
    model: &Decoder,
    windows: Vec<Window>,
    options: &Options,
    sums: &mut Sums,
) -> Result<(), palimpsest_model::Error> {
    let rows = fill_rows(windows, options.window);
    for rows in rows.chunks(options.rows.max(1)) {
        let width = rows.iter().map(|row| row.inputs.len()).max().unwrap_or(0);
        let borrowed: Vec<palimpsest_model::Row<'_>> = rows.iter().map(|row| row.borrow()).collect();
        let batch = Batch::from_rows(&borrowed, width, model.device());
        let losses = model.token_losses(&batch, &options.forward)?.to_kind(Kind::Double);
        sums.total += losses.sum(Kind::Double).double_value(&[]);
        sums.tokens += count(&batch.labels.ge(0));
        if let Some(first) = options.first_new_id {
            let is_new = batch.labels.ge(i64::from(first));
            sums.new_total += (&losses * &is_new).sum(Kind::Double).double_value(&[]);
            sums.new_tokens += count(&is_new);
        }
    }
    Ok(())
}

fn count(mask: &Tensor) -> u64 {
    mask.sum(Kind::Int64).int64_value(&[]) as u64
}

#[derive(Default)]
struct Sums {
    total: f64,
    tokens: u64,
    new_total: f64,
    new_tokens: u64,
    bytes: u64,
    documents: u64,
}

impl Sums {
    fn score(&self) -> Score {
        let mean = |total: f64, count: u64| if count == 0 { 0.0 } else { total / count as f64 };
        Score {
            bits_per_byte: mean(self.total / LN_2, self.bytes),
            loss: mean(self.total, self.tokens),
            tokens: self.tokens,
            bytes: self.bytes,
            documents: self.documents,
            new_tokens: self.new_tokens,
            new_loss: mean(self.new_total, self.new_tokens),
            old_loss: mean(self.total - self.new_total, self.tokens - self.new_tokens),
        }
    }
}
