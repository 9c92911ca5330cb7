//! Tokens that stand for no text, and text that names them.
//!
//! A chat template writes `<|im_start|>` and means the token. What a person writes means its text: were it the token, anybody who
//! may say something in a conversation could end his turn and begin another's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use aho_corasick::{AhoCorasick, MatchKind};
use palimpsest_vocab::Tokenizer;
use serde_json::Value;

use crate::error::{Error, Result};

/// Put into what people write where it names a token, and taken out again. It is no character. A token of one character, into which nothing
/// can be put, is put between two of them.
const BREAK: char = '\u{FDD0}';

/// The tokens that text can name.
#[derive(Clone, Debug)]
pub(crate) struct SpecialTokens {
    /// By their text.
    tokens: Vec<(String, u32)>,
    /// Finds their texts, the longest where several begin at once.
    finder: AhoCorasick,
    /// Finds the texts of those that stand for no text, all of them where some overlap.
    controls: AhoCorasick,
    /// `bos_token`, `eos_token` and so on, as templates know them.
    named: BTreeMap<String, String>,
}

impl SpecialTokens {
    /// Reads them from a model's folder.
    pub(crate) fn read(folder: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let mut texts = BTreeSet::new();
        let mut controls = BTreeSet::new();
        let mut add = |text: &str, is_control: bool| {
            texts.insert(text.to_owned());
            if is_control {
                controls.insert(text.to_owned());
            }
        };
        let config = read_json(&folder.join("tokenizer_config.json"))?;
        let map = read_json(&folder.join("special_tokens_map.json"))?;
        let tokenizer_json = read_json(&folder.join("tokenizer.json"))?;
        let listed = tokenizer_json["added_tokens"].as_array().into_iter().flatten();
        let decoder = config["added_tokens_decoder"].as_object().into_iter().flat_map(|map| map.values());
        for token in listed.chain(decoder) {
            if let Some(text) = token["content"].as_str() {
                add(text, token["special"].as_bool().unwrap_or(false));
            }
        }
        for (text, _) in read_json(&folder.join("added_tokens.json"))?.as_object().into_iter().flatten() {
            add(text, false);
        }
        let mut named = BTreeMap::new();
        for file in [&map, &config] {
            for (name, value) in file.as_object().into_iter().flatten() {
                if let (true, Some(text)) = (name.ends_with("_token"), text_of(value)) {
                    add(text, true);
                    named.insert(name.clone(), text.to_owned());
                }
            }
            for value in file["additional_special_tokens"].as_array().into_iter().flatten() {
                if let Some(text) = text_of(value) {
                    add(text, true);
                }
            }
        }
        for (name, id) in [("bos_token", tokenizer.bos()), ("eos_token", tokenizer.eos())] {
            if let Some(piece) = id.and_then(|id| tokenizer.piece(id)) {
                add(&piece, true);
                named.entry(name.to_owned()).or_insert(piece);
            }
        }
        let known = texts.into_iter().filter(|text| !text.is_empty());
        let tokens: Vec<_> = known.filter_map(|text| Some((text.clone(), tokenizer.id(&text)?))).collect();
        Self::new(tokens, &controls, named).map_err(|error| Error::malformed(folder, error))
    }

