//! From the stages of a job to the documents of each bucket.
//!
//! A stage takes its share of tokens from each dataset's stream. Shares and bins end at documents: a document belongs to
//! the stretch in which its middle lies, so that what is taken is as near to what was asked for as it can be.

use std::sync::atomic::AtomicBool;

use palimpsest_api::{Reuse, Stage};

use crate::error::{Error, Result};
use crate::pack::{Item, Packer};
use crate::progress::check;
use crate::stream::{DatasetStream, Stretch};
use crate::tokenized::Documents;

/// A dataset of the job's mixtures.
pub(crate) struct MixedDataset {
    pub(crate) name: String,
    pub(crate) documents: Documents,
    pub(crate) stream: DatasetStream,
}

/// The documents of a stage by bucket, the datasets in the order of the job's.
pub(crate) struct CompiledStage {
    pub(crate) buckets: Vec<Vec<Item>>,
}

/// Chooses the documents of stage `index` and takes them from the streams.
pub(crate) fn compile_stage(
    index: usize,
    stage: &Stage,
    datasets: &mut [MixedDataset],
    packer: &Packer,
    cancelled: &AtomicBool,
) -> Result<CompiledStage> {
    let field = format!("spec.stages[{index}]");
    let mut mixture = Vec::with_capacity(stage.mixture.len());
    for (entry_index, entry) in stage.mixture.iter().enumerate() {
        let found = datasets.iter().position(|dataset| dataset.name == entry.dataset);
        let dataset = found.ok_or_else(|| Error::UnknownDataset {
            field: format!("{field}.mixture[{entry_index}].dataset"),
            dataset: entry.dataset.clone(),
        })?;
        mixture.push(Entry { dataset, weight: entry.weight.unwrap_or(1) });
    }
    if stage.reuse == Reuse::Restart {
        for entry in &mixture {
            datasets[entry.dataset].stream.restart();
        }
    }
    let mut choice = Choice { field, stage, mixture, datasets, packer, cancelled };
    let (stretches, counts) = match (stage.budget.tokens, stage.budget.steps, stage.budget.epochs) {
        (Some(tokens), ..) => choice.of_tokens(tokens)?,
        (None, Some(steps), _) => choice.of_steps(steps)?,
        (None, None, epochs) => choice.of_epochs(epochs.unwrap_or(1))?,
    };
    let buckets = choice.buckets(&stretches, &counts);
    for (entry, (stretch, count)) in choice.mixture.iter().zip(stretches.iter().zip(counts)) {
        choice.datasets[entry.dataset].stream.take(stretch, count);
    }
    Ok(CompiledStage { buckets })
}

#[derive(Clone, Copy)]
struct Entry {
    dataset: usize,
    weight: u64,
}

/// A stretch of each dataset's stream, and how many of its documents are taken.
type Taken = (Vec<Stretch>, Vec<usize>);

struct Choice<'a> {
    field: String,
    stage: &'a Stage,
    mixture: Vec<Entry>,
    datasets: &'a mut [MixedDataset],
    packer: &'a Packer,
    cancelled: &'a AtomicBool,
}

