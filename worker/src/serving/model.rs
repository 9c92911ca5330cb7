//! A decoder as the model of an engine.

use std::io::ErrorKind;
use std::path::Path;

use palimpsest_infer::{Limits, Model, Wanted, Work};
use palimpsest_model::{CachedDecoder, NewTokens};
use palimpsest_train::{Error, Result};
use palimpsest_vocab::Tokenizer;
use serde_json::Value;
use tch::{Device, Kind};

/// A decoder with a cache.
#[derive(Debug)]
pub(crate) struct Served {
    cached: CachedDecoder,
    /// Those of the last step, kept from step to step.
    logits: Vec<f32>,
}

impl Served {
    pub(crate) fn new(cached: CachedDecoder) -> Self {
        Self { cached, logits: Vec::new() }
    }

    /// Empties the cache, and gives it so many blocks.
    pub(crate) fn resize(&mut self, blocks: usize) -> Result<()> {
        Ok(self.cached.resize(blocks)?)
    }

    /// The blocks that [`Self::try_largest_step`] needs.
    pub(crate) fn blocks_of_largest_step(limits: &Limits) -> usize {
        let (first, last) = largest_step(limits);
        first.div_ceil(limits.block_tokens) + last.div_ceil(limits.block_tokens)
    }

    /// Takes the memory of as large a step as the limits allow.
    pub(crate) fn try_largest_step(&mut self, limits: &Limits) -> Result<()> {
        let (first, last) = largest_step(limits);
        let ids = vec![0; first.max(last)];
        let blocks: Vec<u32> = (0..Self::blocks_of_largest_step(limits) as u32).collect();
        let (of_first, of_last) = blocks.split_at(first.div_ceil(limits.block_tokens));
        let piece = |count: usize, blocks, logits| NewTokens { ids: &ids[..count], position: 0, blocks, logits };
        let mut step = vec![piece(last, of_last, palimpsest_model::Wanted::All)];
        if first > 0 {
            step.push(piece(first, of_first, palimpsest_model::Wanted::None));
        }
        self.logits.resize(last * self.cached.vocabulary(), 0.0);
        Ok(self.cached.try_step(&step)?)
    }

    fn compute(&mut self, step: &[NewTokens<'_>]) -> Result<()> {
        let computed = self.cached.step(step)?.to_kind(Kind::Float).to(Device::Cpu);
        self.logits.resize(computed.numel(), 0.0);
        computed.copy_data(&mut self.logits, computed.numel());
        Ok(())
    }
}

impl Model for Served {
    type Error = Error;

    fn vocabulary(&self) -> usize {
        self.cached.vocabulary()
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
        self.compute(&new)?;
        Ok(&self.logits)
    }
}

/// Tokens of the largest step: those after which nothing is wanted, and those after each of which logits are.
fn largest_step(limits: &Limits) -> (usize, usize) {
    let last = limits.step_rows.min(limits.step_tokens);
    (limits.step_tokens - last, last)
}

/// The ids that end a text: the tokenizer's EOS, and those of the model's own files, of which a chat model has several.
pub(crate) fn end_ids(model: &Path, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let mut ends: Vec<u32> = tokenizer.eos().into_iter().collect();
    for name in ["config.json", "generation_config.json"] {
        let path = model.join(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(source) => return Err(palimpsest_store::Error::io("read", &path, source).into()),
        };
        let config: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Error::User(format!("{}: {error}; restore the model's file", path.display())))?;
        let value = &config["eos_token_id"];
        let ids = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        ends.extend(ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()));
    }
    ends.sort_unstable();
    ends.dedup();
    Ok(ends)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use palimpsest_vocab::{LearnOptions, learn};

    use super::*;

    #[test]
    fn a_text_ends_at_any_of_the_ids_that_the_models_files_name() {
        let texts = (0..100).map(|i| Ok::<_, std::io::Error>(format!("some text number {i}")));
        let tokenizer = learn(texts, 280, &LearnOptions::default(), &mut || true).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, json: &str, expected: &[u32]| {
            std::fs::write(folder.path().join(name), json).unwrap();
            assert_eq!(end_ids(folder.path(), &tokenizer).unwrap(), expected, "{name} {json}");
        };
        check("config.json", r#"{"eos_token_id": null}"#, &[2]);
        check("config.json", r#"{"eos_token_id": 2}"#, &[2]);
        check("config.json", r#"{"eos_token_id": [9, 8]}"#, &[2, 8, 9]);
        check("generation_config.json", r#"{"eos_token_id": [7, 8]}"#, &[2, 7, 8, 9]);
        std::fs::write(folder.path().join("generation_config.json"), "{").unwrap();
        assert!(end_ids(folder.path(), &tokenizer).unwrap_err().to_string().contains("generation_config.json"));
    }
}
