//! Learned vocabularies against those of `sentencepiece`'s own trainer, extension, and the card's table.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use palimpsest_vocab::{LearnOptions, Piece, PieceOptions, Row, Tokenizer, extend, learn, learn_pieces, measure};
use serde_json::json;
use std::collections::BTreeSet;
use support::{Reference, corpus_texts, data, ok};

/// Every tenth document is held out.
fn split(texts: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (held_out, learned): (Vec<_>, Vec<_>) = texts.into_iter().enumerate().partition(|(index, _)| index % 10 == 0);
    let texts = |list: Vec<(usize, String)>| list.into_iter().map(|(_, text)| text).collect();
    (texts(learned), texts(held_out))
}

fn tokens(tokenizer: &Tokenizer, texts: &[String]) -> u64 {
    measure(&[("", tokenizer)], ok(texts)).unwrap()[0].tokens
}

#[test]
fn learned_vocabularies_compress_as_sentencepieces_own() {
    let (Some(data), Some(mut reference)) = (data(), Reference::new()) else { return };
    for (language, size) in [("en", 4096), ("zh", 12_000)] {
        let (learned_from, held_out) = split(corpus_texts(&data, &[language]));
        reference.texts(&learned_from);
        let path = reference.folder(&format!("{language}.model"));
        let options = json!({
            "model_type": "bpe", "vocab_size": size, "character_coverage": 0.9995, "byte_fallback": true,
            "normalization_rule_name": "identity", "remove_extra_whitespaces": false, "split_digits": true,
            "allow_whitespace_only_pieces": true, "max_sentence_length": 100_000, "num_threads": 1,
        });
        let job = ("sentencepiece-train", path.as_path(), json!({"options": options}));
        reference.run(std::iter::once(job));
        let theirs = tokens(&Tokenizer::open(&path).unwrap(), &held_out);
        let begun = std::time::Instant::now();
        let tokenizer = learn(ok(&learned_from), size, &LearnOptions::default(), &mut || true).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let ours = tokens(&tokenizer, &held_out);
        let ratio = ours as f64 / theirs as f64;
        println!("{language}: {ours} ids on held-out texts, sentencepiece's own {theirs}: {ratio:.4} ({seconds:.1} s)");
        assert_eq!(tokenizer.vocabulary_size(), size);
        assert!(ratio < 1.02, "{language}: {ratio}");
    }
}

#[test]
fn learning_is_deterministic() {
    let Some(data) = data() else { return };
    let texts = corpus_texts(&data, &["qa"]);
    let digest = || learn(ok(&texts), 3000, &LearnOptions::default(), &mut || true).unwrap().digest();
    assert_eq!(digest(), digest());
    let base = learn(ok(&texts), 3000, &LearnOptions::default(), &mut || true).unwrap();
    let pieces = || {
        learn_pieces(&base, ok(&texts), 500, &PieceOptions { ascii: Some(true), ..Default::default() }, &mut || true)
    };
    assert_eq!(pieces().unwrap(), pieces().unwrap());
}

#[test]
fn an_extension_keeps_english_and_shortens_chinese() {
    let Some(data) = data() else { return };
    let base = Tokenizer::open(&data.join("tokenizers/llama-2-7b")).unwrap();
    let (learned_from, held_out) = split(corpus_texts(&data, &["zh"]));
    let begun = std::time::Instant::now();
    let pieces = learn_pieces(&base, ok(&learned_from), 8000, &PieceOptions::default(), &mut || true).unwrap();
    println!("learned 8000 pieces in {:.1} s", begun.elapsed().as_secs_f64());
    let extension = extend(&base, &pieces, None).unwrap();
    let extended = &extension.tokenizer;
    assert_eq!(extension.first_new_id, 32_000);
    assert_eq!(extended.vocabulary_size(), 40_000);
    assert_eq!((extended.bos(), extended.eos()), (base.bos(), base.eos()));
    assert!(extension.unreachable.is_empty(), "{:?}", extension.unreachable);

    // The card's order: by length.
    let lengths: Vec<usize> = (32_000..40_000).map(|id| extended.piece(id).unwrap().chars().count()).collect();
    assert!(lengths.is_sorted());
    assert!((0..32_000).all(|id| base.piece(id) == extended.piece(id)));

    // A text is the base's ids, some of them joined; sources are what they are joined from.
    let sources = |id: u32| match id.checked_sub(extension.first_new_id) {
        None => vec![id],
        Some(new) => extension.sources[new as usize].clone(),
    };
    let mut used = BTreeSet::new();
    for text in corpus_texts(&data, &["en", "zh", "qa"]) {
        let (old, new) = (base.encode(&text).unwrap(), extended.encode(&text).unwrap());
        assert_eq!(old, new.iter().flat_map(|id| sources(*id)).collect::<Vec<_>>(), "{text:?}");
        if text.is_ascii() {
            assert_eq!(old, new);
        }
        used.extend(new);
    }
    let used = used.range(32_000..).count();
    let (before, after) = (tokens(&base, &held_out), tokens(extended, &held_out));
    println!("held-out Chinese: {before} ids, {after} with the extension; {used} new ids are used");
    assert!((after as f64) < 0.6 * before as f64);
    assert!(used > 7900, "{used}");
}

