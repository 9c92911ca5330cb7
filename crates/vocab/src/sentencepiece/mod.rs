//! SentencePiece models: the ids of Google's library, from its own model files.

mod bpe;
mod emit;
mod normalize;
pub(crate) mod pieces;
pub(crate) mod proto;
mod unigram;

use crate::pool::Pool;
use crate::trie::Trie;
use bpe::Bpe;
use emit::Emitter;
pub(crate) use normalize::{Normalizer, SPACE};
use pieces::{Pieces, byte_of};
use prost::Message;
use proto::{Kind, ModelProto, model_type};
use unigram::Unigram;

const DEFAULT_UNKNOWN_SURFACE: &str = " \u{2047} ";

/// A SentencePiece model, ready to encode.
#[derive(Clone, Debug)]
pub(crate) struct Processor {
    /// The model file.
    pub(crate) file: Vec<u8>,
    pub(crate) proto: ModelProto,
    pub(crate) pieces: Pieces,
    pub(crate) normalizer: Normalizer,
    denormalizer: Option<Normalizer>,
    user_defined: Option<Trie>,
    model: Model,
    pool: Pool<Buffers>,
}

#[derive(Clone, Debug)]
enum Model {
    Bpe(Box<Bpe>),
    Unigram(Unigram),
    Characters,
}

#[derive(Debug, Default)]
struct Buffers {
    normalized: String,
    origins: Vec<u32>,
    lengths: Vec<u32>,
}

impl Processor {
    /// Reads a model file.
    pub(crate) fn new(file: Vec<u8>) -> Result<Self, String> {
        let mut proto = ModelProto::decode(file.as_slice())
            .map_err(|error| format!("it is not a SentencePiece model ({error})"))?;
        if proto.pieces.is_empty() {
            return Err("it is not a SentencePiece model (it has no pieces)".into());
        }
        let trainer = proto.trainer_spec.get_or_insert_default().clone();
        let pieces = Pieces::new(&proto)?;
        let spec = proto.normalizer_spec.get_or_insert_default();
        let normalizer = Normalizer::new(spec, &trainer)?;
        let denormalizer = match &proto.denormalizer_spec {
            Some(spec) if spec.precompiled_charsmap.as_ref().is_some_and(|map| !map.is_empty()) => {
                Some(Normalizer::new(spec, &Default::default())?)
            }
            _ => None,
        };
        let model = match trainer.model_type.unwrap_or(model_type::UNIGRAM) {
            model_type::BPE => Model::Bpe(Box::new(Bpe::new(&pieces))),
            model_type::UNIGRAM => Model::Unigram(Unigram::new(&pieces)?),
            model_type::CHAR => Model::Characters,
            model_type::WORD => return Err("it is a SentencePiece word model, which is not supported".into()),
            other => return Err(format!("its model type {other} is not supported")),
        };
        let has_user_defined = pieces.of_kind(Kind::UserDefined).next().is_some();
        let keys = pieces.of_kind(Kind::UserDefined).map(|(id, text)| (text.as_bytes(), id));
        let user_defined = has_user_defined.then(|| Trie::new(keys));
        Ok(Self { file, proto, pieces, normalizer, denormalizer, user_defined, model, pool: Pool::default() })
    }

    /// The BPE model, if it is one.
    pub(crate) fn bpe(&self) -> Option<&Bpe> {
        match &self.model {
            Model::Bpe(bpe) => Some(bpe),
            _ => None,
        }
    }

