//! Draws an id from logits, with transformers' filters in transformers' order: temperature, top-k, top-p.

use palimpsest_random::Stream;
use tch::{Kind, Tensor};

use super::GenerateOptions;
use crate::{Error, Result};

pub(super) struct Sampler {
    options: GenerateOptions,
    stream: Stream,
}

impl Sampler {
    pub(super) fn new(options: &GenerateOptions) -> Self {
        Self { options: options.clone(), stream: Stream::new(options.seed, "sample", &[]) }
    }

    /// The next id. logits: [vocabulary].
    pub(super) fn draw(&mut self, logits: &Tensor) -> Result<u32> {
        let logits = Vec::<f64>::try_from(logits.f_to_kind(Kind::Double)?)?;
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(Error::Invalid("the model's logits are not numbers; its weights may be damaged".to_owned()));
        }
        if self.options.greedy {
            return Ok(likeliest(&logits));
        }
        let candidates = candidates(&logits, &self.options);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut left = self.stream.unit() * total;
        for (id, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return Ok(*id);
            }
        }
        Ok(candidates.last().map_or(0, |(id, _)| *id))
    }
}

/// The first of the largest.
fn likeliest(logits: &[f64]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// The ids left by the filters with weights in proportion to their probabilities, by id.
pub(super) fn candidates(logits: &[f64], options: &GenerateOptions) -> Vec<(u32, f64)> {
    let mut kept: Vec<(u32, f64)> =
        logits.iter().enumerate().map(|(id, logit)| (id as u32, logit / options.temperature)).collect();
    // Ascending; ids that are equally likely stay in order of their ids.
    kept.sort_by(|left, right| left.1.total_cmp(&right.1));
    if options.top_k > 0 && options.top_k < kept.len() {
        let least = kept[kept.len() - options.top_k].1;
        kept.retain(|(_, logit)| *logit >= least);
    }
    let largest = kept.last().map_or(0.0, |(_, logit)| *logit);
    for (_, value) in &mut kept {
        *value = (*value - largest).exp();
    }
    if options.top_p < 1.0 {
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut below = 0.0;
        let dropped = kept.iter().take_while(|(_, weight)| {
            below += weight / total;
            below <= 1.0 - options.top_p
        });
        let dropped = dropped.count().min(kept.len() - 1);
        kept.drain(..dropped);
    }
    kept.sort_by_key(|(id, _)| *id);
    kept
}
