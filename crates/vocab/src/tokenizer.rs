//! A tokenizer of any of the supported formats.

use crate::error::{Error, Result};
use crate::folder::{Folder, Special};
use crate::json::JsonTokenizer;
use crate::sentencepiece::Processor;
use crate::tiktoken::Tiktoken;
use std::path::{Path, PathBuf};

/// A tokenizer: text to ids and back. It is `Send`, `Sync` and cheap to share in an `Arc`.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    pub(crate) engine: Engine,
    pub(crate) folder: Folder,
    bos: Option<u32>,
    eos: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) enum Engine {
    SentencePiece(Box<Processor>),
    Json(Box<JsonTokenizer>),
    Tiktoken(Box<Tiktoken>),
}

/// The ids of a text and where each one's text ends.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Encoding {
    /// The ids.
    pub ids: Vec<u32>,
    /// For each id the position in the text, in bytes, where what it stands for ends. Positions never fall. In a
    /// SentencePiece model the first is 0 where an id stands for no more than the space put before a text, and the bytes
    /// of a character end one by one; a `tokenizer.json` has them all end with the character.
    pub ends: Vec<u32>,
}

impl Tokenizer {
    /// Opens a file, or the tokenizer of a folder: its `tokenizer.model` if there is one, else its `tokenizer.json`, else
    /// its `.tiktoken` file.
    pub fn open(path: &Path) -> Result<Self> {
        let is_folder = std::fs::metadata(path).map_err(Error::read(path))?.is_dir();
        let file = if is_folder { find(path)? } else { path.to_owned() };
        let bytes = std::fs::read(&file).map_err(Error::read(&file))?;
        let engine = engine_of(&file, bytes).map_err(Error::malformed(&file))?;
        let folder = match file.parent() {
            Some(folder) => Folder::read(folder)?,
            None => Folder::default(),
        };
        Ok(Self::new(engine, folder))
    }

    pub(crate) fn new(engine: Engine, mut folder: Folder) -> Self {
        let size = size_of(&engine) as u32;
        // A tokenizer.json holds its added tokens itself.
        let keep = !matches!(engine, Engine::Json(_));
        folder.added.retain(|token| keep && token.id >= size);
        let mut tokenizer = Self { engine, folder, bos: None, eos: None };
        tokenizer.bos = tokenizer.find_special("bos_token", Processor::bos);
        tokenizer.eos = tokenizer.find_special("eos_token", Processor::eos);
        tokenizer
    }

    fn find_special(&self, name: &str, of_model: impl Fn(&Processor) -> Option<u32>) -> Option<u32> {
        let named = match self.folder.special(name) {
            Some(Special::Absent) => return None,
            Some(Special::Text(text)) => self.id(&text),
            None => None,
        };
        let of_file = || match &self.engine {
            Engine::SentencePiece(processor) => of_model(processor),
            Engine::Json(_) | Engine::Tiktoken(_) => None,
        };
        named.or_else(of_file).or_else(|| self.folder.special_of_model(name))
    }

    /// How many ids there are: one more than the highest.
    pub fn vocabulary_size(&self) -> usize {
        self.folder.added.last().map_or_else(|| size_of(&self.engine), |token| token.id as usize + 1)
    }

