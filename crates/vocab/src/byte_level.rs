//! The `tokenizer.json` of GPT-2's descendants, by our own byte pair encoding: words cut by rule, then bytes merged.
//!
//! The library goes through a regular expression and allocates strings for each word. What a file asks of it beyond the
//! plain form is recognised when the file is read, or a text is encoded, and left to it; the ids are the same.

use crate::cache::WordCache;
use crate::hash::FastMap;
use crate::merges::{Merge, MergeTable, Merger, NO_SYMBOL, Symbol};
use crate::pool::Pool;
use crate::words::{self, WordRule};
use serde::Deserialize;
use serde_json::Value;
use unicode_normalization_alignments::is_nfc;

/// A text is searched for so many added tokens at most.
const MOST_ADDED: usize = 16;

/// A byte-level vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct ByteLevel {
    cut: Cut,
    /// Whether text is brought into normal form C first. One that is not in it is left to the library, whose own tables
    /// say so: those of another version of Unicode know other compositions.
    composes: bool,
    /// Tokens that are looked for before text is cut. A text with any of them is left to the library.
    added: Vec<String>,
    /// The ids of the single bytes. Those that the vocabulary lacks have none and are passed over, as by the library.
    bytes: Vec<u32>,
    table: MergeTable,
    /// Words that are a token whatever the merges say; empty where there are no such.
    whole: FastMap<Box<[u8]>, u32>,
    pool: Pool<(Merger, WordCache)>,
}

/// How text is cut into words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cut {
    /// As tiktoken's cl100k and Qwen do.
    Rule(WordRule),
    /// As GPT-2 does.
    Gpt2,
    /// Each digit alone, and what lies between as GPT-2 does.
    Digits,
}

#[derive(Deserialize)]
struct File {
    normalizer: Value,
    pre_tokenizer: Value,
    model: Model,
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Added {
    content: String,
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    r#type: String,
    vocab: FastMap<String, u32>,
    merges: Vec<Pair>,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(default)]
    byte_fallback: bool,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Pair {
    Joined(String),
    Split(String, String),
}

impl ByteLevel {
    /// The vocabulary of a file, if it is of the plain form.
    pub(crate) fn recognise(file: &[u8]) -> Option<Self> {
        let File { normalizer, pre_tokenizer, model, added_tokens } = serde_json::from_slice(file).ok()?;
        let composes = match &normalizer {
            Value::Null => false,
            other if other["type"] == "NFC" => true,
            _ => return None,
        };
        let cut = cut_of(&pre_tokenizer)?;
        let is_plain = model.r#type == "BPE"
            && !model.byte_fallback
            && model.dropout.is_none()
            && model.unk_token.is_none()
            && model.continuing_subword_prefix.is_none_or(|prefix| prefix.is_empty())
            && model.end_of_word_suffix.is_none_or(|suffix| suffix.is_empty());
        if !is_plain {
            return None;
        }
        let added: Vec<String> =
            added_tokens.into_iter().filter(|token| !token.special).map(|token| token.content).collect();
        if added.len() > MOST_ADDED || added.iter().any(|content| content.is_empty() || !content.is_ascii()) {
            return None;
        }
        let characters = characters_of_bytes();
        let id_of = |character: &char| model.vocab.get(character.encode_utf8(&mut [0; 4]) as &str).copied();
        let bytes = characters.iter().map(|character| id_of(character).unwrap_or(NO_SYMBOL)).collect();
        let mut table = MergeTable::with_capacity(model.merges.len());
        for (rank, pair) in (0..).zip(&model.merges) {
            let (left, right) = match pair {
                Pair::Joined(pair) => pair.split_once(' ')?,
                Pair::Split(left, right) => (left.as_str(), right.as_str()),
            };
            let symbol = *model.vocab.get(&[left, right].concat())?;
            table.insert(*model.vocab.get(left)?, *model.vocab.get(right)?, Merge { rank, symbol });
        }
        let mut whole = FastMap::default();
        if model.ignore_merges {
            let of_character: FastMap<char, u8> = characters.iter().copied().zip(0..=u8::MAX).collect();
            whole.extend(model.vocab.iter().filter_map(|(token, id)| {
                let bytes: Option<Box<[u8]>> =
                    token.chars().map(|character| of_character.get(&character).copied()).collect();
                Some((bytes?, *id))
            }));
        }
        Some(Self { cut, composes, added, bytes, table, whole, pool: Pool::default() })
    }

