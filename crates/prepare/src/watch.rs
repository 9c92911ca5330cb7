//! The caller's ear in work of one long piece: it hears now and then that the work goes on, and can call it off.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Progress;
use crate::error::{Error, Result};

/// How long the caller is left without a word. Whoever hears of progress may look up only then.
const INTERVAL: Duration = Duration::from_millis(100);

pub(crate) struct Watch<'a> {
    progress: &'a mut dyn FnMut(Progress),
    cancelled: &'a AtomicBool,
    message: String,
    last: Instant,
}

impl<'a> Watch<'a> {
    /// Tells the caller what is being done.
    pub(crate) fn begin(progress: &'a mut dyn FnMut(Progress), cancelled: &'a AtomicBool, message: String) -> Self {
        progress(Progress { fraction: None, message: message.clone() });
        Self { progress, cancelled, message, last: Instant::now() }
    }

    /// Whether the work is to go on.
    pub(crate) fn go_on(&mut self) -> bool {
        if self.last.elapsed() >= INTERVAL {
            (self.progress)(Progress { fraction: None, message: self.message.clone() });
            self.last = Instant::now();
        }
        !self.cancelled.load(Ordering::Relaxed)
    }

    /// An error where the work is called off.
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.go_on() { Ok(()) } else { Err(Error::Corpus(palimpsest_corpus::Error::Cancelled)) }
    }
}
