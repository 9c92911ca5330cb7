//! Tokenizers: load, learn, extend, measure.
//!
//! SentencePiece models are encoded by our own implementation, with the ids of Google's library; `tokenizer.json` through
//! Hugging Face's `tokenizers`; tiktoken vocabularies by our own byte pair encoding.

mod cache;
mod error;
mod folder;
mod hash;
mod json;
mod merges;
mod pool;
mod sentencepiece;
mod tiktoken;
mod tokenizer;
mod trie;

pub use error::{Error, Result, TextError};
pub use tokenizer::{Encoding, Tokenizer};
