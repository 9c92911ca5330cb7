//! Ids, decoding and positions against `sentencepiece` for models with every option that its trainer has.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use palimpsest_random::Stream;
use palimpsest_vocab::Tokenizer;
use serde_json::{Value, json};
use std::path::PathBuf;
use support::{Reference, corpus_texts, data, fuzzed, write_ids};

#[test]
fn every_kind_of_model_encodes_and_decodes_as_sentencepiece() {
    let (Some(data), Some(mut reference)) = (data(), Reference::new()) else { return };
    let corpus = corpus_texts(&data, &["en", "zh", "qa"]);
    let sample: Vec<String> = corpus.iter().step_by(40).cloned().collect();
    reference.texts(&sample);
    let user_defined = json!(["<sep>", "中国", "ab", "▁the", "哈哈", "x y"]);
    let variants: [(&str, Value); 9] = [
        ("bpe", json!({"model_type": "bpe", "byte_fallback": true, "user_defined_symbols": user_defined})),
        ("bpe-unused", json!({"model_type": "bpe", "byte_fallback": true, "split_by_whitespace": false})),
        ("bpe-unknown", json!({"model_type": "bpe", "normalization_rule_name": "nmt_nfkc_cf"})),
        ("bpe-suffix", json!({"model_type": "bpe", "treat_whitespace_as_suffix": true, "byte_fallback": true})),
        ("unigram", json!({"model_type": "unigram", "byte_fallback": true, "user_defined_symbols": user_defined})),
        ("unigram-unused", json!({"model_type": "unigram", "normalization_rule_name": "nfkc"})),
        (
            "unigram-plain",
            json!({"model_type": "unigram", "add_dummy_prefix": false, "remove_extra_whitespaces": false,
            "normalization_rule_name": "identity"}),
        ),
        ("char", json!({"model_type": "char", "character_coverage": 0.98, "user_defined_symbols": user_defined})),
        ("char-bytes", json!({"model_type": "char", "byte_fallback": true})),
    ];
    let jobs: Vec<(PathBuf, Value)> = variants
        .iter()
        .map(|(name, options)| {
            let mut options = options.clone();
            options["vocab_size"] = json!(6000);
            options["hard_vocab_limit"] = json!(options["model_type"] == "bpe");
            options["num_threads"] = json!(1);
            let unused = if name.ends_with("unused") { 7 } else { 0 };
            (reference.folder(&format!("{name}.model")), json!({"options": options, "unused": unused}))
        })
        .collect();
    reference.run(jobs.iter().map(|(path, job)| ("sentencepiece-train", path.as_path(), job.clone())));

    let mut texts = fuzzed(20_000);
    texts.extend(corpus.iter().step_by(60).cloned());
    reference.texts(&texts);
    let ids = reference.run(jobs.iter().map(|(path, _)| ("sentencepiece", path.as_path(), json!({}))));
    let ends = reference.run(jobs.iter().map(|(path, _)| ("sentencepiece-ends", path.as_path(), json!({}))));
    for (((path, _), ids), ends) in jobs.iter().zip(&ids).zip(&ends) {
        let tokenizer = Tokenizer::open(path).unwrap();
        for ((text, ids), ends) in texts.iter().zip(ids).zip(ends) {
            assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{path:?} {text:?}");
            let encoding = tokenizer.encode_with_ends(text).unwrap();
            assert_eq!(encoding.ids, *ids, "{path:?} {text:?}");
            for ((id, end), expected) in ids.iter().zip(&encoding.ends).zip(ends) {
                // Sentencepiece lets only the last byte of a character cover it.
                let is_byte = tokenizer.piece(*id).is_some_and(|piece| piece.starts_with("<0x"));
                if !is_byte {
                    assert_eq!(*end, *expected, "{path:?} {text:?} {encoding:?} {ends:?}");
                }
            }
            assert!(encoding.ends.is_sorted(), "{path:?} {text:?} {encoding:?}");
            assert!(encoding.ends.last().is_none_or(|end| *end as usize <= text.len()));
        }
    }
    compare_decoding(&mut reference, &jobs, ids);
}

fn compare_decoding(reference: &mut Reference, jobs: &[(PathBuf, Value)], ids: Vec<Vec<Vec<u32>>>) {
    let mut lists = Vec::new();
    for (index, ((path, _), ids)) in jobs.iter().zip(ids).enumerate() {
        let size = Tokenizer::open(path).unwrap().vocabulary_size() as u64;
        let mut random = Stream::new(2, "random ids", &[index as u64]);
        let mut all: Vec<Vec<u32>> = ids.into_iter().step_by(10).collect();
        all.extend((0..3_000).map(|_| (0..random.below(12)).map(|_| random.below(size) as u32).collect()));
        let input = reference.folder(&format!("decoded-{index}"));
        write_ids(&input, &all);
        lists.push((input, all));
    }
    let jobs_of_lists = jobs.iter().zip(&lists);
    let decoded = reference.run_texts(
        jobs_of_lists.map(|((path, _), (input, _))| ("sentencepiece-decode", path.as_path(), json!({"input": input}))),
    );
    for (((path, _), (_, lists)), decoded) in jobs.iter().zip(&lists).zip(decoded) {
        let tokenizer = Tokenizer::open(path).unwrap();
        for (ids, text) in lists.iter().zip(decoded) {
            assert_eq!(tokenizer.decode(ids), text, "{path:?} {ids:?}");
        }
    }
}
