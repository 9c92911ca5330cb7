//! A decoder as the model of an engine.

use palimpsest_infer::{Limits, Model, Work};
use palimpsest_model::{CachedDecoder, Decoder, NewTokens, Wanted};
use palimpsest_train::Result;
use tch::Kind;

/// A decoder with a cache.
#[derive(Debug)]
pub(crate) struct Served<'a> {
    cached: CachedDecoder<'a>,
    vocabulary: usize,
}

impl<'a> Served<'a> {
    /// One that computes in kind `compute`, with the cache that the limits say.
    pub(crate) fn new(decoder: &'a Decoder, compute: Kind, limits: &Limits) -> Result<Self> {
        let vocabulary = decoder.config.vocab_size as usize;
        Ok(Self { cached: CachedDecoder::new(decoder, compute, limits.blocks)?, vocabulary })
    }
}

impl Model for Served<'_> {
    type Error = palimpsest_train::Error;

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn step(&mut self, step: &[Work], logits: &mut Vec<f32>) -> Result<()> {
        let new: Vec<NewTokens<'_>> = step
            .iter()
            .map(|work| NewTokens {
                ids: &work.tokens,
                position: work.position,
                blocks: &work.blocks,
                logits: if work.is_sampled { Wanted::Last } else { Wanted::None },
            })
            .collect();
        let computed = self.cached.step(&new)?.to_kind(Kind::Float).to(tch::Device::Cpu);
        logits.resize(computed.numel(), 0.0);
        computed.copy_data(logits, computed.numel());
        Ok(())
    }
}
