//! A model that computes the next token from the last one, and a tokenizer of bytes to go with it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses a part")]

use std::path::Path;
use std::time::Duration;

use palimpsest_infer::{Grammars, Limits, Model, Work};
use palimpsest_serve::{Formats, Served};
use serde_json::json;

/// Tokens that stand for no bytes; the bytes follow.
pub(crate) const SPECIAL: [&str; 4] = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"];
pub(crate) const END: u32 = 1;
pub(crate) const VOCABULARY: usize = 256 + SPECIAL.len();

/// After this byte comes what is no number, and after the next the model fails.
pub(crate) const DAMAGED: u8 = 1;
pub(crate) const FATAL: u8 = 2;

/// After `~` come these, then the end: characters of three, two, three and four bytes.
pub(crate) const WIDE: &str = "你é€😀";

/// After a byte comes the next one; after `z` the end, and after `9` again `0`.
pub(crate) struct Arithmetic {
    /// How long a step takes beside.
    pub(crate) pause: Duration,
    /// Whether the process ends where the model fails.
    pub(crate) aborts: bool,
    /// Of the newest step.
    pub(crate) logits: Vec<f32>,
}

impl Arithmetic {
    pub(crate) fn new(pause: Duration, aborts: bool) -> Self {
        Self { pause, aborts, logits: Vec::new() }
    }
}

pub(crate) fn id_of(byte: u8) -> u32 {
    u32::from(byte) + SPECIAL.len() as u32
}

fn next(token: u32) -> u32 {
    let Some(byte) = token.checked_sub(SPECIAL.len() as u32) else { return id_of(b'a') };
    let wide: Vec<u8> = WIDE.bytes().collect();
    if byte == u32::from(b'~') {
        return id_of(wide[0]);
    }
    if let Some(place) = wide.iter().position(|wide| u32::from(*wide) == byte) {
        return wide.get(place + 1).map_or(END, |byte| id_of(*byte));
    }
    match byte as u8 {
        b'9' => id_of(b'0'),
        b'z' => END,
        byte => id_of(byte.wrapping_add(1)),
    }
}

impl Model for Arithmetic {
    type Error = &'static str;

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn step(&mut self, step: &[Work<'_>]) -> Result<&[f32], Self::Error> {
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        self.logits.clear();
        for last in step.iter().flat_map(|work| &work.tokens[work.tokens.len() - work.rows()..]).copied() {
            if last == id_of(FATAL) {
                if self.aborts {
                    std::process::abort();
                }
                return Err("the device is gone");
            }
            let damage = if last == id_of(DAMAGED) { f32::NAN } else { 0.0 };
            let next = next(last) as usize;
            // So much likelier that no draw takes another.
            self.logits.extend((0..VOCABULARY).map(|token| if token == next { 80.0 } else { damage }));
        }
        Ok(&self.logits)
    }
}

/// What it is called.
pub(crate) fn mk_served() -> Served {
    let bytes = SPECIAL.iter().map(|_| Vec::new()).chain((0..=255).map(|byte| vec![byte]));
    let grammars = Grammars::new(bytes.collect(), &[END]).unwrap();
    Served {
        device: "cpu".to_owned(),
        precision: "arithmetic".to_owned(),
        end_ids: vec![END],
        formats: Some(Formats::of(grammars)),
    }
}

/// A cache of 512 times 16 tokens for 32 requests, and a queue of 256.
pub(crate) fn mk_limits() -> Limits {
    Limits {
        blocks: 512,
        block_tokens: 16,
        step_tokens: 512,
        step_rows: 512,
        running: 32,
        waiting_requests: 256,
        waiting_tokens: 1 << 20,
        context: 2048,
        reuses_prefixes: true,
    }
}

/// Writes a model's folder: a tokenizer of bytes, and a chat template.
pub(crate) fn write_model(folder: &Path) {
    let specials = SPECIAL.iter().enumerate();
    let added: Vec<_> = specials
        .clone()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let bytes = (0..=255u8).map(|byte| (character_of(byte).to_string(), id_of(byte)));
    let vocabulary: serde_json::Map<_, _> = specials
        .map(|(id, content)| ((*content).to_owned(), json!(id)))
        .chain(bytes.map(|(text, id)| (text, json!(id))))
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocabulary, "merges": []},
    });
    let template = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": template,
                        "tokenizer_class": "PreTrainedTokenizerFast"});
    for (name, value) in [("tokenizer.json", tokenizer), ("tokenizer_config.json", config)] {
        std::fs::write(folder.join(name), value.to_string()).unwrap();
    }
}

/// The character by which a byte-level vocabulary writes a byte.
fn character_of(byte: u8) -> char {
    let is_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_itself(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !is_itself(*other)).count();
    char::from_u32(256 + before as u32).unwrap()
}
