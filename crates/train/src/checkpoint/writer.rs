//! Writes checkpoints on a thread of its own while training goes on.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use palimpsest_model::Decoder;
use palimpsest_store::{Fence, remove_abandoned};
use palimpsest_vocab::Tokenizer;

use super::State;
use super::snapshot::Snapshot;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::optimizer::Moments;

/// Whose checkpoints are written, and where.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The folder of checkpoints.
    pub(crate) root: PathBuf,
    /// How many are kept.
    pub(crate) keep: u32,
    pub(crate) fence: Fence,
    /// The digest of the job's fields that can change its result.
    pub(crate) job: String,
    /// The digest of the plan.
    pub(crate) plan: String,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) tokenizer: TokenizerFiles,
}

/// A tokenizer's files, which are the same in every checkpoint: made once, then kept.
#[derive(Debug)]
pub(crate) enum TokenizerFiles {
    Unwritten(Box<Tokenizer>),
    Kept(Vec<(PathBuf, Vec<u8>)>),
}

impl Identity {
    pub(super) fn write_tokenizer(&mut self, folder: &Path) -> Result<()> {
        match &self.tokenizer {
            TokenizerFiles::Unwritten(tokenizer) => {
                let mut kept = Vec::new();
                for path in tokenizer.save(folder)?.files {
                    let bytes =
                        std::fs::read(&path).map_err(|source| palimpsest_store::Error::io("read", &path, source))?;
                    kept.push((path.strip_prefix(folder).map(Path::to_owned).unwrap_or(path), bytes));
                }
                self.tokenizer = TokenizerFiles::Kept(kept);
            }
            TokenizerFiles::Kept(files) => {
                for (name, bytes) in files {
                    let path = folder.join(name);
                    std::fs::write(&path, bytes)
                        .map_err(|source| palimpsest_store::Error::io("write", &path, source))?;
                }
            }
        }
        Ok(())
    }
}

/// The training side of the thread. At most one checkpoint is on its way.
#[derive(Debug)]
pub(crate) struct Writer {
    snapshots: Sender<Snapshot>,
    done: Receiver<(Result<()>, Snapshot)>,
    /// A snapshot that was written; its memory serves the next.
    spare: Option<Snapshot>,
    is_writing: bool,
    /// The step of the newest checkpoint that is there or on its way.
    newest: Option<u64>,
}

impl Writer {
    /// Starts the thread. `newest` is the step of the checkpoint that the job goes on from.
    pub(crate) fn new(mut identity: Identity, newest: Option<u64>) -> Result<Self> {
        remove_abandoned(&identity.root, "step-", identity.fence.attempt())?;
        let (snapshots, to_write) = channel::<Snapshot>();
        let (written, done) = channel();
        thread::spawn(move || {
            for snapshot in to_write {
                let result = snapshot.commit(&mut identity);
                if written.send((result, snapshot)).is_err() {
                    break;
                }
            }
        });
        Ok(Self { snapshots, done, spare: None, is_writing: false, newest })
    }

    /// Begins to write a checkpoint of this state, unless there is one. Waits for the one before, whose step is returned
    /// where it is not returned by [`Self::poll`].
    pub(crate) fn begin(&mut self, model: &Decoder, moments: &Moments, state: &State) -> Result<Option<u64>> {
        if self.newest == Some(state.step) {
            return Ok(None);
        }
        let before = self.wait(|| false)?;
        let snapshot = Snapshot::take(self.spare.take(), model, moments, state)?;
        self.newest = Some(state.step);
        self.is_writing = true;
        self.snapshots.send(snapshot).map_err(|_| lost())?;
        Ok(before)
    }

    /// The step of a checkpoint that has been committed since the last call, if one was.
    pub(crate) fn poll(&mut self) -> Result<Option<u64>> {
        match self.done.try_recv() {
            Ok(done) => self.take(done).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(lost()),
        }
    }

    /// Waits until no checkpoint is on its way, unless `is_over` says that it is not worth it any more.
    pub(crate) fn wait(&mut self, is_over: impl Fn() -> bool) -> Result<Option<u64>> {
        while self.is_writing {
            match self.done.recv_timeout(Duration::from_millis(100)) {
                Ok(done) => return self.take(done).map(Some),
                Err(RecvTimeoutError::Timeout) if is_over() => return Err(Error::Aborted),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(lost()),
            }
        }
        Ok(None)
    }

    fn take(&mut self, (result, snapshot): (Result<()>, Snapshot)) -> Result<u64> {
        self.is_writing = false;
        let step = snapshot.state.step;
        self.spare = Some(snapshot);
        result.map(|()| step)
    }
}

fn lost() -> Error {
    Error::Thread("the thread that writes checkpoints has ended")
}
