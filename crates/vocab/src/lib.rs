//! Tokenizers: load, learn, extend, measure.