#[test]
fn given_pieces_are_encoded_alike_by_all_three() {
    let (Some(data), Some(mut reference)) = (data(), Reference::new()) else { return };
    let tokenizers = data.join("tokenizers");
    let base = Tokenizer::open(&tokenizers.join("llama-2-7b")).unwrap();
    let chinese = Tokenizer::open(&tokenizers.join("chinese-llama-alpaca-sp/chinese_sp.model")).unwrap();
    let mut pieces: Vec<Piece> = (3..20_000).map(|id| Piece::from(chinese.piece(id).unwrap())).collect();
    // Pieces with a character that has no piece, that are there already, that are given twice, that nothing merges into.
    pieces.extend(["龘龘", "龘靐", "the", "中国", "x龘", "中国", "q\u{30A2}\u{30A2}z"].map(Piece::from));
    let extension = extend(&base, &pieces, None).unwrap();
    println!("{} of {} given pieces cannot be reached", extension.unreachable.len(), extension.sources.len());
    assert!(extension.unreachable.len() < extension.sources.len() / 4);
    let folder = reference.folder("given");
    let saved = extension.tokenizer.save(&folder).unwrap();
    assert_eq!(saved.warnings, Vec::<String>::new());
    let mut texts = corpus_texts(&data, &["zh", "qa"]);
    texts.extend(support::fuzzed(20_000));
    texts.extend(["龘龘龘靐x龘", "中龘龘国", "a龘"].map(String::from));
    reference.texts(&texts);
    let model = folder.join("tokenizer.model");
    let jobs = [("sentencepiece", model.as_path(), json!({})), ("transformers", folder.as_path(), json!({}))];
    for expected in reference.run(jobs.into_iter()) {
        for (text, expected) in texts.iter().zip(expected) {
            assert_eq!(extension.tokenizer.encode(text).unwrap(), expected, "{text:?}");
        }
    }
}

/// Saves of imported tokenizers: what the tokenizer.json can express is the same, and what it cannot is said.
#[test]
fn saved_imports_agree_or_say_that_they_do_not() {
    let (Some(data), Some(mut reference)) = (data(), Reference::new()) else { return };
    let mut texts: Vec<String> = corpus_texts(&data, &["en", "zh", "qa"]).into_iter().step_by(20).collect();
    texts.extend(support::fuzzed(10_000));
    reference.texts(&texts);
    let names = ["llama-2-7b", "chatglm2-6b", "qwen-7b", "chinese-llama-2-7b", "chinese-llama-alpaca-sp"];
    let tokenizers: Vec<_> = names
        .iter()
        .map(|name| {
            let tokenizer = Tokenizer::open(&data.join("tokenizers").join(name)).unwrap();
            let folder = reference.folder(name);
            let saved = tokenizer.save(&folder).unwrap();
            (name, tokenizer, folder, saved)
        })
        .collect();
    let jobs = tokenizers.iter().map(|(.., folder, _)| ("transformers", folder.as_path(), json!({})));
    let expected = reference.run(jobs.collect::<Vec<_>>().into_iter());
    for ((name, tokenizer, folder, saved), expected) in tokenizers.iter().zip(expected) {
        let differ = texts.iter().zip(&expected).filter(|(text, ids)| tokenizer.encode(text).unwrap() != **ids).count();
        println!("{name}: {differ} of {} texts differ; {:?}", texts.len(), saved.warnings);
        assert_eq!(differ == 0, saved.warnings.is_empty(), "{name}: {differ} {:?}", saved.warnings);
        if tokenizer.kind() != "a tiktoken vocabulary" {
            assert_eq!(Tokenizer::open(folder).unwrap().digest(), tokenizer.digest(), "{name}");
        }
        if ["llama-2-7b", "chatglm2-6b", "qwen-7b"].contains(name) {
            assert_eq!(differ, 0, "{name}");
        }
    }
}

#[test]
fn the_cards_table_has_the_cards_order() {
    let Some(data) = data() else { return };
    let names = ["chatglm2-6b", "qwen-7b", "chinese-llama-2-7b", "llama-2-7b"];
    let tokenizers = names.map(|name| Tokenizer::open(&data.join("tokenizers").join(name)).unwrap());
    let named: Vec<(&str, &Tokenizer)> = names.into_iter().zip(&tokenizers).collect();
    let rows = measure(&named, ok(&corpus_texts(&data, &["zh"]))).unwrap();
    for row in &rows {
        println!(
            "{:20} {:7} {:.3} {:8.3} {:.3} {:6}",
            row.name, row.vocabulary, row.tokens_per_character, row.average_length, row.bytes_per_token, row.unused
        );
    }
    let row = |name: &str| -> &Row { rows.iter().find(|row| row.name == name).unwrap() };
    for better in ["chatglm2-6b", "qwen-7b", "chinese-llama-2-7b"] {
        assert!(row(better).tokens_per_character < 0.75 * row("llama-2-7b").tokens_per_character, "{better}");
    }
    assert_eq!(rows.iter().map(|row| row.vocabulary).collect::<Vec<_>>(), [64_789, 151_643, 55_296, 32_000]);
}
