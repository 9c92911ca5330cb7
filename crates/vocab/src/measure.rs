//! The model card's table: how well tokenizers compress a corpus.

use crate::error::{Error, Result, TextError};
use crate::tokenizer::Tokenizer;

/// A tokenizer's row of the table.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its name.
    pub name: String,
    /// The size of its vocabulary.
    pub vocabulary: usize,
    /// Ids a character: the card's *Compression Rate*. Lower is better.
    pub tokens_per_character: f64,
    /// Ids a text: the card's *Average Length*.
    pub average_length: f64,
    /// UTF-8 bytes an id. Higher is better.
    pub bytes_per_token: f64,
    /// Ids that occur in no text.
    pub unused: usize,
    /// How many texts were read.
    pub texts: u64,
    /// How many ids they gave.
    pub tokens: u64,
}

struct Counts<'a> {
    name: &'a str,
    tokenizer: &'a Tokenizer,
    tokens: u64,
    used: Vec<bool>,
}

/// Measures tokenizers on texts, which are read once. Special tokens are not counted.
pub fn measure<E: Into<TextError>>(
    tokenizers: &[(&str, &Tokenizer)],
    texts: impl Iterator<Item = Result<String, E>>,
) -> Result<Vec<Row>> {
    let mut all: Vec<Counts<'_>> = tokenizers
        .iter()
        .map(|(name, tokenizer)| Counts { name, tokenizer, tokens: 0, used: vec![false; tokenizer.vocabulary_size()] })
        .collect();
    let (mut characters, mut bytes, mut count) = (0u64, 0u64, 0u64);
    for text in texts {
        let text = text.map_err(|error| Error::Texts(error.into()))?;
        characters += text.chars().count() as u64;
        bytes += text.len() as u64;
        count += 1;
        for counts in &mut all {
            let ids = counts.tokenizer.encode(&text)?;
            counts.tokens += ids.len() as u64;
            for id in ids {
                counts.used[id as usize] = true;
            }
        }
    }
    let per = |one: u64, other: u64| one as f64 / (other as f64).max(1.0);
    Ok(all
        .into_iter()
        .map(|counts| Row {
            name: counts.name.to_owned(),
            vocabulary: counts.tokenizer.vocabulary_size(),
            tokens_per_character: per(counts.tokens, characters),
            average_length: per(counts.tokens, count),
            bytes_per_token: per(bytes, counts.tokens),
            unused: counts.used.iter().filter(|used| !**used).count(),
            texts: count,
            tokens: counts.tokens,
        })
        .collect())
}