    /// The ids of a text, unless it needs the library.
    pub(crate) fn encode(&self, text: &str) -> Option<Vec<u32>> {
        if self.composes && !is_nfc(text) || self.added.iter().any(|content| text.contains(content.as_str())) {
            return None;
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        self.pool.with(|(merger, cache)| {
            self.each_word(text, |word| self.encode_word(word.as_bytes(), merger, cache, &mut ids));
        });
        Some(ids)
    }

    fn each_word<'a>(&self, text: &'a str, mut visit: impl FnMut(&'a str)) {
        let mut cut = |mut text: &'a str, first_word: &dyn Fn(&str) -> usize| {
            while !text.is_empty() {
                let (word, rest) = text.split_at(first_word(text));
                visit(word);
                text = rest;
            }
        };
        match self.cut {
            Cut::Rule(rule) => cut(text, &|text| rule.first_word(text)),
            Cut::Gpt2 => cut(text, &words::first_word_of_gpt2),
            Cut::Digits => {
                for stretch in text.split_inclusive(char::is_numeric) {
                    let last = stretch.char_indices().next_back().filter(|(_, character)| character.is_numeric());
                    let (before, digit) = stretch.split_at(last.map_or(stretch.len(), |(start, _)| start));
                    cut(before, &words::first_word_of_gpt2);
                    cut(digit, &str::len);
                }
            }
        }
    }

    fn encode_word(&self, word: &[u8], merger: &mut Merger, cache: &mut WordCache, ids: &mut Vec<u32>) {
        cache.append(word, ids, |ids| match self.whole.get(word) {
            Some(id) => ids.push(*id),
            None => {
                let symbols = (1..).zip(word).map(|(end, byte)| Symbol { id: self.bytes[usize::from(*byte)], end });
                merger.append(symbols.filter(|symbol| symbol.id != NO_SYMBOL), &self.table, ids);
            }
        });
    }
}

fn cut_of(pre_tokenizer: &Value) -> Option<Cut> {
    let steps = match pre_tokenizer["type"].as_str()? {
        "Sequence" => pre_tokenizer["pretokenizers"].as_array()?.as_slice(),
        _ => std::slice::from_ref(pre_tokenizer),
    };
    let (last, before) = steps.split_last()?;
    if last["type"] != "ByteLevel" || last["add_prefix_space"] != false {
        return None;
    }
    let by_regex = last["use_regex"].as_bool().unwrap_or(true);
    match (before, by_regex) {
        ([], true) => Some(Cut::Gpt2),
        ([digits], true) if digits["type"] == "Digits" && digits["individual_digits"] == true => Some(Cut::Digits),
        ([split], false) if split["type"] == "Split" && split["behavior"] == "Isolated" && split["invert"] == false => {
            let pattern = split["pattern"]["Regex"].as_str()?;
            let rules = [1, 3].map(|digits| WordRule { digits });
            rules.into_iter().find(|rule| rule.pattern() == pattern).map(Cut::Rule)
        }
        _ => None,
    }
}

/// The character by which a byte-level vocabulary writes each byte: printing ones themselves, the others from U+0100 on.
fn characters_of_bytes() -> Vec<char> {
    let mut others = '\u{100}'..;
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..);
    (0..=u8::MAX).filter_map(|byte| if prints(byte) { Some(char::from(byte)) } else { others.next() }).collect()
}

#[cfg(test)]
mod tests {
    use super::{ByteLevel, characters_of_bytes};
    use crate::json::JsonTokenizer;
    use crate::words::WordRule;
    use serde_json::{Value, json};
    use std::sync::LazyLock;
    use tokenizers::models::TrainerWrapper;
    use tokenizers::models::bpe::{BPE, BpeTrainer};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel as PreTokenizer;
    use tokenizers::{Model, TokenizerBuilder};

    const FILES: [&str; 3] = ["en/rust_book", "zh/python_docs", "qa/kdconv_zh"];

