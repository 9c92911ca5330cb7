//! The documents of files, one by one, for measurements outside a job.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use palimpsest_api::Dataset;
use palimpsest_store::Mounts;

use crate::encoder::{Ends, TextEncoder, encode_document};
use crate::error::Result;
use crate::held_out::HeldOutDocument;
use crate::source::{Chunks, Source, records};

/// All documents of a dataset in the ids of a tokenizer, whatever it holds out. They are read from the files as they are
/// asked for.
pub fn documents<'a>(
    dataset: &Dataset,
    mounts: &Mounts,
    encoder: &'a dyn TextEncoder,
) -> Result<impl Iterator<Item = Result<HeldOutDocument>> + 'a> {
    let source = Arc::new(Source::find(dataset, mounts)?);
    let mut chunks = Chunks::new(source.clone(), Arc::new(AtomicU64::new(0)));
    let ends = Ends::of(encoder)?;
    let mut ready = VecDeque::new();
    Ok(std::iter::from_fn(move || {
        while ready.is_empty() {
            let parsed = chunks.next()?.and_then(|chunk| {
                records(&source, chunk, &mut |record| {
                    ready.push_back((record.prompt, record.text));
                    Ok(())
                })
            });
            if let Err(error) = parsed {
                return Some(Err(error));
            }
        }
        let (prompt, text) = ready.pop_front()?;
        let mut ids = Vec::new();
        Some(encode_document(encoder, ends, &prompt, &text, &mut ids).map(|prompt_ids| HeldOutDocument {
            ids,
            prompt_ids: prompt_ids as usize,
            text_bytes: text.len() as u64,
            prompt,
            text,
        }))
    }))
}
