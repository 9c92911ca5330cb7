//! The texts that a tokenizer is learned from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use palimpsest_api::Dataset;
use palimpsest_store::Mounts;

use crate::error::Result;
use crate::hold_out::HoldOutThreshold;
use crate::source::{Chunks, Source, records};

/// The documents of a dataset, each as one string, prompt and text; held-out ones are left out. They are read from the
/// files as they are asked for.
pub fn texts(dataset: &Dataset, mounts: &Mounts) -> Result<Texts> {
    let source = Arc::new(Source::find(dataset, mounts)?);
    let chunks = Chunks::new(source.clone(), Arc::new(AtomicU64::new(0)));
    Ok(Texts { threshold: HoldOutThreshold::of(dataset), source, chunks, ready: VecDeque::new() })
}

/// See [`texts`].
pub struct Texts {
    threshold: HoldOutThreshold,
    source: Arc<Source>,
    chunks: Chunks,
    ready: VecDeque<String>,
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Texts").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Iterator for Texts {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(text) = self.ready.pop_front() {
                return Some(Ok(text));
            }
            let chunk = match self.chunks.next()? {
                Ok(chunk) => chunk,
                Err(error) => return Some(Err(error)),
            };
            let (threshold, ready) = (self.threshold, &mut self.ready);
            let parsed = records(&self.source, chunk, &mut |record| {
                if !threshold.holds_out(&record.text) {
                    ready.push_back(record.prompt + &record.text);
                }
                Ok(())
            });
            if let Err(error) = parsed {
                return Some(Err(error));
            }
        }
    }
}
