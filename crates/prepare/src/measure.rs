//! The model card's table: how well the tokenizer, before and after its extension, compresses the text of each language.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::AtomicBool;

use palimpsest_api::{Dataset, TrainingJob};
use palimpsest_corpus::{DatasetPlan, Plan, texts};
use palimpsest_store::{Mounts, write_atomically};
use palimpsest_vocab::{Tokenizer, measure};
use serde::{Deserialize, Serialize};

use crate::Progress;
use crate::error::{Error, Result};
use crate::watch::Watch;

/// Raised when the table changes its meaning, so that older ones are not found.
const FORMAT: u32 = 1;

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

/// What the table is about.
pub(crate) struct Table<'a> {
    pub(crate) job: &'a TrainingJob,
    pub(crate) mounts: &'a Mounts,
    /// Its datasets are those that the job reads.
    pub(crate) plan: &'a Plan,
    pub(crate) tokenizer: &'a Tokenizer,
    /// The tokenizer before its extension, if there is one.
    pub(crate) base: Option<&'a Tokenizer>,
}

impl Table<'_> {
    /// Measures the job's tokenizers on a part of each dataset that it reads, or finds the rows of an earlier run.
    pub(crate) fn rows(&self, progress: &mut dyn FnMut(Progress), cancelled: &AtomicBool) -> Result<Vec<Measurement>> {
        let path = self.plan.prepared().join("tokenizer-tables").join(format!("{}.json", self.key()));
        let kept = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(rows) = kept {
            return Ok(rows);
        }
        let mut watch = Watch::begin(progress, cancelled, "measuring the tokenizer".to_owned());
        let mut languages: BTreeMap<Option<&str>, Vec<&Dataset>> = BTreeMap::new();
        for planned in &self.plan.datasets {
            let dataset = self.job.spec.data.datasets.iter().find(|dataset| dataset.name == planned.name);
            languages.entry(planned.language.as_deref()).or_default().extend(dataset);
        }
        let mut rows = Vec::new();
        for (language, datasets) in languages {
            rows.extend(self.rows_of(language, &datasets, &mut watch)?);
        }
        let bytes =
            serde_json::to_vec_pretty(&rows).map_err(|error| Error::Job(format!("{}: {error}", path.display())))?;
        write_atomically(&path, &bytes)?;
        Ok(rows)
    }

    fn named(&self) -> Vec<(&'static str, &Tokenizer)> {
        match self.base {
            Some(base) => vec![("base", base), ("extended", self.tokenizer)],
            None => vec![("tokenizer", self.tokenizer)],
        }
    }

    /// A digest of all that decides the table: prepared data may be another job's, with the same tokenizer.
    fn key(&self) -> String {
        let tokenizers: Vec<_> = self.named().iter().map(|(name, tokenizer)| (*name, tokenizer.digest())).collect();
        let of_dataset = |dataset: &DatasetPlan| (dataset.language.clone(), dataset.tokenized.clone());
        let datasets: Vec<_> = self.plan.datasets.iter().map(of_dataset).collect();
        let text = serde_json::json!([FORMAT, BYTES_OF_A_DATASET, tokenizers, datasets]).to_string();
        blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
    }

    fn rows_of(
        &self,
        language: Option<&str>,
        datasets: &[&Dataset],
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Measurement>> {
        let mut sample = Vec::new();
        for dataset in datasets {
            let mut bytes = 0;
            for text in texts(dataset, self.mounts)? {
                watch.check()?;
                let text = text?;
                bytes += text.len();
                sample.push(text);
                if bytes >= BYTES_OF_A_DATASET {
                    break;
                }
            }
        }
        let sample = sample.into_iter().map(|text| watch.check().map(|()| text));
        let in_error = Error::of_tokenizer("spec.tokenizer");
        // An error of the sample is that the caller has called it off.
        let measured = measure(&self.named(), sample).map_err(|error| match error {
            palimpsest_vocab::Error::Texts(_) => Error::Corpus(palimpsest_corpus::Error::Cancelled),
            error => in_error(error),
        })?;
        let row = |row: palimpsest_vocab::Row| Measurement {
            name: row.name,
            language: language.map(str::to_owned),
            vocabulary: row.vocabulary,
            tokens_per_character: row.tokens_per_character,
            average_length: row.average_length,
            bytes_per_token: row.bytes_per_token,
            unused: row.unused,
        };
        Ok(measured.into_iter().map(row).collect())
    }
}
