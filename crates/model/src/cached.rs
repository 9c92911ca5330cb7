//! A decoder that remembers keys and values, in blocks that whoever plans its steps deals out.
//!
//! A step takes new tokens of any number of sequences: pieces of prompts and single tokens alike. All their rows go through the
//! products together; attention alone knows which sequence a row is of.

mod fixed;

use palimpsest_torch::{AttentionHeads, BLOCK_POSITIONS, CachedLayer, CachedSpan, cached_attention, rms_norm, swiglu};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use self::fixed::in_pieces;
use crate::attention::turn;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::forward::{Turns, embed};
use crate::layer::mlp;
use crate::rope::AngleTable;
use crate::weights::{LayerWeights, Weights};
use crate::{Error, Result};

/// A decoder as far as it computes logits, and the keys and values of what it has computed.
#[derive(Debug)]
pub struct CachedDecoder {
    config: Config,
    angles: AngleTable,
    weights: Weights,
    device: Device,
    compute: Kind,
    layers: Vec<CachedLayer>,
    is_deterministic: bool,
}

/// New tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct NewTokens<'a> {
    /// The ids, one at least.
    pub ids: &'a [u32],
    /// The position of the first.
    pub position: usize,
    /// The blocks of all positions from 0 to the last of these, each of [`CachedDecoder::BLOCK_TOKENS`].
    pub blocks: &'a [u32],
    /// After which of them logits are wanted.
    pub logits: Wanted,
}

/// After which of a sequence's new tokens logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None: there is more of the prompt to come.
    None,
    /// The last.
    Last,
    /// Each, as for the log-probabilities of a prompt.
    All,
}

impl CachedDecoder {
    /// Tokens of a block.
    pub const BLOCK_TOKENS: usize = BLOCK_POSITIONS as usize;

    /// A decoder that computes in kind `compute`, and room for so many blocks. Weights of another kind are converted, and freed.
    pub fn new(decoder: Decoder, compute: Kind, blocks: usize) -> Result<Self> {
        let (weights, device) = (no_grad(|| Weights::of(&decoder, compute)), decoder.device());
        let Decoder { config, angles, .. } = decoder;
        let mut cached = Self { config, angles, weights, device, compute, layers: Vec::new(), is_deterministic: false };
        cached.resize(blocks)?;
        Ok(cached)
    }

    /// One whose projections have weights of int8, a scale to a row, from which products are made in the kind that it computes in.
    /// Embedding and head stay as they are.
    pub fn quantized(mut self) -> Result<Self> {
        if self.compute != Kind::BFloat16 {
            return Err(Error::Invalid(format!("int8 weights are computed with in BFloat16, not {:?}", self.compute)));
        }
        for layer in &mut self.weights.layers {
            *layer = no_grad(|| layer.quantized())?;
        }
        Ok(self)
    }

    /// One whose logits of a token depend on its own sequence alone, to the last bit: all products have the same shape. Steps of few
    /// tokens then take as long as those of 64.
    pub fn deterministic(self) -> Self {
        Self { is_deterministic: true, ..self }
    }

    /// Forgets all keys and values, and makes room for so many blocks.
    pub fn resize(&mut self, blocks: usize) -> Result<()> {
        // What there was goes first.
        self.layers.clear();
        let options = (self.compute, self.device);
        let heads = self.config.heads();
        let blocks = i64::try_from(blocks).map_err(|_| Error::Invalid(format!("{blocks} blocks are too many")))?;
        self.layers = no_grad(|| {
            self.weights.layers.iter().map(|_| Ok(CachedLayer::new(blocks, heads, options)?)).collect::<Result<_>>()
        })?;
        Ok(())
    }

    /// How many ids there are.
    pub fn vocabulary(&self) -> usize {
        self.config.vocab_size as usize
    }

    /// Bytes that a block takes in all layers.
    pub fn block_bytes(decoder: &Decoder, compute: Kind) -> u64 {
        let layer = CachedLayer::block_bytes(decoder.config.heads(), (compute, decoder.device()));
        (layer * decoder.config.num_hidden_layers) as u64
    }

