//! Ids against `sentencepiece`, `transformers` and `tiktoken` themselves, on every text of the test corpora and 100,000
//! fuzzed strings.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use palimpsest_vocab::{LearnOptions, PieceOptions, Tokenizer, extend, learn, learn_pieces};
use serde_json::json;
use std::path::{Path, PathBuf};
use support::{Reference, corpus_texts, data, fuzzed};

struct Case {
    name: &'static str,
    kind: &'static str,
    path: PathBuf,
}

fn case(name: &'static str, kind: &'static str, path: impl Into<PathBuf>) -> Case {
    Case { name, kind, path: path.into() }
}

#[test]
fn ids_are_those_of_the_libraries() {
    let (Some(data), Some(mut reference)) = (data(), Reference::new()) else { return };
    let mut texts = corpus_texts(&data, &["en", "zh", "qa"]);
    let from_corpora = texts.len();
    texts.extend(fuzzed(100_000));
    reference.texts(&texts);

    let tokenizers = data.join("tokenizers");
    let stories = data.join("models/stories260k");
    let learned = reference.folder("learned");
    let english = corpus_texts(&data, &["en"]);
    let base =
        learn(english.iter().cloned().map(Ok::<_, std::io::Error>), 4096, &LearnOptions::default(), &mut || true)
            .unwrap();
    assert_eq!(base.save(&learned).unwrap().warnings, Vec::<String>::new());
    let extended = reference.folder("extended");
    save_extension(&base, &data, 1500, &extended);
    let extended_llama = reference.folder("extended-llama");
    save_extension(&Tokenizer::open(&tokenizers.join("llama-2-7b")).unwrap(), &data, 6000, &extended_llama);

    let llama = tokenizers.join("llama-2-7b/tokenizer.model");
    let cases = [
        case("llama-2", "sentencepiece", &llama),
        case("chatglm2", "sentencepiece", tokenizers.join("chatglm2-6b/tokenizer.model")),
        case("chinese-llama-2", "sentencepiece", tokenizers.join("chinese-llama-2-7b/tokenizer.model")),
        case("chinese unigram", "sentencepiece", tokenizers.join("chinese-llama-alpaca-sp/chinese_sp.model")),
        case("stories260k", "sentencepiece", stories.join("tokenizer.model")),
        case("qwen", "tiktoken-qwen", tokenizers.join("qwen-7b/qwen.tiktoken")),
        case("smollm2", "transformers", data.join("models/smollm2-135m")),
        case("learned", "sentencepiece", learned.join("tokenizer.model")),
        case("learned, by transformers", "transformers", &learned),
        case("extended", "sentencepiece", extended.join("tokenizer.model")),
        case("extended LLaMA-2", "sentencepiece", extended_llama.join("tokenizer.model")),
        case("extended LLaMA-2, by transformers", "transformers", &extended_llama),
    ];
    // transformers also puts the beginning of a text before it, unless a tokenizer.json says otherwise.
    let jobs = cases.iter().map(|case| (case.kind, case.path.as_path(), json!({"special": true})));
    let expected = reference.run(jobs);
    for (case, expected) in cases.iter().zip(expected) {
        let tokenizer = Tokenizer::open(&case.path).unwrap();
        let start = std::time::Instant::now();
        let begins = case.kind == "transformers" && tokenizer.kind() != "a tokenizer.json";
        let bos = if begins { tokenizer.bos() } else { None };
        let mut different = Vec::new();
        for (index, (text, expected)) in texts.iter().zip(&expected).enumerate() {
            let ids = tokenizer.encode(text).unwrap();
            if !bos.iter().chain(&ids).eq(expected) {
                different.push((index, text, ids, expected));
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let on_corpora = different.iter().filter(|(index, ..)| *index < from_corpora).count();
        println!(
            "{}: {} of {} texts differ ({on_corpora} of {from_corpora} of the corpora), {seconds:.1} s",
            case.name,
            different.len(),
            texts.len(),
        );
        assert_eq!(expected.len(), texts.len());
        assert!(different.is_empty(), "{}: the first is {:?}", case.name, different.first());
    }
}

fn save_extension(base: &Tokenizer, data: &Path, count: usize, folder: &Path) {
    let chinese = corpus_texts(data, &["zh"]).into_iter().map(Ok::<_, std::io::Error>);
    let pieces = learn_pieces(base, chinese, count, &PieceOptions::default(), &mut || true).unwrap();
    let extension = extend(base, &pieces, Some(base.vocabulary_size() + count)).unwrap();
    assert_eq!(extension.unreachable, Vec::<u32>::new());
    assert_eq!(extension.sources.len(), count);
    assert_eq!(extension.tokenizer.save(folder).unwrap().warnings, Vec::<String>::new());
}
