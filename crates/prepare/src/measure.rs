//! The model card's table: how well the tokenizer, before and after its extension, compresses the text of each language.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use palimpsest_api::{Dataset, TrainingJob};
use palimpsest_corpus::texts;
use palimpsest_store::{Mounts, write_atomically};
use palimpsest_vocab::{Tokenizer, measure};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Enough of a dataset to tell how well it compresses.
const BYTES_OF_A_DATASET: usize = 1 << 20;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// `base` or `extended`; `tokenizer` where there is no extension.
    pub name: String,
    /// The language whose text was measured; absent where the datasets name none.
    pub language: Option<String>,
    /// The number of ids.
    pub vocabulary: usize,
    /// Ids by characters: the card's compression rate.
    pub tokens_per_character: f64,
    /// Ids of a document.
    pub average_length: f64,
    /// UTF-8 bytes by ids.
    pub bytes_per_token: f64,
    /// Ids that never occur in the text.
    pub unused: usize,
}

/// What is kept between runs: the table and what it was measured with.
#[derive(Serialize, Deserialize)]
struct Kept {
    tokenizers: Vec<String>,
    rows: Vec<Measurement>,
}

/// Measures the job's tokenizers on a part of each dataset, or finds the rows of an earlier run.
pub(crate) fn measurements(
    job: &TrainingJob,
    mounts: &Mounts,
    prepared: &Path,
    tokenizer: &Tokenizer,
    base: Option<&Tokenizer>,
    cancelled: &AtomicBool,
) -> Result<Vec<Measurement>> {
    let named: Vec<(&str, &Tokenizer)> = match base {
        Some(base) => vec![("base", base), ("extended", tokenizer)],
        None => vec![("tokenizer", tokenizer)],
    };
    let digests: Vec<String> = named.iter().map(|(_, tokenizer)| tokenizer.digest()).collect();
    let path = prepared.join("tokenizer-table.json");
    let kept = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    if let Some(kept) = kept.filter(|kept| kept.tokenizers == digests) {
        return Ok(kept.rows);
    }
    let mut languages: BTreeMap<Option<&str>, Vec<&Dataset>> = BTreeMap::new();
    for dataset in &job.spec.data.datasets {
        languages.entry(dataset.language.as_deref()).or_default().push(dataset);
    }
    let mut rows = Vec::new();
    for (language, datasets) in languages {
        let mut sample = Vec::new();
        for dataset in datasets {
            let mut bytes = 0;
            for text in texts(dataset, mounts)? {
                let text = text?;
                bytes += text.len();
                sample.push(text);
                if bytes >= BYTES_OF_A_DATASET || cancelled.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        let sample = sample.into_iter().map(Ok::<_, Error>);
        let measured =
            measure(&named, sample).map_err(|source| Error::Tokenizer { field: "spec.tokenizer", source })?;
        rows.extend(measured.into_iter().map(|row| Measurement {
            name: row.name,
            language: language.map(str::to_owned),
            vocabulary: row.vocabulary,
            tokens_per_character: row.tokens_per_character,
            average_length: row.average_length,
            bytes_per_token: row.bytes_per_token,
            unused: row.unused,
        }));
    }
    let bytes = serde_json::to_vec_pretty(&Kept { tokenizers: digests, rows: rows.clone() })
        .map_err(|error| Error::Job(format!("{}: {error}", path.display())))?;
    write_atomically(&path, &bytes)?;
    Ok(rows)
}
