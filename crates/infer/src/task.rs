//! What is asked of an engine, and what comes of it.

use crate::error::{Error, Result};
use crate::format::Format;
use crate::logprobs::Logprobs;
use crate::request::Request;
use crate::sampler::Sampling;

/// What is asked for, and how it is drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// Which tokens to go on from, and how many to give: none, only where the log-probabilities of the prompt are asked for.
    pub request: Request,
    /// How they are drawn.
    pub sampling: Sampling,
    /// Tokens that end it; the one that did is its last. Empty where the model's ends are tokens as any other.
    pub ends: Vec<u32>,
    /// Gives the log-probability of each token, and those of as many likeliest ones in its place; at most [`Task::MOST_LOGPROBS`].
    pub logprobs: Option<usize>,
    /// What its output must look like; it ends where that is complete. Those of [`Grammars`](crate::Grammars) that end texts come only where
    /// the format may end, and end it, even where `ends` has none.
    pub format: Option<Format>,
}

impl Task {
    /// Likeliest tokens that may be asked for in a token's place.
    pub const MOST_LOGPROBS: usize = 128;

    /// Says what a model of so many tokens can't be asked for.
    pub fn check(&self, vocabulary: usize) -> Result<()> {
        self.sampling.check()?;
        if let Some(token) = self.request.prompt.iter().find(|token| **token as usize >= vocabulary) {
            return Err(Error::UnknownToken { token: *token, vocabulary });
        }
        if self.request.new_tokens == 0 && !self.request.prompt_logprobs {
            return Err(Error::NothingAskedFor);
        }
        match self.logprobs {
            Some(count) if count > Self::MOST_LOGPROBS => {
                Err(Error::Setting { field: "logprobs", value: count as f64, bounds: "at most 128" })
            }
            _ => Ok(()),
        }
    }
}

/// Why there is no more of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// One of the tokens that end it came, or its format is complete.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

/// What comes of a request, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Its first step is about to be computed: it waits no longer.
    Started {
        /// Tokens of its prompt whose keys and values were in the cache already.
        cached_tokens: usize,
    },
    /// Of the tokens of its prompt but the first, where they are asked for: in parts, in order, each once.
    Prompt(Vec<Logprobs>),
    /// The next token.
    Token {
        /// The token.
        token: u32,
        /// Its log-probability, where it is asked for.
        logprobs: Option<Logprobs>,
    },
    /// Nothing more, because it is done.
    Finished {
        /// Why.
        reason: Finish,
        /// Tokens that it was given, the one that ended it among them.
        tokens: usize,
        /// Tokens of its prompt whose keys and values were in the cache already.
        cached_tokens: usize,
    },
    /// Nothing more, because of this. No other request is touched.
    Failed(Error),
}
