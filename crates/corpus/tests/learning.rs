//! A tokenizer is learned from datasets on any number of threads, and is the same.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use palimpsest_api::{Dataset, Fields};
use palimpsest_corpus::{Error, all_texts, count_words, dataset_of};
use palimpsest_store::Mounts;
use palimpsest_vocab::{
    LearnOptions, PieceOptions, Tokenizer, WordCounter, learn, learn_from_words, learn_pieces, learn_pieces_from_words,
};

fn datasets(folders: &[&str]) -> Vec<Dataset> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/corpora");
    folders.iter().map(|folder| dataset_of(&examples.join(folder), Fields::default()).unwrap()).collect()
}

fn learned(datasets: &[Dataset], threads: usize) -> Tokenizer {
    let options = LearnOptions::default();
    let counter = WordCounter::new(&options);
    let counts = count_words(datasets, &Mounts::default(), &counter, threads, &mut || true).unwrap();
    learn_from_words(counts, 4096, &options, threads, &mut || true).unwrap()
}

/// The digests are those that the learner had when it counted one word after the other on one thread. They may change only
/// with `LEARNER_VERSION`, which names what is learned.
#[test]
fn what_is_learned_is_the_same_on_any_number_of_threads() {
    let mounts = Mounts::default();
    let (both, chinese) = (datasets(&["en", "qa"]), datasets(&["zh"]));
    let base = learned(&both, 1);
    assert_eq!(base.digest(), "blake3:84cf021d72f362e155f22189e8832e06d489ebfdf662c0eb52856dadfd93552f");
    let in_turn = learn(all_texts(&both, &mounts), 4096, &LearnOptions::default(), &mut || true).unwrap();
    assert_eq!(in_turn.digest(), base.digest());
    let options = PieceOptions::default();
    let pieces = learn_pieces(&base, all_texts(&chinese, &mounts), 2000, &options, &mut || true).unwrap();
    let lines: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
    assert_eq!(
        blake3::hash(lines.join("\n").as_bytes()).to_string(),
        "0aa4576e06eebae309c38456620d26c6b52403b533fb6262e4d17b1b9564ad86"
    );
    for threads in [2, 3, 8] {
        assert_eq!(learned(&both, threads).digest(), base.digest(), "{threads}");
        let counter = WordCounter::extending(&base).unwrap();
        let counts = count_words(&chinese, &mounts, &counter, threads, &mut || true).unwrap();
        let again = learn_pieces_from_words(&base, counts, 2000, &options, threads, &mut || true).unwrap();
        assert_eq!(again, pieces, "{threads}");
    }
}

#[test]
fn counting_ends_when_it_is_called_off_and_at_a_broken_line() {
    let counter = WordCounter::new(&LearnOptions::default());
    let count = |datasets: &[Dataset], go_on: bool| {
        count_words(datasets, &Mounts::default(), &counter, 2, &mut || go_on).map(|_| ()).unwrap_err()
    };
    assert!(matches!(count(&datasets(&["en"]), false), Error::Cancelled));
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.jsonl");
    std::fs::write(&broken, "{\"target\": \"one\"}\n{\"target\": 2}\n").unwrap();
    let error = count(&[dataset_of(&broken, Fields::default()).unwrap()], true).to_string();
    assert!(error.contains("broken.jsonl") && error.contains("line 2"), "{error}");
    std::fs::write(&broken, "\n").unwrap();
    let error = count(&[dataset_of(&broken, Fields::default()).unwrap()], true);
    assert!(matches!(error, Error::EmptyDataset { .. }), "{error}");
}
