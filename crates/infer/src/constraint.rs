//! Which tokens may come next, so that an output follows its format.

use std::fmt;
use std::sync::Arc;

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use crate::error::{Error, Result};
use crate::grammars::{Lexer, in_short};

/// What llguidance says where no token may come next.
const NO_TOKEN: &str = "NoExtensionBias";

/// Which tokens may come next in the output of one request.
pub struct Constraint {
    matcher: Matcher,
    lexer: Arc<Lexer>,
}

impl fmt::Debug for Constraint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Constraint").field("is_complete", &self.is_complete()).finish_non_exhaustive()
    }
}

impl Constraint {
    pub(crate) fn new(matcher: Matcher, lexer: Arc<Lexer>) -> Self {
        Self { matcher, lexer }
    }

    /// Whether the format is complete, and nothing may come any more.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.stop_reason().is_ok() && self.matcher.is_stopped()
    }

    /// The tokens that may come next; none where the format may end, and nothing goes on from it.
    pub(crate) fn allowed(&mut self) -> Result<Option<Allowed>> {
        if self.is_complete() {
            return Ok(None);
        }
        let may_end = self.matcher.is_accepting().map_err(|error| self.lost(error))?;
        match self.matcher.compute_mask() {
            Ok(mask) => Ok(Some(Allowed(mask))),
            Err(error) if error.to_string().starts_with(NO_TOKEN) => {
                let cause = "no token of the model's can come next".to_owned();
                if may_end { Ok(None) } else { Err(Error::FormatLost { cause }) }
            }
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Goes on by a token that may come.
    pub(crate) fn push(&mut self, token: u32) -> Result<()> {
        self.matcher.consume_token(token).map_err(|error| self.lost(error))
    }

    fn lost(&self, error: impl fmt::Display) -> Error {
        self.lexer.spoil();
        Error::FormatLost { cause: in_short(&error.to_string()) }
    }
}

/// Tokens that may come next.
#[derive(Debug)]
pub(crate) struct Allowed(SimpleVob);

impl Allowed {
    /// Makes all others impossible.
    pub(crate) fn restrict(&self, logits: &mut [f32]) {
        let words = self.0.as_slice();
        for (number, logits) in logits.chunks_mut(32).enumerate() {
            // What the model knows beyond the vocabulary's tokens is no text.
            let word = words.get(number).copied().unwrap_or(0);
            if word == u32::MAX {
                continue;
            }
            for (bit, logit) in logits.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}
