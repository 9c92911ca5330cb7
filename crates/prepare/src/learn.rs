//! Vocabularies and pieces that are learned from datasets.

use palimpsest_api::Dataset;
use palimpsest_corpus::{Error, count_words};
use palimpsest_store::Mounts;
use palimpsest_vocab::{
    LearnOptions, Piece, PieceOptions, Result, Tokenizer, WordCounter, learn_from_words, learn_pieces_from_words,
};

/// Learns a new vocabulary from datasets, on so many threads; their number makes no difference to it.
pub fn learn_vocabulary(
    datasets: &[&Dataset],
    mounts: &Mounts,
    size: usize,
    threads: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Tokenizer> {
    let options = LearnOptions::default();
    let counter = WordCounter::new(&options);
    let counts = count_words(datasets.iter().copied(), mounts, &counter, threads, go_on).map_err(in_texts)?;
    learn_from_words(counts, size, &options, threads, go_on)
}

/// Learns so many pieces that a vocabulary lacks, as [`learn_vocabulary`] does.
pub fn learn_extension(
    base: &Tokenizer,
    datasets: &[&Dataset],
    mounts: &Mounts,
    count: usize,
    threads: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Vec<Piece>> {
    let counter = WordCounter::extending(base)?;
    let counts = count_words(datasets.iter().copied(), mounts, &counter, threads, go_on).map_err(in_texts)?;
    learn_pieces_from_words(base, counts, count, &PieceOptions::default(), threads, go_on)
}

fn in_texts(error: Error) -> palimpsest_vocab::Error {
    match error {
        Error::Cancelled => palimpsest_vocab::Error::Stopped,
        error => palimpsest_vocab::Error::Texts(error.into()),
    }
}
