//! What OpenAI's API asks and answers.

mod chat;
mod completion;
mod error;
mod fields;
mod format;
mod messages;
#[cfg(test)]
mod mutations;
mod settings;
mod shape;

pub(crate) use chat::ChatRequest;
pub(crate) use completion::{CompletionRequest, Prompt};
pub(crate) use error::{ApiError, json_response};
pub(crate) use format::check_bytes;
pub(crate) use settings::{BIASES, STOP_BYTES, STOP_TOKENS, STOPS, Settings, StreamOptions};
pub(crate) use shape::{Api, Choice, NamedToken, Shape, Usage};
