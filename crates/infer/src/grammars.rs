//! Formats made into what says which tokens may come next. The grammars are llguidance's.

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

use crate::constraint::Constraint;
use crate::error::{Error, Result};
use crate::format::Format;

mod kept;

use kept::Kept;
pub(crate) use kept::Lexer;

/// Bytes that a token may have: as many as the tree of tokens can hold.
const TOKEN_BYTES: usize = 1000;

/// Characters of what is told of a format that can't be followed, which may be long.
const CAUSE_CHARACTERS: usize = 200;

/// Room on the stack for a grammar to be read in, which goes as deep as it is nested.
const STACK_BYTES: usize = 256 << 20;

/// The tokens of a model as text, by which formats are followed. Made once for a model, it can be shared by engines.
pub struct Grammars {
    factory: ParserFactory,
    kept: Kept,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vocabulary = self.factory.tok_env().tok_trie().vocab_size();
        formatter.debug_struct("Grammars").field("vocabulary", &vocabulary).finish_non_exhaustive()
    }
}

impl Grammars {
    /// Bytes of a schema, a regular expression or a grammar at most.
    pub const MOST_BYTES: usize = 128 << 10;

    /// Of the bytes that each token adds to a text, by its id; none of those that are no text, as BOS. What is in `ends` ends a text, where the
    /// format may end, and is never part of it.
    pub fn new(mut tokens: Vec<Vec<u8>>, ends: &[u32]) -> Result<Self> {
        let vocabulary = tokens.len();
        for end in ends {
            let Some(bytes) = tokens.get_mut(*end as usize) else {
                return Err(Error::UnknownEnd { token: *end, vocabulary });
            };
            bytes.clear();
        }
        for bytes in &mut tokens {
            // A byte that no text begins with would mark it as special.
            if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) || bytes.len() > TOKEN_BYTES {
                bytes.clear();
            }
        }
        let first_end = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let mut trie = TokTrie::from(&TokRxInfo::new(vocabulary as u32, first_end), &tokens);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(ends);
        }
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
            .map_err(|error| Error::FormatLost { cause: in_short(&error.to_string()) })?;
        factory.quiet();
        let limits = factory.limits_mut();
        // Errors are told to clients, who know their grammar.
        limits.verbose_errors = false;
        // A state takes a kilobyte or two. Those who follow one format share its states.
        limits.max_lexer_states = 20_000;
        Ok(Self { factory, kept: Kept::default() })
    }

    /// What follows a format that was read before; nothing where it would have to be read.
    pub fn known(&self, format: &Format) -> Option<Constraint> {
        self.kept.find(format)
    }

    /// What follows a format; an error where it can't be followed. It is read once for all who ask for it.
    pub fn constraint(&self, format: &Format) -> Result<Constraint> {
        match self.known(format) {
            Some(constraint) => Ok(constraint),
            None => self.kept.keep(format, self.read(format)?),
        }
    }

    fn read(&self, format: &Format) -> Result<Matcher> {
        let refusal = |cause: String| Error::Format { field: format.field(), cause, remedy: format.remedy() };
        let bytes = format.text().len();
        if bytes > Self::MOST_BYTES {
            let field = format.field();
            return Err(Error::FormatTooLarge { field, bytes, most: Self::MOST_BYTES });
        }
        let grammar = match format {
            Format::JsonSchema(schema) => TopLevelGrammar::from_json_schema(
                serde_json::from_str(schema).map_err(|error| refusal(error.to_string()))?,
            ),
            Format::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Format::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
        };
        let build = || Matcher::new(self.factory.create_parser(grammar));
        let matcher = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
            // A panic of the thread's would have been caught by llguidance.
            builder.spawn_scoped(scope, build).ok().and_then(|thread| thread.join().ok())
        });
        let mut matcher = matcher.ok_or_else(|| refusal("it could not be read".to_owned()))?;
        match matcher.get_error() {
            Some(error) => Err(refusal(in_short(&error))),
            // Notices where nothing at all may come.
            None => {
                matcher.consume_tokens(&[]).map_err(|error| refusal(in_short(&error.to_string())))?;
                Ok(matcher)
            }
        }
    }
}

/// What llguidance says in one line of bounded length. It goes on with where that is, and with its own state.
pub(crate) fn in_short(message: &str) -> String {
    // Of a regular expression, the reason comes after it.
    let reason = message.lines().find_map(|line| line.strip_prefix("error: "));
    let line = reason.or_else(|| message.lines().next()).unwrap_or_default();
    line.trim().chars().take(CAUSE_CHARACTERS).collect()
}

#[cfg(test)]
mod tests;
