//! Extends a SentencePiece BPE vocabulary.
//!
//! The order of the new ids is that of the model card's system: repeats dropped, a stable sort by length in characters,
//! pieces that the base has skipped, the rest appended. Its scores are not. There all new pieces have the score 0, so that
//! ties go to the leftmost, which no list of merges in a tokenizer.json can express. Here each new piece has a score of its
//! own, below all of the base's: in the order in which the pieces are given, which for learned ones is the order in which
//! they were learned. So SentencePiece, `transformers` and we give the same ids; and a text is first encoded as by the
//! base, then its ids are merged further: what a new id stands for are ids that the base would give there, and a text
//! with none of the new pieces keeps its ids.

use crate::error::{Error, Result};
use crate::hash::FastSet;
use crate::sentencepiece::Processor;
use crate::sentencepiece::proto::{Kind, ModelProto, PieceProto, TrainerSpec};
use crate::tokenizer::{Engine, Tokenizer};
use prost::Message;
use std::path::Path;

/// A piece to extend a vocabulary by, as the vocabulary writes it: `▁` stands for a space.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Piece {
    /// Its text.
    pub text: String,
}

impl<T: Into<String>> From<T> for Piece {
    fn from(text: T) -> Self {
        Self { text: text.into() }
    }
}

/// An extended vocabulary.
#[derive(Clone, Debug)]
pub struct Extension {
    /// The tokenizer; the base's ids are what they were.
    pub tokenizer: Tokenizer,
    /// The first id that the base lacks.
    pub first_new_id: u32,
    /// For each new id the base's ids that spell its piece, without a space put before it.
    pub sources: Vec<Vec<u32>>,
    /// The new ids that no text ever gives: no two pieces merge into theirs.
    pub unreachable: Vec<u32>,
}

/// Extends a vocabulary by these pieces, in the order of their rank, to a size: the first that many by length. Without a
/// size all are taken.
pub fn extend(base: &Tokenizer, pieces: &[Piece], vocabulary_size: Option<usize>) -> Result<Extension> {
    let processor = extensible(base)?;
    let size = base.vocabulary_size();
    if let Some(asked) = vocabulary_size.filter(|asked| *asked < size) {
        return Err(Error::VocabularyTooSmall { asked, least: size, reason: format!("the base has {size} pieces") });
    }
    let mut seen = FastSet::default();
    // The rank of a piece is its place among those given.
    let mut new: Vec<(usize, &str)> = pieces.iter().map(|piece| piece.text.as_str()).enumerate().collect();
    new.retain(|(_, text)| seen.insert(*text) && processor.pieces.id(text).is_none());
    if let Some((_, text)) = new.iter().find(|(_, text)| text.is_empty() || text.contains('\0')) {
        return Err(Error::Option(format!(
            "the piece {text:?} cannot be in a vocabulary: it is empty or holds a null"
        )));
    }
    new.sort_by_key(|(_, text)| text.chars().count());
    if let Some(asked) = vocabulary_size {
        if size + new.len() < asked {
            return Err(Error::NotEnoughPieces { asked, most: size + new.len(), found: new.len() });
        }
        new.truncate(asked - size);
    }
    let file = extended_file(processor, &new);
    let extended = Processor::new(file).map_err(Error::Option)?;
    let new_ids = size as u32..(size + new.len()) as u32;
    let sources = new.iter().map(|(_, text)| processor.encode_piece(text)).collect();
    let unreachable = new_ids.filter(|id| extended.encode_piece(extended.pieces.text(*id)) != [*id]).collect();
    let tokenizer = Tokenizer::new(Engine::SentencePiece(Box::new(extended)), base.folder.clone());
    Ok(Extension { tokenizer, first_new_id: size as u32, sources, unreachable })
}

/// The model of a tokenizer that can be extended.
pub(crate) fn extensible(base: &Tokenizer) -> Result<&Processor> {
    if let Some(token) = base.folder.added.first() {
        let kind = format!("one with tokens added after its last piece, such as {:?}", token.content);
        return Err(Error::CannotExtend { kind });
    }
    match &base.engine {
        Engine::SentencePiece(processor) if processor.bpe().is_some() => Ok(processor),
        _ => Err(Error::CannotExtend { kind: base.kind().to_owned() }),
    }
}

/// The base's file with the new pieces: protobuf messages are joined by writing one after the other, so that all that we
/// do not know of stays as it is.
fn extended_file(base: &Processor, new: &[(usize, &str)]) -> Vec<u8> {
    let spelled: FastSet<char> = base
        .pieces
        .in_text()
        .map(|(_, text)| text)
        .chain(new.iter().map(|(_, text)| *text))
        .filter_map(|text| {
            let mut characters = text.chars();
            characters.next().filter(|_| characters.next().is_none())
        })
        .collect();
    // A piece with a character that is none itself would be found by SentencePiece, which merges strings, but not by a list
    // of merges. Nobody finds an unused one.
    let can_be_spelled = |text: &str| text.chars().all(|character| spelled.contains(&character));
    let mut by_rank: Vec<usize> = (0..new.len()).collect();
    by_rank.sort_by_key(|index| (!can_be_spelled(new[*index].1), new[*index].0));
    let mut scores = vec![0.0; new.len()];
    let mut score = lowest_score(base);
    for index in by_rank {
        // A lower one even where the base's is so low that 1 is less than a step between floats.
        score = (score - 1.0).min(score.next_down());
        scores[index] = score;
    }
    let appended = ModelProto {
        pieces: new
            .iter()
            .zip(scores)
            .map(|((_, text), score)| PieceProto {
                piece: Some((*text).to_owned()),
                score: Some(score),
                kind: Some(if can_be_spelled(text) { Kind::Normal } else { Kind::Unused } as i32),
            })
            .collect(),
        trainer_spec: Some(TrainerSpec {
            vocab_size: Some((base.pieces.len() + new.len()) as i32),
            ..TrainerSpec::default()
        }),
        ..ModelProto::default()
    };
    let mut file = base.file.clone();
    file.extend(appended.encode_to_vec());
    file
}

/// The lowest score of the base. LLaMA's is -1e9, that of its runs of spaces.
fn lowest_score(base: &Processor) -> f32 {
    let scores = (0..base.pieces.len() as u32).map(|id| base.pieces.score(id));
    scores.filter(|score| score.is_finite()).fold(0.0, f32::min)
}

/// Reads pieces from a file of lines `{"piece": "..."}`; other fields are let be.
pub fn read_pieces(path: &Path) -> Result<Vec<Piece>> {
    #[derive(serde::Deserialize)]
    struct Line {
        piece: String,
    }
    let bytes = std::fs::read(path).map_err(Error::read(path))?;
    let mut pieces = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let fault = |reason: String| Error::PiecesLine { path: path.to_owned(), line: index + 1, reason };
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Line { piece } = serde_json::from_slice(line).map_err(|error| fault(error.to_string()))?;
        if piece.is_empty() {
            return Err(fault("the piece is empty".into()));
        }
        pieces.push(Piece { text: piece });
    }
    Ok(pieces)
}