    /// The ids of a text, without BOS and EOS. Text never gives a special token: `</s>` in it is plain text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.engine {
            Engine::SentencePiece(processor) => {
                let mut ids = Vec::with_capacity(text.len() / 3 + 4);
                processor.encode(text, &mut ids);
                Ok(ids)
            }
            Engine::Json(json) => json.encode(text),
            Engine::Tiktoken(tiktoken) => Ok(tiktoken.encode(text)),
        }
    }

    /// The ids of a text and where each one's text ends.
    pub fn encode_with_ends(&self, text: &str) -> Result<Encoding> {
        let (ids, ends) = match &self.engine {
            Engine::SentencePiece(processor) => {
                let (mut ids, mut ends) = (Vec::new(), Vec::new());
                processor.encode_with_ends(text, &mut ids, &mut ends);
                (ids, ends)
            }
            Engine::Json(json) => json.encode_with_ends(text)?,
            Engine::Tiktoken(tiktoken) => tiktoken.encode_with_ends(text),
        };
        Ok(Encoding { ids, ends })
    }

    /// The text of ids; special tokens, and ids that there are not, are skipped.
    pub fn decode(&self, ids: &[u32]) -> String {
        match &self.engine {
            Engine::SentencePiece(processor) => processor.decode(ids),
            Engine::Json(json) => json.decode(ids),
            Engine::Tiktoken(tiktoken) => tiktoken.decode(ids),
        }
    }

    /// The piece of an id, as the vocabulary writes it.
    pub fn piece(&self, id: u32) -> Option<String> {
        if let Some(token) = self.folder.added.iter().find(|token| token.id == id) {
            return Some(token.content.clone());
        }
        match &self.engine {
            Engine::SentencePiece(processor) => processor.pieces.get(id).map(str::to_owned),
            Engine::Json(json) => json.piece(id),
            Engine::Tiktoken(tiktoken) => tiktoken.piece(id),
        }
    }

    /// The id of a piece, as the vocabulary writes it.
    pub fn id(&self, piece: &str) -> Option<u32> {
        if let Some(token) = self.folder.added.iter().find(|token| token.content == piece) {
            return Some(token.id);
        }
        match &self.engine {
            Engine::SentencePiece(processor) => processor.pieces.id(piece),
            Engine::Json(json) => json.id(piece),
            Engine::Tiktoken(tiktoken) => tiktoken.id(piece),
        }
    }

    /// The id that begins a document, if there is one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The id that ends a document, if there is one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// A digest of what decides the ids of texts, BOS and EOS.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        match &self.engine {
            Engine::SentencePiece(processor) => processor.hash(&mut hasher),
            Engine::Json(json) => json.hash(&mut hasher),
            Engine::Tiktoken(tiktoken) => tiktoken.hash(&mut hasher),
        }
        for special in [self.bos, self.eos] {
            hasher.update(&special.map_or(u64::MAX, u64::from).to_le_bytes());
        }
        format!("blake3:{}", hasher.finalize().to_hex())
    }

    /// What kind of tokenizer it is, in words.
    pub fn kind(&self) -> &'static str {
        match &self.engine {
            Engine::SentencePiece(processor) => processor.kind(),
            Engine::Json(_) => "a tokenizer.json",
            Engine::Tiktoken(_) => "a tiktoken vocabulary",
        }
    }
}

fn size_of(engine: &Engine) -> usize {
    match engine {
        Engine::SentencePiece(processor) => processor.pieces.len(),
        Engine::Json(json) => json.vocabulary_size(),
        Engine::Tiktoken(tiktoken) => tiktoken.vocabulary_size(),
    }
}

fn find(folder: &Path) -> Result<PathBuf> {
    for name in ["tokenizer.model", "tokenizer.json"] {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let entries = std::fs::read_dir(folder).map_err(Error::read(folder))?;
    let mut others: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    others.sort();
    let with_ending = |ending: &str| others.iter().find(|path| path.extension().is_some_and(|found| found == ending));
    let found = with_ending("tiktoken").or_else(|| with_ending("model"));
    found.cloned().ok_or_else(|| Error::NoTokenizer { path: folder.to_owned() })
}

fn engine_of(file: &Path, bytes: Vec<u8>) -> Result<Engine, String> {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if ending == "json" {
        return Ok(Engine::Json(Box::new(JsonTokenizer::new(bytes)?)));
    }
    if ending == "tiktoken" || Tiktoken::recognises(&bytes) {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        return Ok(Engine::Tiktoken(Box::new(Tiktoken::new(name, bytes)?)));
    }
    Ok(Engine::SentencePiece(Box::new(Processor::new(bytes)?)))
}
