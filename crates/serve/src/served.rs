//! The model that is served, as far as the server knows it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use palimpsest_vocab::Tokenizer;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::error::Result;
use crate::openai::ApiError;
use crate::text::{ChatTemplate, SpecialTokens};

/// The model that is served, as far as the server knows it: its name and what makes ids of texts.
#[derive(Debug)]
pub(crate) struct ServedModel {
    pub(crate) name: String,
    /// When it began to be served, in seconds since 1970.
    pub(crate) created: u64,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) special: Arc<SpecialTokens>,
    pub(crate) template: Option<ChatTemplate>,
}

impl ServedModel {
    /// Reads it from its folder.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let folder = &config.model_folder;
        let tokenizer = Tokenizer::open(folder)?;
        let special = SpecialTokens::read(folder, &tokenizer)?;
        let template = match &config.chat_template {
            Some(path) => Some(ChatTemplate::read(path)?),
            None => ChatTemplate::of_folder(folder)?,
        };
        Ok(Self {
            name: config.served_name(),
            created: seconds_since_1970(),
            tokenizer: Arc::new(tokenizer),
            special: Arc::new(special),
            template,
        })
    }

    /// The ids of a text as it begins a document: with BOS, where the tokenizer has one and `begins` says so. With `names_tokens`
    /// a text such as `</s>` is the token that it names; such a BOS at its beginning is not doubled.
    pub(crate) fn encode(&self, text: &str, begins: bool, names_tokens: bool) -> palimpsest_vocab::Result<Vec<u32>> {
        let mut ids =
            if names_tokens { self.special.encode(text, &self.tokenizer)? } else { self.tokenizer.encode(text)? };
        if let Some(bos) = self.tokenizer.bos().filter(|bos| begins && ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The text of a conversation, in which people name no tokens.
    pub(crate) fn render(
        &self,
        mut messages: Vec<Map<String, Value>>,
        adds_generation_prompt: bool,
        more: &Map<String, Value>,
    ) -> Result<String, ApiError> {
        let Some(template) = &self.template else {
            let message = "the model has no chat template; ask for completions, or start the server with a template";
            return Err(ApiError::field("messages", message));
        };
        for text in messages.iter_mut().flat_map(|message| message.values_mut()) {
            if let Value::String(text) = text {
                *text = self.special.defuse(text);
            }
        }
        template
            .render(&messages, self.special.named(), adds_generation_prompt, more)
            .map_err(|why| ApiError::field("messages", format!("messages: the chat template says: {why}")))
    }
}

/// Now, as answers write it.
pub(crate) fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
