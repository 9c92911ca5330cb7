//! Writes SentencePiece and tiktoken vocabularies as Hugging Face's `tokenizer.json`.

use crate::folder::AddedToken;
use crate::sentencepiece::proto::Kind;
use crate::sentencepiece::{Processor, SPACE};
use crate::tiktoken::Tiktoken;
use base64::Engine as _;
use serde_json::{Map, Value, json};

/// The `tokenizer.json` of a SentencePiece model. Special tokens are put before and after where `bos` and `eos` say.
pub(crate) fn of_sentencepiece(
    processor: &Processor,
    added: &[AddedToken],
    bos: Option<(u32, String)>,
    eos: Option<(u32, String)>,
) -> Result<Value, String> {
    let model = if processor.bpe().is_some() { bpe_model(processor) } else { unigram_model(processor)? };
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(processor, added),
        "normalizer": normalizer(processor),
        "pre_tokenizer": null,
        "post_processor": post_processor(&bos, &eos),
        "decoder": decoder(processor),
        "model": model,
    }))
}

fn added_tokens(processor: &Processor, added: &[AddedToken]) -> Vec<Value> {
    let pieces = &processor.pieces;
    let ids = (0..pieces.len() as u32)
        .filter(|id| matches!(pieces.kind(*id), Kind::Unknown | Kind::Control | Kind::UserDefined));
    let of_model = ids.map(|id| added_token(id, pieces.text(id), pieces.kind(id) != Kind::UserDefined));
    of_model.chain(added.iter().map(|token| added_token(token.id, &token.content, token.special))).collect()
}

fn added_token(id: u32, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": special,
    })
}

fn normalizer(processor: &Processor) -> Value {
    let normalizer = &processor.normalizer;
    let space = if normalizer.escape_whitespaces { SPACE } else { " " };
    let mut steps = Vec::new();
    let charsmap = processor.proto.normalizer_spec.as_ref().and_then(|spec| spec.precompiled_charsmap.as_ref());
    if let Some(charsmap) = charsmap.filter(|charsmap| !charsmap.is_empty()) {
        let encoded = base64::engine::general_purpose::STANDARD.encode(charsmap);
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": encoded}));
    }
    if normalizer.remove_extra_whitespaces {
        steps.push(json!({"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""}));
        steps.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
    }
    if normalizer.add_dummy_prefix && !normalizer.whitespace_is_suffix {
        steps.push(json!({"type": "Prepend", "prepend": space}));
    }
    if normalizer.escape_whitespaces {
        steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}));
    }
    json!({"type": "Sequence", "normalizers": steps})
}

fn decoder(processor: &Processor) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if processor.normalizer.add_dummy_prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

fn post_processor(bos: &Option<(u32, String)>, eos: &Option<(u32, String)>) -> Value {
    let template = |sequence: &str, kind: u32| {
        let special = |token: &Option<(u32, String)>| {
            token.as_ref().map(|(_, piece)| json!({"SpecialToken": {"id": piece, "type_id": kind}}))
        };
        let text = json!({"Sequence": {"id": sequence, "type_id": kind}});
        special(bos).into_iter().chain([text]).chain(special(eos)).collect::<Vec<_>>()
    };
    let single = template("A", 0);
    let pair: Vec<Value> = single.iter().cloned().chain(template("B", 1)).collect();
    let mut tokens = Map::new();
    for (id, piece) in bos.iter().chain(eos.iter()) {
        tokens.insert(piece.clone(), json!({"id": piece, "ids": [id], "tokens": [piece]}));
    }
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
}

/// The merges in the order of the pieces' scores. Where scores are equal the longest comes first: so a run of equal merges
/// that grow one piece from left to right, as LLaMA's runs of spaces do, comes out as with SentencePiece.
fn bpe_model(processor: &Processor) -> Value {
    let pieces = &processor.pieces;
    let bpe = processor.bpe();
    let mut merges: Vec<(u32, usize, u32, (u32, u32))> = Vec::new();
    for (id, text) in pieces.in_text().filter(|(id, _)| pieces.kind(*id) != Kind::Unused) {
        if let Some((bpe, pair)) = bpe.and_then(|bpe| Some((bpe, bpe.pair(id)?))) {
            merges.push((bpe.rank(id), usize::MAX - text.chars().count(), id, pair));
        }
    }
    merges.sort_unstable();
    let merges: Vec<[&str; 2]> =
        merges.iter().map(|(_, _, _, (left, right))| [pieces.text(*left), pieces.text(*right)]).collect();
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": pieces.of_kind(Kind::Unknown).next().map(|(_, text)| text),
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": pieces.bytes.is_some(),
        "ignore_merges": false,
        "vocab": vocabulary(processor),
        "merges": merges,
    })
}

fn vocabulary(processor: &Processor) -> Map<String, Value> {
    (0..processor.pieces.len() as u32).map(|id| (processor.pieces.text(id).to_owned(), json!(id))).collect()
}

fn unigram_model(processor: &Processor) -> Result<Value, String> {
    let pieces = &processor.pieces;
    if processor.proto.trainer_spec.as_ref().and_then(|spec| spec.model_type) == Some(4) {
        return Err("a SentencePiece character model has no form in a tokenizer.json".into());
    }
    let vocab: Vec<Value> =
        (0..pieces.len() as u32).map(|id| json!([pieces.text(id), f64::from(pieces.score(id))])).collect();
    let unknown = pieces.of_kind(Kind::Unknown).next().map(|(id, _)| id);
    Ok(json!({"type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": pieces.bytes.is_some()}))
}

/// The `tokenizer.json` of a tiktoken vocabulary: byte-level BPE.
pub(crate) fn of_tiktoken(tiktoken: &Tiktoken, added: &[AddedToken]) -> Value {
    let letters = byte_letters();
    let spell = |token: &[u8]| token.iter().map(|byte| letters[usize::from(*byte)]).collect::<String>();
    let tokens = tiktoken.tokens.iter().enumerate().filter(|(_, token)| !token.is_empty());
    let vocab: Map<String, Value> = tokens.map(|(id, token)| (spell(token), json!(id))).collect();
    let merges: Vec<[String; 2]> = tiktoken
        .pairs
        .iter()
        .flatten()
        .map(|(left, right)| [spell(&tiktoken.tokens[*left as usize]), spell(&tiktoken.tokens[*right as usize])])
        .collect();
    let added: Vec<Value> = added.iter().map(|token| added_token(token.id, &token.content, token.special)).collect();
    let normalizer = if tiktoken.composes { json!({"type": "NFC"}) } else { Value::Null };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": tiktoken.rule.pattern()}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
            "vocab": vocab, "merges": merges,
        },
    })
}

/// GPT-2's letter for each byte: itself where it is printable, else one from U+0100 on.
fn byte_letters() -> [char; 256] {
    let mut letters = ['\0'; 256];
    let mut next = 0x100;
    for byte in 0..=u8::MAX {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        letters[usize::from(byte)] = if printable {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap_or_default()
        };
    }
    letters
}
