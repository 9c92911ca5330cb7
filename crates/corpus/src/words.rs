//! Counts the words of datasets on several threads, for a tokenizer to be learned from them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use palimpsest_api::Dataset;
use palimpsest_store::Mounts;
use palimpsest_vocab::{WordCounter, WordCounts};

use crate::error::{Error, Result};
use crate::hold_out::HoldOutThreshold;
use crate::source::{Source, in_order, records};
use crate::texts::text_of;

/// Counts the words of the documents that [`all_texts`](crate::all_texts) gives, on so many threads, whose number makes no
/// difference. A dataset that has no document is an error. `go_on` is asked now and then whether to.
pub fn count_words<'a>(
    datasets: impl IntoIterator<Item = &'a Dataset>,
    mounts: &Mounts,
    counter: &WordCounter,
    threads: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<WordCounts> {
    let mut counts = WordCounts::default();
    for dataset in datasets {
        let source = Arc::new(Source::find(dataset, mounts)?);
        let threshold = HoldOutThreshold::of(dataset);
        let mut texts_of_dataset = 0;
        let count = |chunk| {
            let mut texts = Vec::new();
            records(&source, chunk, &mut |record| {
                texts.extend(text_of(record, threshold));
                Ok(())
            })?;
            Ok(counter.count(texts))
        };
        in_order(&source, threads, &Arc::new(AtomicU64::new(0)), &count, &mut |counted| {
            texts_of_dataset += counted.texts();
            counts.add(&counted);
            if go_on() { Ok(()) } else { Err(Error::Cancelled) }
        })?;
        if texts_of_dataset == 0 {
            return Err(Error::EmptyDataset { dataset: dataset.name.clone(), path: source.path.clone() });
        }
    }
    Ok(counts)
}
