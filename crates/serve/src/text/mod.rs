//! Between text and ids: what goes in is encoded, what comes out is decoded as it comes.

mod chat_template;
mod detokenizer;
mod python_json;
mod special_tokens;
mod stop;
mod token_text;

pub(crate) use chat_template::ChatTemplate;
pub(crate) use detokenizer::Detokenizer;
pub(crate) use special_tokens::SpecialTokens;
pub(crate) use stop::StopMatcher;
pub use token_text::token_bytes;
pub(crate) use token_text::{TokenText, TokenTexts};
