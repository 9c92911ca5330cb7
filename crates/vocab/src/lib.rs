//! Tokenizers: load, learn, extend, measure.
//!
//! SentencePiece models are encoded by our own implementation, with the ids of Google's library; `tokenizer.json` through
//! Hugging Face's `tokenizers`; tiktoken vocabularies by our own byte pair encoding.

mod cache;
mod error;
mod export;
mod extend;
mod folder;
mod hash;
mod json;
mod learn;
mod measure;
mod merges;
mod pool;
mod save;
mod sentencepiece;
mod tiktoken;
mod tokenizer;
mod trie;
mod words;

pub use error::{Error, Result, TextError};
pub use extend::{Extension, Piece, extend, read_pieces};
pub use learn::{LearnOptions, PieceOptions, learn, learn_pieces};
pub use measure::{Row, measure};
pub use save::Saved;
pub use tokenizer::{Encoding, Tokenizer};
