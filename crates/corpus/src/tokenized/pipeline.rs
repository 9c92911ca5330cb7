//! Tokenises a dataset on several threads, keeping the order of its documents.
//!
//! ```text
//! reader ── chunk 0, 1, 2.. ──► worker ─┐
//!    ▲                    └───► worker ─┴── ids of chunk 1, 0, 2.. ──► writer: in order
//!    └───────────────────── permits: so many chunks are under way ──────┘
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::writer::{Columns, DocumentWriter};
use super::{DOCUMENT_SCHEMA, DOCUMENTS, FORMAT, HELD_OUT, HELD_OUT_SCHEMA, MANIFEST, Manifest, folder_of};
use crate::encoder::{Ends, TextEncoder, encode_document};
use crate::error::{Error, Result};
use crate::hold_out::HoldOutThreshold;
use crate::progress::{Phase, Reporter, check};
use crate::source::{Chunk, Chunks, Source, records};
use crate::staging::Staging;

/// How many chunks may be under way for each worker.
const CHUNKS_PER_WORKER: usize = 4;

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
    in_order(task, &read, reporter.cancelled, &mut |tokenized| {
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

/// Hands the tokenised chunks of a source to `write`, in order. The first error in that order ends it.
fn in_order(
    task: &Tokenization<'_>,
    read: &Arc<AtomicU64>,
    cancelled: &AtomicBool,
    write: &mut dyn FnMut(Tokenized) -> Result<()>,
) -> Result<()> {
    let workers = task.threads.max(1);
    let under_way = workers * CHUNKS_PER_WORKER;
    let (permit_sender, permits) = sync_channel::<()>(under_way);
    let (chunk_sender, chunk_receiver) = sync_channel::<(u64, Result<Chunk>)>(under_way);
    let (result_sender, results) = channel::<(u64, Result<Tokenized>)>();
    let chunk_receiver = Arc::new(Mutex::new(chunk_receiver));
    for _ in 0..under_way {
        let _ = permit_sender.send(());
    }
    std::thread::scope(|scope| {
        scope.spawn(move || read_chunks(task, read, &permits, &chunk_sender));
        for _ in 0..workers {
            let (chunks, results) = (chunk_receiver.clone(), result_sender.clone());
            scope.spawn(move || tokenize_chunks(task, cancelled, &chunks, &results));
        }
        drop((chunk_receiver, result_sender));
        // Whichever way this ends, the permits end with it, and so does the reader, and so do the workers.
        let permit_sender = permit_sender;
        let mut early = BTreeMap::new();
        let mut next = 0;
        for (number, result) in results {
            early.insert(number, result);
            while let Some(result) = early.remove(&next) {
                write(result?)?;
                next += 1;
                let _ = permit_sender.try_send(());
            }
        }
        Ok(())
    })
}

fn read_chunks(
    task: &Tokenization<'_>,
    read: &Arc<AtomicU64>,
    permits: &Receiver<()>,
    chunks: &SyncSender<(u64, Result<Chunk>)>,
) {
    for (number, chunk) in (0..).zip(Chunks::new(task.source.clone(), read.clone())) {
        if permits.recv().is_err() || chunks.send((number, chunk)).is_err() {
            return;
        }
    }
}

fn tokenize_chunks(
    task: &Tokenization<'_>,
    cancelled: &AtomicBool,
    chunks: &Mutex<Receiver<(u64, Result<Chunk>)>>,
    results: &Sender<(u64, Result<Tokenized>)>,
) {
    loop {
        let received = chunks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, chunk)) = received else { return };
        let result = chunk.and_then(|chunk| tokenize_chunk(task, cancelled, chunk));
        if results.send((number, result)).is_err() {
            return;
        }
    }
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
