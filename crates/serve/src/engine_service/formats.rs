//! What reads formats: it takes a while to make, and is made while an engine serves already.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use palimpsest_infer::{Constraint, Error, Format, Grammars, Result};

/// Reads formats. Clones share what was read.
#[derive(Clone, Debug)]
pub struct Formats {
    grammars: Arc<OnceLock<Result<Grammars>>>,
}

impl Formats {
    /// Those of grammars that are there.
    pub fn of(grammars: Grammars) -> Self {
        Self { grammars: Arc::new(OnceLock::from(Ok(grammars))) }
    }

    /// Those of grammars that a thread makes. Who needs them earlier waits.
    pub fn made_by(make: impl FnOnce() -> Result<Grammars> + Send + 'static) -> Self {
        let grammars = Arc::new(OnceLock::new());
        let made = Arc::clone(&grammars);
        std::thread::spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(make));
            let _ = made.set(result.unwrap_or(Err(Error::NoFormats { field: "format" })));
        });
        Self { grammars }
    }

    /// What follows a format that was read before; nothing where it would have to be read.
    pub(super) fn known(&self, format: &Format) -> Option<Constraint> {
        self.grammars.get()?.as_ref().ok()?.known(format)
    }

    /// What follows a format, when the grammars are there.
    pub(super) fn constraint(&self, format: &Format) -> Result<Constraint> {
        self.grammars.wait().as_ref().map_err(Clone::clone)?.constraint(format)
    }
}