    /// Text of two languages, and characters of every kind between others: all but those that lie deep in a block of one
    /// kind.
    static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut texts = Vec::new();
        for file in FILES {
            let path = format!("{}/../../examples/corpora/{file}.jsonl", env!("CARGO_MANIFEST_DIR"));
            let lines = std::fs::read_to_string(path).unwrap();
            let records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            texts.extend(records.take(60).map(|record| record["target"].as_str().unwrap().to_owned()));
        }
        let around = |c: char| format!("{c}a {c} {c}{c}1{c}  {c}\n{c}'s {c}");
        let is_wanted = |character: &char| match *character as u32 {
            0x3500..0x4D00 | 0x4F00..0x9F00 | 0xAD00..0xD700 | 0xE100..0xF800 => false,
            number => number < 0x20000 || number < 0x40000 && number.is_multiple_of(8),
        };
        let all: Vec<String> = ('\0'..=char::MAX).filter(is_wanted).map(around).collect();
        texts.extend(all.chunks(512).map(<[String]>::concat));
        texts.extend(["", " ", "  ", "\n \n", "don't I'LL 'reve 'ſ ''s", "1234 5  67\t\t8"].map(str::to_owned));
        texts
    });

    /// A vocabulary that the library learns from the texts.
    static MODEL: LazyLock<Value> = LazyLock::new(|| {
        let alphabet = characters_of_bytes().into_iter().collect();
        let mut trainer: TrainerWrapper =
            BpeTrainer::builder().vocab_size(3000).show_progress(false).initial_alphabet(alphabet).build().into();
        let mut tokenizer = TokenizerBuilder::<
            tokenizers::ModelWrapper,
            tokenizers::NormalizerWrapper,
            tokenizers::PreTokenizerWrapper,
            tokenizers::PostProcessorWrapper,
            tokenizers::DecoderWrapper,
        >::new()
        .with_model(BPE::default().into())
        .with_pre_tokenizer(Some(PreTokenizer::new(false, true, true).into()))
        .build()
        .unwrap();
        tokenizer.train(&mut trainer, TEXTS.iter().take(180).cloned()).unwrap();
        assert!(tokenizer.get_model().get_vocab_size() > 2000);
        serde_json::to_value(tokenizer.get_model()).unwrap()
    });

    fn byte_level(use_regex: bool) -> Value {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
    }

    fn split(pattern: &str) -> Value {
        let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
    }

    fn file(normalizer: Value, pre_tokenizer: Value, ignore_merges: bool, added: Value) -> Vec<u8> {
        let mut model = MODEL.clone();
        model["ignore_merges"] = json!(ignore_merges);
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null, "model": model,
        });
        file.to_string().into_bytes()
    }

    /// Compares the ids of all texts with the library's; `left` of them are to be left to it.
    fn check(file: Vec<u8>, left: std::ops::Range<usize>) {
        let ours = ByteLevel::recognise(&file).unwrap();
        let library = JsonTokenizer::new(file).unwrap();
        let mut not_taken = 0;
        for text in TEXTS.iter() {
            match ours.encode(text) {
                Some(ids) => assert_eq!(ids, library.encode_by_library(text).unwrap(), "{text:?}"),
                None => not_taken += 1,
            }
        }
        assert!(left.contains(&not_taken), "{not_taken}");
    }

    #[test]
    fn ids_are_those_of_the_library() {
        let none = || json!([]);
        let digits = json!({"type": "Digits", "individual_digits": true});
        let digits = json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]});
        check(file(Value::Null, byte_level(true), false, none()), 0..1);
        check(file(Value::Null, digits, true, none()), 0..1);
        for digits in [1, 3] {
            check(file(Value::Null, split(&WordRule { digits }.pattern()), digits == 3, none()), 0..1);
        }
        let mut lacking: Value = serde_json::from_slice(&file(Value::Null, byte_level(true), false, none())).unwrap();
        for byte in [0x04, 0x06, 0xF1, 0xFE] {
            let character = characters_of_bytes()[byte].to_string();
            lacking["model"]["vocab"].as_object_mut().unwrap().remove(&character).unwrap();
        }
        check(lacking.to_string().into_bytes(), 0..1);
        check(file(json!({"type": "NFC"}), byte_level(true), false, none()), 1..500);
        let added = |content: &str, special: bool| {
            json!([{"id": 5000, "content": content, "special": special, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false}])
        };
        check(file(Value::Null, byte_level(true), false, added("fn", false)), 1..180);
        check(file(Value::Null, byte_level(true), false, added("fn", true)), 0..1);
    }

    #[test]
    fn the_tables_of_the_library_say_what_is_composed() {
        // Unicode 16 composes these two; the library's tables are older and leave them as they are.
        let composed_since = "\u{11382}\u{113C9}";
        assert!(!unicode_normalization::is_nfc(composed_since));
        let file = file(json!({"type": "NFC"}), byte_level(true), false, json!([]));
        let expected = JsonTokenizer::new(file.clone()).unwrap().encode_by_library(composed_since).unwrap();
        let ours = ByteLevel::recognise(&file).unwrap();
        assert_eq!(ours.encode(composed_since), Some(expected));
        assert_eq!(ours.encode("e\u{301}"), None);
    }

    #[test]
    fn other_forms_are_left_to_the_library() {
        let recognised = |normalizer: Value, pre_tokenizer: Value| {
            ByteLevel::recognise(&file(normalizer, pre_tokenizer, false, json!([]))).is_some()
        };
        assert!(recognised(Value::Null, byte_level(true)));
        assert!(!recognised(json!({"type": "NFKC"}), byte_level(true)));
        assert!(!recognised(Value::Null, Value::Null));
        assert!(!recognised(Value::Null, byte_level(false)));
        assert!(!recognised(Value::Null, split(r"\s+|\S+")));
        let mut prefixed = byte_level(true);
        prefixed["add_prefix_space"] = json!(true);
        assert!(!recognised(Value::Null, prefixed));
    }
}
