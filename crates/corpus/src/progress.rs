//! How far a preparation is.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// What a preparation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Taking digests of datasets, to find what was prepared before.
    Digesting,
    /// Reading and tokenising a dataset.
    Tokenizing,
    /// Packing a stage's buckets.
    Packing,
}

/// How far a preparation is.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// What it is doing.
    pub phase: Phase,
    /// The dataset's name, or the stage's.
    pub subject: &'a str,
    /// Bytes done of this subject.
    pub done: u64,
    /// Bytes in all of this subject.
    pub total: u64,
}

impl Progress<'_> {
    /// The share that is done of the subject, where it is known how large that is.
    pub fn fraction(&self) -> Option<f64> {
        (self.total > 0).then(|| self.done as f64 / self.total as f64)
    }
}

/// The caller's ear: hears of progress, and can call it off.
pub(crate) struct Reporter<'a> {
    pub(crate) progress: &'a mut dyn FnMut(Progress<'_>),
    pub(crate) cancelled: &'a AtomicBool,
}

impl Reporter<'_> {
    /// Tells how far we are; an error where the caller has called it off.
    pub(crate) fn report(&mut self, phase: Phase, subject: &str, done: u64, total: u64) -> Result<()> {
        (self.progress)(Progress { phase, subject, done: done.min(total), total });
        check(self.cancelled)
    }
}

/// An error where the caller has called it off.
pub(crate) fn check(cancelled: &AtomicBool) -> Result<()> {
    if cancelled.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
}
