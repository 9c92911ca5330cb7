//! Tells what is new of a choice, with its echo and the names of its tokens.

use std::sync::Arc;

use palimpsest_proto::inference::Token;

use crate::generation::{End, Generation, Piece, finish_reason};
use crate::openai::{ApiError, Choice, NamedToken};
use crate::text::{Detokenizer, TokenTexts};

/// What an answer gives of the prompt.
#[derive(Clone, Debug)]
pub(crate) struct Echo {
    /// The prompt's text.
    pub(crate) text: String,
    /// Decodes the prompt from its beginning.
    pub(crate) detokenizer: Detokenizer,
}

/// Tells what is new of a choice.
#[derive(Debug)]
pub(crate) struct Teller {
    index: usize,
    generation: Generation,
    /// Calls tokens by their names, where log-probabilities are told.
    names: Option<Arc<TokenTexts>>,
    echo: Option<Echo>,
    echo_is_told: bool,
    /// Characters of the text so far.
    offset: usize,
}

/// What is new, and whether it is the last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) choice: Choice,
    /// Whether a token came.
    pub(crate) tokens: u64,
    pub(crate) end: Option<End>,
}

impl Teller {
    pub(crate) fn new(
        index: usize,
        generation: Generation,
        names: Option<Arc<TokenTexts>>,
        echo: Option<Echo>,
    ) -> Self {
        // With log-probabilities the prompt's tokens are counted as they come.
        let offset = match (&echo, &names) {
            (Some(echo), None) => echo.text.chars().count(),
            _ => 0,
        };
        Self { index, generation, names, echo, echo_is_told: false, offset }
    }

    /// What comes next; nothing after the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>, ApiError> {
        let Some(piece) = self.generation.next().await? else { return Ok(None) };
        Ok(Some(self.part(piece)))
    }

    fn part(&mut self, piece: Piece) -> Part {
        let mut choice = Choice { index: self.index, ..Choice::default() };
        if let Some(echo) = self.echo.as_mut().filter(|_| !self.echo_is_told) {
            choice.text = std::mem::take(&mut echo.text);
            self.echo_is_told = true;
        }
        choice.text.push_str(&piece.text);
        choice.finish = piece.end.map(|end| finish_reason(end.reason));
        if let Some(names) = self.names.clone() {
            for token in &piece.prompt {
                let adds = self.echo.as_mut().map(|echo| echo.detokenizer.push(token.id)).unwrap_or_default();
                choice.tokens.push(named(&names, token, self.offset));
                self.offset += adds.chars().count();
            }
            if let Some(token) = &piece.token {
                choice.tokens.push(named(&names, token, self.offset));
                self.offset += piece.decoded.chars().count();
            }
        }
        Part { choice, tokens: u64::from(piece.token.is_some()), end: piece.end }
    }
}

fn named(names: &TokenTexts, token: &Token, offset: usize) -> NamedToken {
    let likeliest = token.likeliest.iter().map(|likely| (names.of(likely.id), likely.logprob)).collect();
    NamedToken { name: names.of(token.id), logprob: token.logprob, likeliest, offset }
}
