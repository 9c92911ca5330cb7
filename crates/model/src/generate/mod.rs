//! Continues a prompt, one id at a time.

mod cache;
mod sampler;

use std::ops::ControlFlow;

use tch::Kind;

use crate::decoder::Decoder;
use crate::{Error, Result};
use cache::Cache;
use sampler::Sampler;

/// How to continue.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// The most ids to generate.
    pub max_new_tokens: usize,
    /// Takes the likeliest id each time; the next four do nothing then.
    pub greedy: bool,
    /// Divides the logits; above 0.
    pub temperature: f64,
    /// Draws among this many likeliest ids (and those as likely as the last of them); 0: among all.
    pub top_k: usize,
    /// Draws among the fewest likeliest ids whose probabilities sum to this; 1: among all.
    pub top_p: f64,
    /// The seed of the draws.
    pub seed: u64,
    /// Ids that end the continuation; the one that did is its last.
    pub eos: Vec<u32>,
    /// The kind that is computed in.
    pub compute: Kind,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 128,
            greedy: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
            eos: Vec::new(),
            compute: Kind::Float,
        }
    }
}

/// The ids that follow the prompt. Each is handed to `on_token` as soon as it is known, which may break off. Stops before the
/// model's context is exceeded.
pub fn generate(
    decoder: &Decoder,
    prompt: &[u32],
    options: &GenerateOptions,
    mut on_token: impl FnMut(u32) -> ControlFlow<()>,
) -> Result<Vec<u32>> {
    let context = decoder.config.context();
    check(decoder, prompt, options)?;
    let mut sampler = Sampler::new(options);
    let mut cache = Cache::new(decoder, options.compute);
    let mut generated = Vec::new();
    let mut ids = prompt.to_vec();
    while generated.len() < options.max_new_tokens {
        let logits = cache.extend(&ids)?;
        let id = sampler.draw(&logits)?;
        generated.push(id);
        if on_token(id).is_break() || options.eos.contains(&id) || cache.length() >= context {
            break;
        }
        ids = vec![id];
    }
    Ok(generated)
}

fn check(decoder: &Decoder, prompt: &[u32], options: &GenerateOptions) -> Result<()> {
    let config = &decoder.config;
    let refuse = |problem: String| Err(Error::Invalid(problem));
    if prompt.is_empty() {
        return refuse("the prompt is empty; give at least one id, such as BOS".to_owned());
    }
    if let Some(id) = prompt.iter().find(|id| i64::from(**id) >= config.vocab_size) {
        return refuse(format!("the prompt holds id {id}, but the model's vocabulary has {} ids", config.vocab_size));
    }
    let context = config.context();
    if prompt.len() as i64 > context {
        return refuse(format!("the prompt has {} ids, but the model's context holds {context}", prompt.len()));
    }
    let is_above_zero = |number: f64| number.is_finite() && number > 0.0;
    if !options.greedy && !is_above_zero(options.temperature) {
        return refuse(format!(
            "temperature {} is not above 0; for the likeliest id choose greedy",
            options.temperature
        ));
    }
    let is_share = is_above_zero(options.top_p) && options.top_p <= 1.0;
    if !options.greedy && !is_share {
        return refuse(format!("top-p {} is not above 0 and at most 1", options.top_p));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
