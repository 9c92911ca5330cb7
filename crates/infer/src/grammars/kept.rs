//! Formats that were read, kept for those who ask for the same: reading one takes a while, and what it was read into takes room.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llguidance::Matcher;

use crate::constraint::Constraint;
use crate::error::{Error, Result};
use crate::format::Format;

/// Formats that nobody follows and that are kept all the same.
const IDLE: usize = 16;

/// Different formats that are followed at once. Each may come to take some tens of megabytes.
const MOST: usize = 64;

/// Formats that were read, the one that was asked for last at the end.
#[derive(Default)]
pub(super) struct Kept {
    formats: Mutex<Vec<Entry>>,
}

struct Entry {
    format: Format,
    /// As it was read: no output has gone through it. Clones share its lexer, which grows as they go on.
    matcher: Matcher,
    lexer: Arc<Lexer>,
}

/// What those who follow one format share.
#[derive(Debug, Default)]
pub(crate) struct Lexer {
    is_spoiled: AtomicBool,
}

impl Lexer {
    /// It has failed one of them. Those who come later get another.
    pub(crate) fn spoil(&self) {
        self.is_spoiled.store(true, Ordering::Relaxed);
    }
}

impl Entry {
    fn is_followed(&self) -> bool {
        Arc::strong_count(&self.lexer) > 1
    }

    fn constraint(&self) -> Constraint {
        Constraint::new(self.matcher.clone(), Arc::clone(&self.lexer))
    }
}

impl Kept {
    /// What follows a format, where it was read before.
    pub(super) fn find(&self, format: &Format) -> Option<Constraint> {
        let mut formats = self.lock();
        let place = formats.iter().position(|entry| entry.format == *format)?;
        let entry = formats.remove(place);
        if entry.lexer.is_spoiled.load(Ordering::Relaxed) {
            return None;
        }
        let constraint = entry.constraint();
        formats.push(entry);
        Some(constraint)
    }

    /// Keeps a format that was read, and gives what follows it; an error where too many are followed already.
    pub(super) fn keep(&self, format: &Format, matcher: Matcher) -> Result<Constraint> {
        let mut formats = self.lock();
        let mut idle = formats.iter().filter(|entry| !entry.is_followed()).count();
        // The one that was asked for first goes first.
        formats.retain(|entry| {
            let goes = idle >= IDLE && !entry.is_followed();
            idle -= usize::from(goes);
            !goes
        });
        if formats.len() - idle >= MOST {
            return Err(Error::ManyFormats { most: MOST });
        }
        let entry = Entry { format: format.clone(), matcher, lexer: Arc::default() };
        let constraint = entry.constraint();
        formats.push(entry);
        Ok(constraint)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.formats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
