//! Causal attention within segments.
//!
//! The rows of a batch lie one after the other as tokens, and nothing is computed that a mask would hide. On CPU a kernel of ours
//! takes all segments at once. Elsewhere neighbouring segments of equal length form a *run*, which one call of the device's
//! fused attention computes as a batch of its own; a batch of whole rows is one run.
//!
//! ```text
//! segments  [5, 5, 3 | 3, 3, 7]   of two rows
//! runs      2 x 5, 3 x 3, 1 x 7   at tokens 0, 10, 19
//! ```

mod runs;

use palimpsest_torch::{Attended, AttentionHeads, Rotation, attention, attention_backward, rotate};
use tch::{Device, Tensor};

use self::runs::{Recorded, Run};
use crate::batch::Batch;
use crate::{Error, Result};

/// How the tokens of a batch attend.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// Where segments begin, and the end of the last, in tokens.
    bounds: Vec<i64>,
    runs: Vec<Run>,
}

impl Pattern {
    /// That of a batch, whose segments must fill its rows.
    pub(crate) fn of(batch: &Batch) -> Result<Self> {
        let (rows, width) = batch.input_ids.size2()?;
        let lengths = &batch.segments;
        let fills =
            |lengths: &Vec<i64>| lengths.iter().sum::<i64>() == width && lengths.iter().all(|length| *length > 0);
        if lengths.len() as i64 != rows || !lengths.iter().all(fills) {
            return Err(Error::Invalid(format!(
                "the batch has {rows} rows of {width} positions, which its segments do not fill"
            )));
        }
        let mut bounds = vec![0];
        let mut end = 0;
        for length in lengths.iter().flatten() {
            end += length;
            bounds.push(end);
        }
        Ok(Self { runs: Run::all(&bounds), bounds })
    }
}

/// The output, [tokens, queries * width], and what the backward pass reads besides.
#[derive(Debug)]
pub(crate) enum Saved {
    /// CPU: the output and the logarithms of the softmax's denominators.
    Attended(Attended),
    /// Other devices: the output, and each run as autograd has recorded it.
    Recorded { output: Tensor, runs: Vec<Recorded> },
}

impl Saved {
    pub(crate) fn output(&self) -> &Tensor {
        match self {
            Self::Attended(attended) => &attended.output,
            Self::Recorded { output, .. } => output,
        }
    }
}

/// Turns queries and keys in place. query_key_value: [tokens, columns].
pub(crate) fn turn(query_key_value: &Tensor, heads: AttentionHeads, rotation: &Rotation) -> Result<()> {
    let tokens = query_key_value.size2()?.0;
    let turned = heads.queries + heads.keys;
    let view = query_key_value.f_narrow(1, 0, turned * heads.width)?.f_view([1, tokens, turned, heads.width])?;
    Ok(rotate(&view, query_key_value, 0, rotation)?)
}

/// Attention of turned queries and keys: [tokens, columns] to [tokens, queries * width].
pub(crate) fn forward(query_key_value: &Tensor, heads: AttentionHeads, pattern: &Pattern) -> Result<Tensor> {
    if query_key_value.device() == Device::Cpu {
        return Ok(attention(query_key_value, &pattern.bounds, heads)?.output);
    }
    runs::forward(query_key_value, heads, &pattern.runs)
}

/// The same, and what the backward pass needs.
pub(crate) fn forward_saving(query_key_value: &Tensor, heads: AttentionHeads, pattern: &Pattern) -> Result<Saved> {
    if query_key_value.device() == Device::Cpu {
        return Ok(Saved::Attended(attention(query_key_value, &pattern.bounds, heads)?));
    }
    let (output, runs) = runs::forward_saving(query_key_value, heads, &pattern.runs)?;
    Ok(Saved::Recorded { output, runs })
}

/// The gradient of queries, keys and values before they were turned, [tokens, columns].
pub(crate) fn backward(
    d_output: &Tensor,
    query_key_value: &Tensor,
    heads: AttentionHeads,
    pattern: &Pattern,
    saved: &Saved,
    rotation: &Rotation,
) -> Result<Tensor> {
    let Rotation { cosine, sine, positions, .. } = *rotation;
    match saved {
        Saved::Attended(attended) => {
            let gradient = attention_backward(d_output, query_key_value, attended, &pattern.bounds, heads)?;
            turn(&gradient, heads, &Rotation { cosine, sine, positions, inverse: true })?;
            Ok(gradient)
        }
        Saved::Recorded { runs, .. } => {
            runs::backward(d_output, query_key_value, heads, (&pattern.runs, runs), rotation)
        }
    }
}

#[cfg(test)]
mod tests;