    /// What kind of model it is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self.model {
            Model::Bpe(_) => "a SentencePiece BPE model",
            Model::Unigram(_) => "a SentencePiece unigram model",
            Model::Characters => "a SentencePiece character model",
        }
    }

    /// The ids of a text, which is normalised first.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        self.pool.with(|buffers| {
            self.normalizer.normalize(text, self.user_defined.as_ref(), &mut buffers.normalized, None);
            self.encode_normalized(&buffers.normalized, &mut Emitter::new(&self.pieces, ids, None));
        });
    }

    /// The ids of a text that is in normal form already: no prefix is added.
    pub(crate) fn encode_piece(&self, normalized: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_normalized(normalized, &mut Emitter::new(&self.pieces, &mut ids, None));
        ids
    }

    /// The parts that a text in normal form is encoded as, and whether each is a piece; what is not is a character.
    pub(crate) fn segment_piece(&self, normalized: &str, part: &mut impl FnMut(&str, bool)) {
        let (mut ids, mut lengths) = (Vec::new(), Vec::new());
        self.encode_normalized(normalized, &mut Emitter::new(&self.pieces, &mut ids, Some(&mut lengths)));
        let mut start = 0;
        for (id, length) in ids.iter().zip(&lengths) {
            let end = start + *length as usize;
            if self.pieces.kind(*id) == Kind::Normal || self.pieces.kind(*id) == Kind::UserDefined {
                part(&normalized[start..end], true);
            } else {
                // Bytes and runs of unknowns: each character once, with its first byte.
                let from = ceil_character(normalized, start);
                for character in normalized[from..ceil_character(normalized, end).max(from)].chars() {
                    part(character.encode_utf8(&mut [0; 4]), false);
                }
            }
            start = end;
        }
    }

    /// The ids of a text with the position in it where each one's text ends. The bytes of a character that the
    /// vocabulary lacks end one after the other where normalisation left the character as it was, else with it.
    pub(crate) fn encode_with_ends(&self, text: &str, ids: &mut Vec<u32>, ends: &mut Vec<u32>) {
        self.pool.with(|buffers| {
            let Buffers { normalized, origins, lengths } = buffers;
            self.normalizer.normalize(text, self.user_defined.as_ref(), normalized, Some(origins));
            lengths.clear();
            self.encode_normalized(normalized, &mut Emitter::new(&self.pieces, ids, Some(lengths)));
            let origin = |position: usize| origins.get(position).copied().unwrap_or(text.len() as u32);
            let mut position = 0;
            for (id, length) in ids.iter().zip(lengths.iter()) {
                let end = position + *length as usize;
                if self.pieces.kind(*id) == Kind::Byte {
                    let start = floor_character(normalized, position);
                    let stop = ceil_character(normalized, end);
                    let same_length = origin(stop) - origin(start) == (stop - start) as u32;
                    ends.push(if same_length { origin(start) + (end - start) as u32 } else { origin(stop) });
                } else {
                    ends.push(origin(end));
                }
                position = end;
            }
        });
    }

    fn encode_normalized(&self, text: &str, emitter: &mut Emitter<'_>) {
        match &self.model {
            Model::Bpe(bpe) => bpe.encode(text, self.user_defined.as_ref(), emitter),
            Model::Unigram(unigram) => unigram.encode(text, &self.pieces, emitter),
            Model::Characters => self.encode_characters(text, emitter),
        }
    }

    fn encode_characters(&self, text: &str, emitter: &mut Emitter<'_>) {
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let matched = self.user_defined.as_ref().and_then(|trie| trie.longest_prefix(rest.as_bytes()));
            let length = matched.map_or(character.len_utf8(), |(length, _)| length);
            let (surface, after) = rest.split_at(length);
            let usable = |id: &u32| matches!(self.pieces.kind(*id), Kind::Normal | Kind::UserDefined);
            match self.pieces.id(surface).filter(usable) {
                Some(id) => emitter.piece(id, length),
                None => emitter.unknown(surface),
            }
            rest = after;
        }
    }

    /// The text of ids: control pieces are skipped, bytes joined, and the first space dropped that encoding put there.
    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        let mut bytes = Vec::new();
        let mut at_start = true;
        let surface = self.proto.trainer_spec.as_ref().and_then(|spec| spec.unk_surface.as_deref());
        for (id, piece) in ids.iter().filter_map(|id| Some((*id, self.pieces.get(*id)?))) {
            let kind = self.pieces.kind(id);
            if let (Kind::Byte, Some(byte)) = (kind, byte_of(piece)) {
                bytes.push(byte);
                continue;
            }
            push_bytes(&mut text, &mut bytes);
            at_start &= text.is_empty();
            if kind == Kind::Control {
                continue;
            }
            let mut rest = piece;
            let mut dropped_space = false;
            if at_start
                && (self.normalizer.add_dummy_prefix || self.normalizer.remove_extra_whitespaces)
                && let Some(stripped) = piece.strip_prefix(SPACE)
            {
                rest = stripped;
                dropped_space = !self.normalizer.remove_extra_whitespaces;
            }
            match kind {
                Kind::Unknown => text.push_str(surface.unwrap_or(DEFAULT_UNKNOWN_SURFACE)),
                _ => text.push_str(&rest.replace(SPACE, " ")),
            }
            at_start &= !dropped_space && text.is_empty();
        }
        push_bytes(&mut text, &mut bytes);
        if let Some(denormalizer) = &self.denormalizer {
            let mut denormalized = String::new();
            denormalizer.normalize(&text, None, &mut denormalized, None);
            return denormalized;
        }
        text
    }

    /// The piece of the beginning of a text, if it is one of the model's control pieces.
    pub(crate) fn bos(&self) -> Option<u32> {
        let spec = self.proto.trainer_spec.as_ref();
        self.control(spec.and_then(|spec| spec.bos_piece.as_deref()).unwrap_or("<s>"))
    }

    /// The piece of the end of a text, if it is one of the model's control pieces.
    pub(crate) fn eos(&self) -> Option<u32> {
        let spec = self.proto.trainer_spec.as_ref();
        self.control(spec.and_then(|spec| spec.eos_piece.as_deref()).unwrap_or("</s>"))
    }

    fn control(&self, piece: &str) -> Option<u32> {
        self.pieces.id(piece).filter(|id| self.pieces.kind(*id) == Kind::Control)
    }

    /// Feeds what decides ids to a hash.
    pub(crate) fn hash(&self, hasher: &mut blake3::Hasher) {
        let mut deciding = self.proto.clone();
        let kind = deciding.trainer_spec.take().unwrap_or_default();
        deciding.trainer_spec = Some(proto::TrainerSpec {
            model_type: kind.model_type,
            byte_fallback: kind.byte_fallback,
            treat_whitespace_as_suffix: kind.treat_whitespace_as_suffix,
            ..Default::default()
        });
        hasher.update(b"sentencepiece");
        hasher.update(&deciding.encode_to_vec());
    }
}

/// Appends bytes as UTF-8, each byte that belongs to no character as U+FFFD.
fn push_bytes(text: &mut String, bytes: &mut Vec<u8>) {
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                break;
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                text.push('\u{FFFD}');
                rest = &after[1..];
            }
        }
    }
    bytes.clear();
}

fn floor_character(text: &str, position: usize) -> usize {
    (0..=position).rev().find(|position| text.is_char_boundary(*position)).unwrap_or(0)
}

fn ceil_character(text: &str, position: usize) -> usize {
    (position..text.len()).find(|position| text.is_char_boundary(*position)).unwrap_or(text.len())
}
