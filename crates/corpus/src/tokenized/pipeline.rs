//! Tokenises a dataset on several threads, keeping the order of its documents.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::writer::{Columns, DocumentWriter};
use super::{DOCUMENT_SCHEMA, DOCUMENTS, FORMAT, HELD_OUT, HELD_OUT_SCHEMA, MANIFEST, Manifest, folder_of};
use crate::encoder::{Ends, TextEncoder, encode_document};
use crate::error::{Error, Result};
use crate::hold_out::HoldOutThreshold;
use crate::progress::{Phase, Reporter, check};
use crate::source::{Chunk, Source, in_order, records};
use crate::staging::Staging;

/// Everything that tokenising needs to know.
pub(crate) struct Tokenization<'a> {
    pub(crate) source: &'a Arc<Source>,
    pub(crate) threshold: HoldOutThreshold,
    pub(crate) encoder: &'a dyn TextEncoder,
    pub(crate) ends: Ends,
    pub(crate) threads: usize,
}

/// The documents of a chunk.
#[derive(Default)]
struct Tokenized {
    documents: Columns,
    held_out: Columns,
}

/// Tokenises a dataset into the folder of `key`.
pub(crate) fn tokenize(
    task: &Tokenization<'_>,
    prepared: &Path,
    key: &str,
    reporter: &mut Reporter<'_>,
) -> Result<Manifest> {
    let staging = Staging::beside(&folder_of(prepared, key))?;
    let mut documents = DocumentWriter::create(staging.path().join(DOCUMENTS), &DOCUMENT_SCHEMA)?;
    let mut held_out = DocumentWriter::create(staging.path().join(HELD_OUT), &HELD_OUT_SCHEMA)?;
    let read = Arc::new(AtomicU64::new(0));
    let total = task.source.bytes();
    let cancelled = reporter.cancelled;
    let work = |chunk| tokenize_chunk(task, cancelled, chunk);
    in_order(task.source, task.threads, &read, &work, &mut |tokenized| {
        documents.append(tokenized.documents)?;
        held_out.append(tokenized.held_out)?;
        (reporter.progress)(crate::progress::Progress {
            phase: Phase::Tokenizing,
            subject: &task.source.dataset,
            done: read.load(Ordering::Relaxed).min(total),
            total,
        });
        check(reporter.cancelled)
    })?;
    if documents.documents + held_out.documents == 0 {
        let (dataset, path) = (task.source.dataset.clone(), task.source.path.clone());
        return Err(Error::EmptyDataset { dataset, path });
    }
    let manifest = Manifest {
        format: FORMAT,
        documents: documents.documents,
        tokens: documents.tokens,
        held_out_documents: held_out.documents,
        held_out_tokens: held_out.tokens,
        held_out_bytes: held_out.text_bytes,
        files: task.source.files.iter().map(|file| file.name.clone()).collect(),
    };
    documents.finish()?;
    held_out.finish()?;
    let content = serde_json::to_vec_pretty(&manifest).map_err(|error| Error::io("write", prepared)(error.into()))?;
    staging.publish(MANIFEST, &content)?;
    Ok(manifest)
}

fn tokenize_chunk(task: &Tokenization<'_>, cancelled: &AtomicBool, chunk: Chunk) -> Result<Tokenized> {
    let file = chunk.file;
    let mut tokenized = Tokenized::default();
    records(task.source, chunk, &mut |record| {
        check(cancelled)?;
        let is_held_out = task.threshold.holds_out(&record.text);
        let columns = if is_held_out { &mut tokenized.held_out } else { &mut tokenized.documents };
        let before = columns.ids.len();
        let prompt_ids = encode_document(task.encoder, task.ends, &record.prompt, &record.text, &mut columns.ids)?;
        columns.lengths.push(columns.ids.len() - before);
        columns.prompt_ids.push(prompt_ids);
        columns.text_bytes.push(record.text.len() as u64);
        columns.files.push(file);
        columns.records.push(record.number);
        columns.categories.push(record.category);
        if is_held_out {
            columns.strings.push((record.prompt, record.text));
        }
        Ok(())
    })?;
    Ok(tokenized)
}