    /// Computes new tokens. The logits that are wanted, [rows, vocabulary], in order of the sequences and of their tokens.
    pub fn step(&self, sequences: &[NewTokens<'_>]) -> Result<Tensor> {
        self.step_of(sequences, self.layers.len())
    }

    /// Takes as much memory beside the cache as such a step does, in the time of its first layer and the head: all layers are alike, and
    /// none keeps anything for the next but its output.
    pub fn try_step(&self, sequences: &[NewTokens<'_>]) -> Result<()> {
        self.step_of(sequences, 1).map(drop)
    }

    fn step_of(&self, sequences: &[NewTokens<'_>], layers: usize) -> Result<Tensor> {
        no_grad(|| {
            let (config, device) = (&self.config, self.device);
            let mut spans = Vec::with_capacity(sequences.len());
            let (mut ids, mut positions, mut rows) = (Vec::new(), Vec::new(), Vec::new());
            for sequence in sequences {
                let (first, position) = (ids.len() as i64, sequence.position as i64);
                let tokens = sequence.ids.len() as i64;
                ids.extend(sequence.ids.iter().map(|id| i64::from(*id)));
                positions.extend(position..position + tokens);
                match sequence.logits {
                    Wanted::None => {}
                    Wanted::Last => rows.push(first + tokens - 1),
                    Wanted::All => rows.extend(first..first + tokens),
                }
                spans.push(CachedSpan { position, tokens, blocks: sequence.blocks });
            }
            let Some(last) = positions.iter().max() else {
                return Err(Error::Invalid("a step of no tokens".to_owned()));
            };
            let turns = Turns {
                angles: self.angles.angles(config, last + 1, self.compute, device),
                positions: Tensor::f_from_slice(&positions)?.f_to(device)?,
            };
            let ids = Tensor::f_from_slice(&ids)?.f_to(device)?;
            let mut x = embed(config, &ids, &self.weights.embedding)?;
            for (weights, cache) in self.weights.layers.iter().zip(&self.layers).take(layers) {
                x = self.layer(&x, weights, cache, &turns, &spans)?;
            }
            if (rows.len() as i64) < x.size()[0] {
                x = x.f_index_select(0, &Tensor::f_from_slice(&rows)?.f_to(device)?)?;
            }
            let (hidden, _) = rms_norm(&x, &self.weights.norm, config.rms_norm_eps)?;
            self.product(&hidden, |hidden| hidden.f_mm(&self.weights.head.f_tr()?))
        })
    }

    fn layer(
        &self,
        x: &Tensor,
        weights: &LayerWeights,
        cache: &CachedLayer,
        turns: &Turns,
        spans: &[CachedSpan<'_>],
    ) -> Result<Tensor> {
        let heads: AttentionHeads = self.config.heads();
        let epsilon = self.config.rms_norm_eps;
        let (normed, _) = rms_norm(x, &weights.input_norm, epsilon)?;
        let query_key_value = self.product(&normed, |normed| weights.query_key_value.apply(normed))?;
        turn(&query_key_value, heads, &turns.rotation())?;
        let attended = cached_attention(&query_key_value, cache, spans, heads)?;
        if !self.is_deterministic {
            let middle = weights.output.apply_onto(x, &attended)?;
            return mlp(&middle, weights, epsilon);
        }
        let middle = x.f_add(&self.product(&attended, |attended| weights.output.apply(attended))?)?;
        let (normed, _) = rms_norm(&middle, &weights.mlp_norm, epsilon)?;
        let gate_up = self.product(&normed, |normed| weights.gate_up.apply(normed))?;
        let down = self.product(&swiglu(&gate_up)?, |activated| weights.down.apply(activated))?;
        Ok(middle.f_add(&down)?)
    }

    fn product(&self, x: &Tensor, product: impl Fn(&Tensor) -> Result<Tensor, TchError>) -> Result<Tensor> {
        Ok(if self.is_deterministic { in_pieces(x, product)? } else { product(x)? })
    }
}

#[cfg(test)]
mod tests;
