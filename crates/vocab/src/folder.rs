//! What lies beside a tokenizer in a Hugging Face folder: its special tokens, and what a copy of it must keep.

use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Files of a tokenizer's folder that a copy of it keeps as they are.
const KEPT_FILES: [&str; 3] = ["chat_template.jinja", "chat_template.json", "added_tokens.json"];

/// What lies beside a tokenizer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder {
    /// `tokenizer_config.json`.
    pub(crate) config: Map<String, Value>,
    /// `special_tokens_map.json`.
    pub(crate) special_tokens: Map<String, Value>,
    /// The model's `config.json`.
    pub(crate) model: Map<String, Value>,
    /// Tokens that were added to the vocabulary, by id; some of them may be in it.
    pub(crate) added: Vec<AddedToken>,
    /// Other files, by name, kept in a copy.
    pub(crate) kept: Vec<(String, Vec<u8>)>,
}

/// A token that a folder's files add to the vocabulary.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct AddedToken {
    #[serde(default)]
    pub(crate) id: u32,
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) special: bool,
}

/// A special token as a folder's files name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Special {
    /// By its text.
    Text(String),
    /// The files say that there is none.
    Absent,
}

impl Folder {
    /// Reads the files of a folder, each of which may be absent.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut kept = Vec::new();
        for name in KEPT_FILES {
            if let Some(bytes) = read_if_there(&folder.join(name))? {
                kept.push((name.to_owned(), bytes));
            }
        }
        let config = read_object(&folder.join("tokenizer_config.json"))?;
        Ok(Self {
            added: added_tokens(folder, &config)?,
            config,
            special_tokens: read_object(&folder.join("special_tokens_map.json"))?,
            model: read_object(&folder.join("config.json"))?,
            kept,
        })
    }

    /// The special token `bos_token` or `eos_token`, from the first file that knows it.
    pub(crate) fn special(&self, name: &str) -> Option<Special> {
        for map in [&self.config, &self.special_tokens] {
            if let Some(value) = map.get(name) {
                return Some(token_text(value).map_or(Special::Absent, |text| Special::Text(text.to_owned())));
            }
        }
        None
    }

    /// The special token's id in the model's `config.json`: the first, where there are several.
    pub(crate) fn special_of_model(&self, name: &str) -> Option<u32> {
        let value = self.model.get(&format!("{name}_id"))?;
        let first = value.as_array().map_or(Some(value), |ids| ids.first())?;
        first.as_u64().and_then(|id| u32::try_from(id).ok())
    }

    /// Whether encoding for a model puts such a token at its place: `add_bos_token`, `add_eos_token`.
    pub(crate) fn adds(&self, name: &str) -> Option<bool> {
        self.config.get(name).and_then(Value::as_bool)
    }
}

/// The text of a token written as a string or as an object with `content`.
pub(crate) fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The added tokens of `tokenizer.json`, `tokenizer_config.json` and `added_tokens.json`.
fn added_tokens(folder: &Path, config: &Map<String, Value>) -> Result<Vec<AddedToken>> {
    #[derive(Default, serde::Deserialize)]
    struct TokenizerJson {
        #[serde(default)]
        added_tokens: Vec<AddedToken>,
    }
    let path = folder.join("tokenizer.json");
    let json: TokenizerJson = match read_if_there(&path)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::malformed(&path)(error.to_string()))?,
        None => TokenizerJson::default(),
    };
    let mut added: BTreeMap<u32, AddedToken> = json.added_tokens.into_iter().map(|token| (token.id, token)).collect();
    let decoder = config.get("added_tokens_decoder").and_then(Value::as_object);
    for (id, token) in decoder.into_iter().flatten() {
        if let (Ok(id), Ok(token)) = (id.parse(), serde_json::from_value::<AddedToken>(token.clone())) {
            added.entry(id).or_insert(AddedToken { id, ..token });
        }
    }
    for (content, id) in read_object(&folder.join("added_tokens.json"))? {
        if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
            added.entry(id).or_insert(AddedToken { id, content, special: true });
        }
    }
    Ok(added.into_values().collect())
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::read(path)(error)),
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let Some(bytes) = read_if_there(path)? else { return Ok(Map::new()) };
    serde_json::from_slice(&bytes).map_err(|error| Error::malformed(path)(error.to_string()))
}
