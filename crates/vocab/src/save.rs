//! Saves a tokenizer as a Hugging Face folder that `transformers.AutoTokenizer` loads.

use crate::error::{Error, Result};
use crate::export;
use crate::json::JsonTokenizer;
use crate::sentencepiece::SPACE;
use crate::sentencepiece::proto::Kind;
use crate::tokenizer::{Engine, Tokenizer};
use palimpsest_random::Stream;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// How many texts a saved tokenizer.json is tried on.
const SAMPLES: usize = 2_000;
const PARTS_OF_SAMPLE: u64 = 24;

/// What was saved.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Saved {
    /// The files.
    pub files: Vec<PathBuf>,
    /// What a user should know: where the saved tokenizer.json gives other ids than the tokenizer itself.
    pub warnings: Vec<String>,
}

impl Tokenizer {
    /// Saves the tokenizer in a folder, which is made if it is not there: `tokenizer.model` where it is a SentencePiece
    /// model, `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`, and the chat template and settings of
    /// the folder that it came from.
    ///
    /// The saved `tokenizer.json` is tried on a sample of texts; where it gives other ids, a warning says so.
    pub fn save(&self, folder: &Path) -> Result<Saved> {
        let mut saved = Saved::default();
        let mut write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            palimpsest_store::write_atomically(&path, bytes)?;
            saved.files.push(path);
            Ok::<_, Error>(())
        };
        let json = match self.json() {
            Ok(json) => Some(json),
            Err(reason) => {
                saved.warnings.push(format!("no tokenizer.json was saved: {reason}"));
                None
            }
        };
        match &self.engine {
            Engine::SentencePiece(processor) => write("tokenizer.model", &processor.file)?,
            Engine::Tiktoken(tiktoken) => write(&tiktoken.name, &tiktoken.file)?,
            Engine::Json(_) => {}
        }
        if let Some(json) = &json {
            write("tokenizer.json", json)?;
        }
        write("tokenizer_config.json", &pretty(&self.config()))?;
        write("special_tokens_map.json", &pretty(&self.special_tokens()))?;
        for (name, bytes) in &self.folder.kept {
            write(name, bytes)?;
        }
        if let (Some(json), false) = (json, matches!(self.engine, Engine::Json(_))) {
            saved.warnings.extend(self.compare(json)?);
        }
        Ok(saved)
    }

    fn json(&self) -> Result<Vec<u8>, String> {
        let value = match &self.engine {
            Engine::Json(json) => return Ok(json.file.clone()),
            Engine::SentencePiece(processor) => {
                let bos = self.bos().filter(|_| self.folder.adds("add_bos_token").unwrap_or(true));
                let eos = self.eos().filter(|_| self.folder.adds("add_eos_token").unwrap_or(false));
                let named = |id: u32| Some((id, self.piece(id)?));
                export::of_sentencepiece(processor, &self.folder.added, bos.and_then(named), eos.and_then(named))?
            }
            Engine::Tiktoken(tiktoken) => export::of_tiktoken(tiktoken, &self.folder.added),
        };
        Ok(pretty(&value))
    }

    /// `tokenizer_config.json`: that of the folder that the tokenizer came from, with a class that takes the
    /// `tokenizer.json` as it is. `transformers` builds a `LlamaTokenizer` anew, with other ids for a text that begins
    /// with a space.
    fn config(&self) -> Value {
        let mut config = self.folder.config.clone();
        if let Engine::Json(_) = self.engine {
            return Value::Object(config);
        }
        config.remove("auto_map");
        config.remove("use_fast");
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        for (name, value) in self.specials() {
            config.entry(name).or_insert(value);
        }
        config.entry("clean_up_tokenization_spaces").or_insert(json!(false));
        Value::Object(config)
    }

    fn special_tokens(&self) -> Value {
        let mut map = self.folder.special_tokens.clone();
        if let Engine::Json(_) = self.engine {
            return Value::Object(map);
        }
        for (name, value) in self.specials() {
            map.entry(name).or_insert(value);
        }
        Value::Object(map)
    }

    fn specials(&self) -> Map<String, Value> {
        let unknown = match &self.engine {
            Engine::SentencePiece(processor) => processor.pieces.of_kind(Kind::Unknown).next().map(|(id, _)| id),
            _ => None,
        };
        let tokens = [("bos_token", self.bos()), ("eos_token", self.eos()), ("unk_token", unknown)];
        let named = tokens.into_iter().filter_map(|(name, id)| Some((name.to_owned(), json!(self.piece(id?)?))));
        named.collect()
    }

    /// Tries a tokenizer.json on texts put together from the vocabulary's own pieces and any characters.
    fn compare(&self, json: Vec<u8>) -> Result<Option<String>> {
        let json = match JsonTokenizer::new(json) {
            Ok(json) => json,
            Err(reason) => return Ok(Some(format!("the saved tokenizer.json cannot be read back: {reason}"))),
        };
        let mut random = Stream::new(0, "tokenizer-sample", &[]);
        let mut different = 0;
        for _ in 0..SAMPLES {
            let text = self.sample(&mut random);
            if self.encode(&text)? != json.encode(&text)? {
                different += 1;
            }
        }
        Ok((different > 0).then(|| {
            format!(
                "the saved tokenizer.json gives other ids than the tokenizer itself on {different} of {SAMPLES} texts: {}",
                "load tokenizer.model (or the .tiktoken file) where exact ids matter"
            )
        }))
    }

    fn sample(&self, random: &mut Stream) -> String {
        let parts = random.below(PARTS_OF_SAMPLE) + 1;
        let oddities = random.below(3) == 0;
        let mut text = String::new();
        for _ in 0..parts {
            if oddities && random.below(4) == 0 {
                let character = char::from_u32(random.below(0x3000) as u32).unwrap_or(' ');
                text.extend(std::iter::repeat_n(character, random.below(4) as usize));
            } else {
                let piece = self.piece(random.below(self.vocabulary_size() as u64) as u32).unwrap_or_default();
                text.push_str(&piece.replace(SPACE, " "));
            }
        }
        text
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