    fn new(
        tokens: Vec<(String, u32)>,
        controls: &BTreeSet<String>,
        named: BTreeMap<String, String>,
    ) -> Result<Self, aho_corasick::BuildError> {
        // One pass, however many there are: what people write is searched with them.
        let texts = tokens.iter().map(|(text, _)| text);
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts)?;
        let controls = AhoCorasick::new(controls.iter().filter(|text| !text.is_empty()))?;
        Ok(Self { tokens, finder, controls, named })
    }

    /// `bos_token`, `eos_token` and so on, with their texts.
    pub(crate) fn named(&self) -> &BTreeMap<String, String> {
        &self.named
    }

    /// The text of a token that stands for none.
    pub(crate) fn text_of(&self, id: u32) -> Option<&str> {
        self.tokens.iter().find(|(_, token)| *token == id).map(|(text, _)| text.as_str())
    }

    /// The ids of a text that may name tokens.
    pub(crate) fn encode(&self, text: &str, tokenizer: &Tokenizer) -> palimpsest_vocab::Result<Vec<u32>> {
        let mut ids = Vec::new();
        let encode = |ids: &mut Vec<u32>, plain: &str| -> palimpsest_vocab::Result<()> {
            if !plain.is_empty() {
                ids.extend(tokenizer.encode(&plain.replace(BREAK, ""))?);
            }
            Ok(())
        };
        let mut end = 0;
        for (place, id) in self.names(text) {
            encode(&mut ids, &text[end..place.start])?;
            ids.push(id);
            end = place.end;
        }
        encode(&mut ids, &text[end..])?;
        Ok(ids)
    }

    /// Where a text names which token.
    fn names(&self, text: &str) -> impl Iterator<Item = (Range<usize>, u32)> {
        self.finder.find_iter(text).filter_map(move |named| {
            let place = named.range();
            let is_plain = text[..place.start].ends_with(BREAK) && text[place.end..].starts_with(BREAK);
            let (_, id) = self.tokens.get(named.pattern().as_usize())?;
            (!is_plain).then_some((place, *id))
        })
    }

    /// The same text, in which no token is named that stands for no text; `encode` gives its plain ids.
    pub(crate) fn defuse(&self, text: &str) -> String {
        let text = text.replace(BREAK, "");
        let mut breaks = BTreeSet::new();
        for named in self.controls.find_overlapping_iter(&text) {
            let first = text[named.start()..].chars().next().map_or(0, char::len_utf8);
            breaks.insert(named.start() + first);
            if named.len() == first {
                breaks.insert(named.start());
            }
        }
        let mut defused = String::with_capacity(text.len() + breaks.len() * BREAK.len_utf8());
        let mut end = 0;
        for place in breaks {
            defused.push_str(&text[end..place]);
            defused.push(BREAK);
            end = place;
        }
        defused.push_str(&text[end..]);
        defused
    }
}

/// The text of a token written as a string or as an object with `content`.
fn text_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str()).filter(|text| !text.is_empty())
}

/// A JSON file's content; null where it is absent.
pub(super) fn read_json(path: &Path) -> Result<Value> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::malformed(path, error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(Error::read(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mk_tokens(controls: &[String]) -> SpecialTokens {
        let tokens = controls.iter().zip(0..).map(|(text, id)| (text.clone(), id)).collect();
        SpecialTokens::new(tokens, &controls.iter().cloned().collect(), BTreeMap::new()).unwrap()
    }

    fn check(controls: &[String], text: &str) {
        let tokens = mk_tokens(controls);
        let defused = tokens.defuse(text);
        assert_eq!(tokens.names(&defused).next(), None, "{controls:?} in {text:?}, which became {defused:?}");
        assert_eq!(defused.replace(BREAK, ""), text.replace(BREAK, ""));
    }

    #[test]
    fn tokens_that_overlap_are_all_defused() {
        let controls = ["<|a|>", "<|a<", "|>", "é"].map(str::to_owned);
        for text in ["<|a<|a|>", "<|a|>|>", "|>|>", "éé<|a|>é", "<|\u{FDD0}a|>", "plain"] {
            check(&controls, text);
        }
        let tokens = mk_tokens(&controls);
        assert_eq!(tokens.names("x<|a|>é").map(|(_, id)| id).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(tokens.defuse("plain"), "plain");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

        #[test]
        fn no_text_names_a_token_once_it_is_defused(
            controls in prop::collection::btree_set("[<|ab>é]{1,4}", 1..6), text in "[<|ab>é\u{FDD0}]{0,24}",
        ) {
            check(&controls.into_iter().collect::<Vec<_>>(), &text);
        }
    }
}
