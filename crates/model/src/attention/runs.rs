//! Attention by a device's own fused kernel, run by run, with autograd's record for the backward pass.

use palimpsest_torch::{AttentionHeads, Rotation, rotate};
use tch::{Tensor, with_grad};

use crate::{Error, Result};

/// `count` neighbouring segments of `length` tokens each, from token `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: i64,
    pub(super) count: i64,
    pub(super) length: i64,
}

impl Run {
    /// The runs of segments that begin at `bounds`, and end at the last of them.
    pub(super) fn all(bounds: &[i64]) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for ends in bounds.windows(2) {
            let (start, length) = (ends[0], ends[1] - ends[0]);
            match runs.last_mut().filter(|run| run.length == length) {
                Some(run) => run.count += 1,
                None => runs.push(Self { start, count: 1, length }),
            }
        }
        runs
    }

    fn tokens(&self) -> i64 {
        self.count * self.length
    }
}

/// A run's inputs as leaves, and the output with autograd's record between; each [count, heads, length, width].
#[derive(Debug)]
pub(crate) struct Recorded {
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
}

/// [tokens, columns] to [tokens, queries * width].
pub(super) fn forward(query_key_value: &Tensor, heads: AttentionHeads, runs: &[Run]) -> Result<Tensor> {
    let mut outputs = Vec::with_capacity(runs.len());
    for run in runs {
        let (query, key, value) = inputs(query_key_value, heads, run)?;
        outputs.push(as_tokens(&attend(&query, &key, &value)?, run, heads)?);
    }
    join(outputs)
}

/// The same, and what the backward pass needs.
pub(super) fn forward_saving(
    query_key_value: &Tensor,
    heads: AttentionHeads,
    runs: &[Run],
) -> Result<(Tensor, Vec<Recorded>)> {
    let mut outputs = Vec::with_capacity(runs.len());
    let mut recorded = Vec::with_capacity(runs.len());
    for run in runs {
        let leaf = |tensor: Tensor| tensor.detach().set_requires_grad(true);
        let (query, key, value) = inputs(query_key_value, heads, run)?;
        let (query, key, value) = (leaf(query), leaf(key), leaf(value));
        let output = with_grad(|| attend(&query, &key, &value))?;
        outputs.push(as_tokens(&output.detach(), run, heads)?);
        recorded.push(Recorded { query, key, value, output });
    }
    Ok((join(outputs)?, recorded))
}

/// The gradient of queries, keys and values before they were turned by `rotation`, [tokens, columns].
pub(super) fn backward(
    d_output: &Tensor,
    query_key_value: &Tensor,
    heads: AttentionHeads,
    (runs, recorded): (&[Run], &[Recorded]),
    rotation: &Rotation,
) -> Result<Tensor> {
    // Not in place of the inputs, of which what autograd has recorded of other runs are views.
    let gradient = query_key_value.f_empty_like()?;
    let positions = rotation.positions.f_view([-1])?;
    for (run, recorded) in runs.iter().zip(recorded) {
        let target = gradient.f_narrow(0, run.start, run.tokens())?;
        let positions = positions.f_narrow(0, run.start, run.tokens())?;
        let back = Rotation { positions: &positions, inverse: true, ..*rotation };
        run_backward(d_output, &target, heads, run, recorded, &back)?;
    }
    Ok(gradient)
}

/// Puts the gradient of a run's queries, keys and values into `target`, its rows of them.
fn run_backward(
    d_output: &Tensor,
    target: &Tensor,
    heads: AttentionHeads,
    run: &Run,
    recorded: &Recorded,
    back: &Rotation,
) -> Result<()> {
    let shape = [run.count, run.length, heads.queries, heads.width];
    let d_output = d_output.f_narrow(0, run.start, run.tokens())?.f_view(shape)?.f_transpose(1, 2)?;
    let Recorded { query, key, value, output } = recorded;
    let gradients = palimpsest_torch::grad(&[output], &[&d_output], &[query, key, value])?;
    let mut gradients = gradients.into_iter().flatten();
    let (Some(d_query), Some(d_key), Some(d_value)) = (gradients.next(), gradients.next(), gradients.next()) else {
        return Err(Error::Invalid("attention gave no gradients".to_owned()));
    };
    let key_columns = heads.queries * heads.width;
    let value_columns = heads.keys * heads.width;
    rotate(&d_query.f_transpose(1, 2)?, target, 0, back)?;
    rotate(&d_key.f_transpose(1, 2)?, target, key_columns, back)?;
    let d_value = d_value.f_transpose(1, 2)?.f_reshape([run.tokens(), value_columns])?;
    target.f_narrow(1, key_columns + value_columns, value_columns)?.f_copy_(&d_value)?;
    Ok(())
}

/// Queries, keys and values of a run, each [count, heads, length, width].
fn inputs(query_key_value: &Tensor, heads: AttentionHeads, run: &Run) -> Result<(Tensor, Tensor, Tensor)> {
    debug_assert_eq!(query_key_value.size2()?.1, heads.columns());
    let all = query_key_value.f_narrow(0, run.start, run.tokens())?;
    let all = all.f_view([run.count, run.length, heads.queries + 2 * heads.keys, heads.width])?.f_transpose(1, 2)?;
    let query = all.f_narrow(1, 0, heads.queries)?;
    let key = all.f_narrow(1, heads.queries, heads.keys)?;
    let value = all.f_narrow(1, heads.queries + heads.keys, heads.keys)?;
    Ok((query, key, value))
}

/// [count, heads, length, width], which lies in memory as [count, length, heads, width], as tokens.
fn as_tokens(output: &Tensor, run: &Run, heads: AttentionHeads) -> Result<Tensor> {
    Ok(output.f_transpose(1, 2)?.f_reshape([run.tokens(), heads.queries * heads.width])?)
}

fn join(mut outputs: Vec<Tensor>) -> Result<Tensor> {
    if outputs.len() == 1 { Ok(outputs.swap_remove(0)) } else { Ok(Tensor::f_cat(&outputs, 0)?) }
}

/// Whatever fused attention the device has.
fn attend(query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
    let is_grouped = query.size4()?.1 != key.size4()?.1;
    Ok(Tensor::f_scaled_dot_product_attention(query, key, value, None::<&Tensor>, 0.0, true, None, is_grouped)?)
}
