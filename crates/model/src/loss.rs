//! Cross-entropy that never holds the full logits.
//!
//! The head's logits of a 69,104-word vocabulary and 4,096 tokens are 1.1 GB in float32, and autograd keeps them twice. Here
//! the tokens that have a label pass through the head in chunks of a few megabytes of logits; each chunk's loss, gradient
//! of its hidden states and share of the head's gradient are computed at once, the gradient of the logits in their place.

use std::cell::RefCell;
use std::time::Duration;

use palimpsest_torch::{cross_entropy, rms_norm, rms_norm_backward};
use tch::{Device, IndexOp, Kind, Tensor};

use crate::Result;
use crate::batch::IGNORED;
use crate::decoder::Decoder;
use crate::group::accumulate_product;
use crate::weights::Weights;

/// Bytes of logits in a chunk on a GPU, unless the options say how many positions. Fewer would have each product spend more on
/// laying out the head and on adding to its gradient than on itself.
const CHUNK_BYTES: i64 = 64 << 20;

/// The same on CPUs, where memory is what the loss is chunked for.
const CPU_CHUNK_BYTES: i64 = 32 << 20;

/// Logits of a chunk are computed so many ids at a time on CPUs: MKL lays out what it multiplies anew, in memory of its own that
/// grows with the product.
const CPU_BLOCK: i64 = 8192;

/// The memory of one chunk of logits, kept from pass to pass: an allocator that gets it back gives parts of it away, and has to ask the
/// system for as much again.
#[derive(Debug, Default)]
pub(crate) struct ChunkMemory(RefCell<Option<Tensor>>);

impl ChunkMemory {
    /// Memory for [rows, width], with whatever it holds.
    fn take(&self, rows: i64, width: i64, options: (Kind, Device)) -> Result<Tensor> {
        let mut kept = self.0.borrow_mut();
        let fits =
            |tensor: &&Tensor| tensor.numel() as i64 >= rows * width && (tensor.kind(), tensor.device()) == options;
        let memory = match kept.as_ref().filter(fits) {
            Some(memory) => memory.shallow_clone(),
            None => {
                // The one before goes first.
                *kept = None;
                kept.insert(Tensor::f_empty([rows * width], options)?).shallow_clone()
            }
        };
        Ok(memory.f_narrow(0, 0, rows * width)?.f_view([rows, width])?)
    }
}

/// The loss over the targets of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// The sum over targets of `-ln p`, each of them float32 (float64 for a pass in float64), added up in float64.
    pub sum: f64,
    /// How many positions have a label.
    pub targets: i64,
}

/// What a pass with gradients leaves besides them.
#[derive(Debug)]
pub struct Pass {
    /// The loss over the batch's targets.
    pub loss: LossSum,
    /// The loss of each position, as of [`Decoder::token_losses`], but [rows * positions].
    pub token_losses: Tensor,
    /// The host's time from the ids to the residual stream after the last layer.
    pub forward: Duration,
    /// The host's time in the rest: the head and the loss, whose gradients are computed in the same go, and the backward
    /// pass.
    pub backward: Duration,
}

/// The tokens that have a label: their places among all tokens, `None` where all have, and their labels.
struct Targets {
    places: Option<Tensor>,
    labels: Tensor,
}

impl Targets {
    fn of(labels: &Tensor) -> Result<Self> {
        let labels = labels.f_view([-1])?;
        let places = labels.f_ne(IGNORED)?.f_nonzero()?.f_view([-1])?;
        if places.size() == labels.size() {
            return Ok(Self { places: None, labels });
        }
        let labels = labels.f_index_select(0, &places)?;
        Ok(Self { places: Some(places), labels })
    }

    fn count(&self) -> i64 {
        self.labels.size()[0]
    }

    fn rows_of(&self, all: &Tensor) -> Result<Tensor> {
        match &self.places {
            None => Ok(all.shallow_clone()),
            Some(places) => Ok(all.f_index_select(0, places)?),
        }
    }

    /// The rows put back among zeros.
    fn spread(&self, rows: Tensor, tokens: i64) -> Result<Tensor> {
        let Some(places) = &self.places else { return Ok(rows) };
        let mut shape = rows.size();
        shape[0] = tokens;
        let mut all = Tensor::f_zeros(shape, (rows.kind(), rows.device()))?;
        let _ = all.f_index_copy_(0, places, &rows)?;
        Ok(all)
    }
}

/// Positions in a chunk. By default a multiple of 8, as products want it.
fn chunk_length(weights: &Weights, wanted: usize) -> i64 {
    if wanted > 0 {
        return wanted as i64;
    }
    let row_bytes = weights.head.size()[0] * weights.head.kind().elt_size_in_bytes() as i64;
    let bytes = if weights.head.device() == Device::Cpu { CPU_CHUNK_BYTES } else { CHUNK_BYTES };
    (bytes / row_bytes / 8 * 8).max(16)
}