impl Choice<'_> {
    fn of_tokens(&mut self, tokens: u64) -> Result<Taken> {
        let stretches = self.look_ahead(tokens);
        if let Some((dataset, most)) = self.most_tokens(&stretches)
            && tokens > most
        {
            return Err(self.too_often("tokens", &format!("{tokens} tokens"), dataset, most));
        }
        let counts = self.cut(&stretches, tokens);
        Ok((stretches, counts))
    }

    /// Every document of the mixture exactly so many times.
    fn of_epochs(&mut self, epochs: u32) -> Result<Taken> {
        let most_uses = self.stage.max_repeats;
        let mut stretches = Vec::with_capacity(self.mixture.len());
        for entry in &self.mixture {
            let MixedDataset { name, documents, stream } = &mut self.datasets[entry.dataset];
            let used = stream.uses().iter().max().copied().unwrap_or(0);
            if used.saturating_add(epochs) > most_uses {
                let most = u64::from(most_uses.saturating_sub(used));
                let name = name.clone();
                return Err(self.too_often("epochs", &format!("{epochs} epochs"), &name, most));
            }
            stretches.push(stream.whole_epochs(epochs, |document| documents.length(document)));
        }
        let counts = stretches.iter().map(|stretch| stretch.documents.len()).collect();
        Ok((stretches, counts))
    }

    /// Finds the most tokens that do not need more than so many steps, and makes sure that they need as many.
    ///
    /// More tokens make more sequences, but not quite steadily, since a longer share moves the borders of all bins. So a
    /// bisection finds a place where one document more is too much; should the sequences there be too few, which takes
    /// documents longer than a batch, the neighbourhood is searched, and the budget refused if nothing is found.
    fn of_steps(&mut self, steps: u64) -> Result<Taken> {
        let batch = u64::from(self.stage.batch.sequences);
        let wanted = steps.saturating_mul(batch);
        let full = wanted.saturating_mul(u64::from(self.packer.sequence_length));
        let mut horizon = full.saturating_add(full / 8 + 1);
        let (stretches, most, sequences) = loop {
            check(self.cancelled)?;
            let stretches = self.look_ahead(horizon);
            let limit = self.most_tokens(&stretches).filter(|(_, most)| *most < horizon);
            let most = limit.map_or(horizon, |(_, most)| most);
            let sequences = self.count(&stretches, most);
            if sequences > wanted {
                break (stretches, most, sequences);
            }
            if let Some((dataset, _)) = limit {
                let possible = sequences.div_ceil(batch);
                if possible < steps {
                    let dataset = dataset.to_owned();
                    return Err(self.too_often("steps", &format!("{steps} steps"), &dataset, possible));
                }
                let counts = self.cut(&stretches, most);
                return Ok((stretches, counts));
            }
            horizon = horizon.saturating_mul(2);
        };

        let (mut low, mut low_sequences) = (0, 0);
        let (mut high, mut high_sequences) = (most, sequences);
        let mut is_bisection = false;
        let near_enough = full / 16_384;
        while high - low > 1 && (low_sequences < wanted || high - low > near_enough) {
            check(self.cancelled)?;
            let share = u128::from(high - low) * u128::from(wanted - low_sequences);
            let interpolated = low + (share / u128::from(high_sequences - low_sequences)) as u64;
            let middle = if is_bisection { low + (high - low) / 2 } else { interpolated };
            let middle = middle.clamp(low + 1, high - 1);
            is_bisection = !is_bisection;
            let sequences = self.count(&stretches, middle);
            if sequences <= wanted {
                (low, low_sequences) = (middle, sequences);
            } else {
                (high, high_sequences) = (middle, sequences);
            }
        }
        if low > 0 && low_sequences.div_ceil(batch) == steps {
            let counts = self.cut(&stretches, low);
            return Ok((stretches, counts));
        }
        let stride = u64::from(self.packer.sequence_length).div_ceil(16);
        for distance in (1..=512u64).map(|count| count * stride) {
            check(self.cancelled)?;
            for tokens in [low.saturating_sub(distance), low.saturating_add(distance).min(most)] {
                if tokens > 0 && self.count(&stretches, tokens).div_ceil(batch) == steps {
                    let counts = self.cut(&stretches, tokens);
                    return Ok((stretches, counts));
                }
            }
        }
        let above = high_sequences.div_ceil(batch);
        let possible = match low_sequences.div_ceil(batch) {
            0 => format!("write at least {above}"),
            below => format!("write {below} or {above}"),
        };
        let problem = format!(
            "whole documents cannot make exactly {steps} steps of {batch} sequences here; {possible}, fewer buckets, or a budget in tokens"
        );
        Err(Error::Budget { field: format!("{}.budget.steps", self.field), problem })
    }

    /// The documents that a budget of `tokens` could take.
    fn look_ahead(&mut self, tokens: u64) -> Vec<Stretch> {
        let most_uses = self.stage.max_repeats;
        let shares: Vec<u64> = self.mixture.iter().map(|entry| self.share(entry, tokens)).collect();
        let mut stretches = Vec::with_capacity(shares.len());
        for (entry, share) in self.mixture.iter().zip(shares) {
            let MixedDataset { documents, stream, .. } = &mut self.datasets[entry.dataset];
            stretches.push(stream.look_ahead(share, most_uses, |document| documents.length(document)));
        }
        stretches
    }

    /// A dataset's share of a budget, rounded up.
    fn share(&self, entry: &Entry, tokens: u64) -> u64 {
        let weights: u128 = self.mixture.iter().map(|entry| u128::from(entry.weight)).sum();
        let share = (u128::from(tokens) * u128::from(entry.weight)).div_ceil(weights);
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// The largest budget for which every exhausted stretch suffices, and the dataset that sets it.
    fn most_tokens(&self, stretches: &[Stretch]) -> Option<(&str, u64)> {
        let weights: u128 = self.mixture.iter().map(|entry| u128::from(entry.weight)).sum();
        let limits = self.mixture.iter().zip(stretches).filter(|(_, stretch)| stretch.is_exhausted);
        let limits = limits.map(|(entry, stretch)| {
            let most = u128::from(stretch.tokens) * weights / u128::from(entry.weight);
            (self.datasets[entry.dataset].name.as_str(), u64::try_from(most).unwrap_or(u64::MAX))
        });
        limits.min_by_key(|(_, most)| *most)
    }

    /// Cuts stretches at a budget: a document belongs to it if its middle does, and the first always.
    fn cut(&self, stretches: &[Stretch], tokens: u64) -> Vec<usize> {
        let shares = self.mixture.iter().map(|entry| self.share(entry, tokens));
        let counts = self.mixture.iter().zip(stretches).zip(shares).map(|((entry, stretch), share)| {
            let documents = &self.datasets[entry.dataset].documents;
            let mut before = 0;
            let mut count = 0;
            for document in &stretch.documents {
                let length = u64::from(documents.length(*document));
                if before + length / 2 >= share {
                    break;
                }
                before += length;
                count += 1;
            }
            count.max(1).min(stretch.documents.len())
        });
        counts.collect()
    }

    /// Cuts what is taken into bins, and gathers bin k of every dataset in bucket k.
    fn buckets(&self, stretches: &[Stretch], counts: &[usize]) -> Vec<Vec<Item>> {
        let count = u128::from(self.stage.buckets.max(1));
        let mut buckets = vec![Vec::new(); count as usize];
        for (entry, (stretch, taken)) in self.mixture.iter().zip(stretches.iter().zip(counts)) {
            let documents = &self.datasets[entry.dataset].documents;
            let chosen = &stretch.documents[..*taken];
            let total: u128 = chosen.iter().map(|document| u128::from(documents.length(*document))).sum();
            let mut before = 0;
            for document in chosen {
                let length = documents.length(*document);
                let bin = (2 * before + u128::from(length)) * count / (2 * total);
                buckets[bin as usize].push(Item { dataset: entry.dataset as u32, document: *document, length });
                before += u128::from(length);
            }
        }
        buckets
    }

    /// How many sequences a budget of `tokens` makes.
    fn count(&self, stretches: &[Stretch], tokens: u64) -> u64 {
        let buckets = self.buckets(stretches, &self.cut(stretches, tokens));
        let counts = buckets.iter().map(|items| {
            let lengths: Vec<u32> = items.iter().map(|item| item.length).collect();
            self.packer.count(&lengths)
        });
        counts.sum()
    }

    fn too_often(&self, unit: &str, asked: &str, dataset: &str, most: u64) -> Error {
        let most_uses = self.stage.max_repeats;
        let times = if most_uses == 1 { "once".to_owned() } else { format!("{most_uses} times") };
        let remedy = match most {
            0 => "no document of it is left".to_owned(),
            most => format!("write at most {most}"),
        };
        let problem = format!(
            "{asked} need documents of \"{dataset}\" more often than maxRepeats allows, {times} over the whole job; \
             {remedy}, or raise maxRepeats"
        );
        Error::Budget { field: format!("{}.budget.{unit}", self.field), problem }
    }
}
