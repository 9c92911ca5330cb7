//! Works on the chunks of a source on several threads, keeping their order.
//!
//! ```text
//! reader ── chunk 0, 1, 2.. ──► worker ─┐
//!    ▲                    └───► worker ─┴── results of chunk 1, 0, 2.. ──► taker: in order
//!    └───────────────────── permits: so many chunks are under way ──────┘
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Chunk, Chunks, Source};
use crate::error::Result;

/// How many chunks may be under way for each worker.
const CHUNKS_PER_WORKER: usize = 4;

/// Hands to `take`, in order and on this thread, what `work` has made of each chunk on one of so many others. The first
/// error in that order ends it. `read` hears of the bytes read.
pub(crate) fn in_order<T: Send>(
    source: &Arc<Source>,
    threads: usize,
    read: &Arc<AtomicU64>,
    work: &(dyn Fn(Chunk) -> Result<T> + Sync),
    take: &mut dyn FnMut(T) -> Result<()>,
) -> Result<()> {
    let workers = threads.max(1);
    let under_way = workers * CHUNKS_PER_WORKER;
    let (permit_sender, permits) = sync_channel::<()>(under_way);
    let (chunk_sender, chunk_receiver) = sync_channel::<(u64, Result<Chunk>)>(under_way);
    let (result_sender, results) = channel::<(u64, Result<T>)>();
    let chunk_receiver = Arc::new(Mutex::new(chunk_receiver));
    for _ in 0..under_way {
        let _ = permit_sender.send(());
    }
    std::thread::scope(|scope| {
        scope.spawn(move || read_chunks(source, read, &permits, &chunk_sender));
        for _ in 0..workers {
            let (chunks, results) = (chunk_receiver.clone(), result_sender.clone());
            scope.spawn(move || work_on_chunks(work, &chunks, &results));
        }
        drop((chunk_receiver, result_sender));
        // Whichever way this ends, the permits end with it, and so does the reader, and so do the workers.
        let permit_sender = permit_sender;
        let mut early = BTreeMap::new();
        let mut next = 0;
        for (number, result) in results {
            early.insert(number, result);
            while let Some(result) = early.remove(&next) {
                take(result?)?;
                next += 1;
                let _ = permit_sender.try_send(());
            }
        }
        Ok(())
    })
}

fn read_chunks(
    source: &Arc<Source>,
    read: &Arc<AtomicU64>,
    permits: &Receiver<()>,
    chunks: &SyncSender<(u64, Result<Chunk>)>,
) {
    for (number, chunk) in (0..).zip(Chunks::new(source.clone(), read.clone())) {
        if permits.recv().is_err() || chunks.send((number, chunk)).is_err() {
            return;
        }
    }
}

fn work_on_chunks<T>(
    work: &(dyn Fn(Chunk) -> Result<T> + Sync),
    chunks: &Mutex<Receiver<(u64, Result<Chunk>)>>,
    results: &Sender<(u64, Result<T>)>,
) {
    loop {
        let received = chunks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, chunk)) = received else { return };
        if results.send((number, chunk.and_then(work))).is_err() {
            return;
        }
    }
}
