//! The pieces of a SentencePiece model.

use super::proto::{Kind, ModelProto};
use crate::hash::FastMap;

/// Pieces by id.
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
    texts: Vec<Box<str>>,
    scores: Vec<f32>,
    kinds: Vec<Kind>,
    ids: FastMap<Box<str>, u32>,
    /// The ids of the 256 bytes, where the model falls back to them.
    pub(crate) bytes: Option<Box<[u32; 256]>>,
    /// The id of what is unknown.
    pub(crate) unknown: u32,
}

impl Pieces {
    /// Reads and checks the pieces as SentencePiece does.
    pub(crate) fn new(proto: &ModelProto) -> Result<Self, String> {
        let byte_fallback = proto.trainer_spec.as_ref().and_then(|spec| spec.byte_fallback).unwrap_or(false);
        let count = proto.pieces.len();
        if count == 0 {
            return Err("it has no pieces".into());
        }
        let mut pieces = Self {
            texts: Vec::with_capacity(count),
            scores: Vec::with_capacity(count),
            kinds: Vec::with_capacity(count),
            ids: FastMap::with_capacity_and_hasher(count, Default::default()),
            bytes: None,
            unknown: 0,
        };
        let mut unknown = None;
        let mut bytes = Box::new([u32::MAX; 256]);
        for (id, piece) in proto.pieces.iter().enumerate() {
            let text = piece.piece.as_deref().unwrap_or_default();
            let number = piece.kind.unwrap_or(1);
            let kind = Kind::of(number).ok_or_else(|| format!("piece {id} is of the unknown type {number}"))?;
            if text.is_empty() {
                return Err(format!("piece {id} is empty"));
            }
            if text.contains('\0') {
                return Err(format!("piece {id} contains a null character"));
            }
            let id = id as u32;
            if let Some(other) = pieces.ids.insert(text.into(), id) {
                return Err(format!("pieces {other} and {id} are both {text:?}"));
            }
            match kind {
                Kind::Unknown if unknown.is_some() => return Err("it has two pieces of type UNKNOWN".into()),
                Kind::Unknown => unknown = Some(id),
                Kind::Byte if !byte_fallback => {
                    return Err(format!("piece {id} is a byte although byte_fallback is false"));
                }
                Kind::Byte => {
                    let byte = byte_of(text).ok_or_else(|| format!("the byte piece {text:?} is not one"))?;
                    bytes[usize::from(byte)] = id;
                }
                _ => {}
            }
            pieces.texts.push(text.into());
            pieces.scores.push(piece.score.unwrap_or(0.0));
            pieces.kinds.push(kind);
        }
        if byte_fallback {
            if bytes.contains(&u32::MAX) {
                return Err("it lacks some of the 256 byte pieces although byte_fallback is true".into());
            }
            pieces.bytes = Some(bytes);
        } else if unknown.is_none() {
            return Err("it has no piece of type UNKNOWN".into());
        }
        pieces.unknown = unknown.unwrap_or(u32::MAX);
        Ok(pieces)
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(|text| &**text)
    }

    pub(crate) fn text(&self, id: u32) -> &str {
        &self.texts[id as usize]
    }

    pub(crate) fn score(&self, id: u32) -> f32 {
        self.scores[id as usize]
    }

    pub(crate) fn kind(&self, id: u32) -> Kind {
        self.kinds[id as usize]
    }

    /// The bytes of normalised text that an id covers, unknown ones apart.
    #[inline]
    pub(crate) fn length(&self, id: u32) -> u32 {
        if self.kind(id) == Kind::Byte { 1 } else { self.text(id).len() as u32 }
    }

    /// The pieces that text can match.
    pub(crate) fn in_text(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..self.len() as u32).filter(|id| self.kind(*id).in_text()).map(|id| (id, self.text(id)))
    }

    /// The pieces of a kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (u32, &str)> {
        (0..self.len() as u32).filter(move |id| self.kind(*id) == kind).map(|id| (id, self.text(id)))
    }
}

/// The byte that a piece such as `<0x0A>` stands for.
pub(crate) fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let valid = digits.len() == 2 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
    if valid { u8::from_str_radix(digits, 16).ok() } else { None }
}