/// The loss of the residual stream `x` [tokens, hidden] after the last layer, and the gradient of scale times its sum with
/// respect to x; gradients of the norm's weight and the head's are added to theirs. The loss comes token by token too, as of
/// [`token_losses`].
pub(crate) fn loss_and_gradient(
    decoder: &Decoder,
    weights: &Weights,
    x: &Tensor,
    labels: &Tensor,
    scale: f64,
    wanted_chunk: usize,
) -> Result<(LossSum, Tensor, Tensor)> {
    let targets = Targets::of(labels)?;
    let tokens = x.size()[0];
    if targets.count() == 0 {
        let losses = Tensor::f_zeros([tokens], (Kind::Float, x.device()))?;
        return Ok((LossSum::default(), losses, x.f_zeros_like()?));
    }
    let x_rows = targets.rows_of(x)?;
    let d_rows = x_rows.f_zeros_like()?;
    let head_gradient = decoder.groups.head().gradient(&decoder.parameters)?;
    let norm_gradient = decoder.groups.norm.gradient(&decoder.parameters)?;
    let losses = for_each_chunk(decoder, &x_rows, &targets.labels, weights, wanted_chunk, Some(scale), |chunk| {
        let Chunk { start, x, hidden, rstd, logits: d_logits } = chunk;
        if let Some(gradient) = &head_gradient {
            accumulate_product(gradient, &d_logits.f_tr()?, hidden)?;
        }
        // The gradient of the hidden states takes their place, as they have been read by then.
        let d_hidden = d_logits.f_mm_out(hidden, &weights.head)?;
        let d_x = d_rows.f_narrow(0, start, x.size()[0])?;
        Ok(rms_norm_backward(&d_hidden, x, &weights.norm, rstd, &d_x, norm_gradient.as_ref())?)
    })?;
    let sum = LossSum { sum: losses.f_sum(Kind::Double)?.f_double_value(&[])?, targets: targets.count() };
    Ok((sum, targets.spread(losses, tokens)?, targets.spread(d_rows, tokens)?))
}

/// The loss of every token, 0 where there is no label, [tokens].
pub(crate) fn token_losses(
    decoder: &Decoder,
    weights: &Weights,
    x: &Tensor,
    labels: &Tensor,
    wanted_chunk: usize,
) -> Result<Tensor> {
    let targets = Targets::of(labels)?;
    let tokens = x.size()[0];
    if targets.count() == 0 {
        return Ok(Tensor::f_zeros([tokens], (Kind::Float, x.device()))?);
    }
    let x_rows = targets.rows_of(x)?;
    let losses = for_each_chunk(decoder, &x_rows, &targets.labels, weights, wanted_chunk, None, |_| Ok(()))?;
    targets.spread(losses, tokens)
}

/// Some rows of the residual stream on their way through the head.
struct Chunk<'a> {
    /// The first row.
    start: i64,
    /// The rows of the residual stream, normalised, and the reciprocal roots of their means of squares.
    x: &'a Tensor,
    hidden: &'a Tensor,
    rstd: &'a Tensor,
    /// The logits; with a scale, their gradient.
    logits: &'a Tensor,
}

/// The losses of all rows of the residual stream, [rows]. `visit` gets each chunk of them with its logits, which `scale` has
/// turned into the gradient of the logits.
fn for_each_chunk(
    decoder: &Decoder,
    x: &Tensor,
    labels: &Tensor,
    weights: &Weights,
    wanted_chunk: usize,
    scale: Option<f64>,
    visit: impl Fn(Chunk) -> Result<()>,
) -> Result<Tensor> {
    let rows = x.size()[0];
    let length = chunk_length(weights, wanted_chunk).min(rows);
    // One piece of memory serves all chunks.
    let memory = decoder.logits.take(length, weights.head.size()[0], (x.kind(), x.device()))?;
    let mut losses = Vec::new();
    for start in (0..rows).step_by(length as usize) {
        let end = (start + length).min(rows);
        let x = x.f_i(start..end)?;
        let (hidden, rstd) = rms_norm(&x, &weights.norm, decoder.config.rms_norm_eps)?;
        let logits = memory.f_narrow(0, 0, end - start)?;
        head_product(&hidden, &weights.head, &logits)?;
        losses.push(cross_entropy(&logits, &labels.f_i(start..end)?, scale)?);
        visit(Chunk { start, x: &x, hidden: &hidden, rstd: &rstd, logits: &logits })?;
    }
    Ok(Tensor::f_cat(&losses, 0)?)
}

/// Writes the logits of some hidden states.
fn head_product(hidden: &Tensor, head: &Tensor, logits: &Tensor) -> Result<()> {
    let vocabulary = head.size()[0];
    let block = if head.device() == Device::Cpu { CPU_BLOCK } else { vocabulary };
    for first in (0..vocabulary).step_by(block as usize) {
        let count = block.min(vocabulary - first);
        let _ = hidden.f_mm_out(&logits.f_narrow(1, first, count)?, &head.f_narrow(0, first, count)?.f_tr()?)?;
    }
    Ok(())
}
