//! Tokenizers: load, learn, extend, measure.
//!
//! SentencePiece models are encoded by our own implementation, with the ids of Google's library; tiktoken
//! vocabularies and a byte-level `tokenizer.json` by our own byte pair encoding, another one through Hugging Face's
//! `tokenizers`.

mod byte_level;
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
pub use learn::{
    CountedWords, LearnOptions, PieceOptions, WordCounter, WordCounts, learn, learn_from_words, learn_pieces,
    learn_pieces_from_words,
};
pub use measure::{Row, measure};
pub use save::Saved;
pub use tokenizer::{Encoding, Tokenizer};
