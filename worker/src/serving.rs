//! A decoder as the model of an engine.

use palimpsest_infer::{Limits, Model, Wanted, Work};
use palimpsest_model::{CachedDecoder, Decoder, NewTokens};
use palimpsest_train::Result;
use tch::Kind;

/// A decoder with a cache.
#[derive(Debug)]
pub(crate) struct Served<'a> {
    cached: CachedDecoder<'a>,
    vocabulary: usize,
    /// Those of the last step, kept from step to step.
    logits: Vec<f32>,
}

impl<'a> Served<'a> {
    /// One that computes in kind `compute`, with the cache that the limits say.
    pub(crate) fn new(decoder: &'a Decoder, compute: Kind, limits: &Limits) -> Result<Self> {
        let vocabulary = decoder.config.vocab_size as usize;
        Ok(Self { cached: CachedDecoder::new(decoder, compute, limits.blocks)?, vocabulary, logits: Vec::new() })
    }
}

impl Model for Served<'_> {
    type Error = palimpsest_train::Error;

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn step(&mut self, step: &[Work<'_>]) -> Result<&[f32]> {
        let new: Vec<NewTokens<'_>> = step
            .iter()
            .map(|work| NewTokens {
                ids: work.tokens,
                position: work.position,
                blocks: work.blocks,
                logits: match work.wanted {
                    Wanted::None => palimpsest_model::Wanted::None,
                    Wanted::Last => palimpsest_model::Wanted::Last,
                    Wanted::All => palimpsest_model::Wanted::All,
                },
            })
            .collect();
        let computed = self.cached.step(&new)?.to_kind(Kind::Float).to(tch::Device::Cpu);
        self.logits.resize(computed.numel(), 0.0);
        computed.copy_data(&mut self.logits, computed.numel());
        Ok(&self.logits)
    }
}
