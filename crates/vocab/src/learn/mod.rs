//! Learns vocabularies: a new one, or the pieces that extend another.

mod characters;
mod counts;
mod pairs;
mod sequences;
mod trainer;
mod words;

use crate::error::{Error, Result, TextError};
use crate::extend::Piece;
use crate::folder::Folder;
use crate::hash::FastMap;
use crate::sentencepiece::proto::{Kind, ModelProto, NormalizerSpec, PieceProto, TrainerSpec, model_type};
use crate::sentencepiece::{Processor, SPACE};
use crate::tokenizer::{Engine, Tokenizer};
use characters::CharacterTable;
use prost::Message;
use sequences::Words;
use serde_json::{Map, Value, json};
use trainer::{SymbolInfo, Trainer};

pub use counts::{CountedWords, WordCounter, WordCounts};

/// SentencePiece's own limit.
const LONGEST_PIECE: usize = 16;
const SPECIAL: [(&str, Kind); 3] = [("<unk>", Kind::Unknown), ("<s>", Kind::Control), ("</s>", Kind::Control)];
/// Where at least this share of the letters is ASCII, the texts' language is taken to be written in them.
const ASCII_SHARE: f64 = 2.0 / 3.0;

/// How a new vocabulary is learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearnOptions {
    /// The share of all characters that get a piece of their own, from the most frequent down; the others are spelled in
    /// bytes.
    pub character_coverage: f64,
    /// The most characters of a piece.
    pub longest_piece: usize,
}

impl Default for LearnOptions {
    fn default() -> Self {
        Self { character_coverage: 0.9995, longest_piece: LONGEST_PIECE }
    }
}

impl LearnOptions {
    fn check(&self) -> Result<()> {
        if !(0.5..=1.0).contains(&self.character_coverage) || self.longest_piece == 0 {
            return Err(Error::Option(
                "character coverage must be between 0.5 and 1, and pieces of a character or more".into(),
            ));
        }
        Ok(())
    }
}

/// How pieces for an extension are learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PieceOptions {
    /// The most characters of a piece.
    pub longest_piece: usize,
    /// Whether pieces may hold ASCII characters. Without them a text in ASCII, such as English, keeps its ids exactly.
    /// `None`: only where at least two thirds of the letters to learn from are ASCII, as in Spanish or Vietnamese.
    pub ascii: Option<bool>,
}

impl Default for PieceOptions {
    fn default() -> Self {
        Self { longest_piece: LONGEST_PIECE, ascii: None }
    }
}

/// Learns a new vocabulary by byte pair encoding: a SentencePiece model like LLaMA's, with `<unk>`, `<s>`, `</s>`, the 256
/// bytes, the learned pieces and the characters that they are made of, text left as it is but for the space put before
/// it, digits apart. The same texts give the same model.
///
/// Texts are read once and only their distinct words are held. `go_on` is asked at each text and each piece whether to.
pub fn learn<E: Into<TextError>>(
    texts: impl Iterator<Item = Result<String, E>>,
    vocabulary_size: usize,
    options: &LearnOptions,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Tokenizer> {
    options.check()?;
    let counts = count_all(texts, &WordCounter::new(options), go_on)?;
    learn_from_words(counts, vocabulary_size, options, 1, go_on)
}

fn count_all<E: Into<TextError>>(
    texts: impl Iterator<Item = Result<String, E>>,
    counter: &WordCounter,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<WordCounts> {
    let mut counts = WordCounts::default();
    for text in texts {
        let text = text.map_err(|error| Error::Texts(error.into()))?;
        ask(go_on)?;
        counts.add(&counter.count([text]));
    }
    Ok(counts)
}

/// Learns a new vocabulary as [`learn`] does, from words that [`WordCounter::new`] has counted, on so many threads, whose
/// number makes no difference. `go_on` is asked at each piece.
pub fn learn_from_words(
    counts: WordCounts,
    vocabulary_size: usize,
    options: &LearnOptions,
    threads: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Tokenizer> {
    options.check()?;
    let alphabet = covering(&counts.characters(), options.character_coverage);
    if alphabet.is_empty() {
        return Err(Error::NoText);
    }
    let fixed = SPECIAL.len() + 256 + alphabet.len();
    if vocabulary_size < fixed {
        return Err(Error::VocabularyTooSmall {
            asked: vocabulary_size,
            least: fixed,
            reason: format!(
                "the {} characters of the texts, 256 bytes and 3 special tokens take {fixed}",
                alphabet.len()
            ),
        });
    }
    let merged = learn_merges(counts, &alphabet, vocabulary_size - fixed, options.longest_piece, threads, go_on)?;
    if merged.len() < vocabulary_size - fixed {
        let found = merged.len() + alphabet.len();
        return Err(Error::NotEnoughPieces { asked: vocabulary_size, most: fixed + merged.len(), found });
    }
    let proto = new_model(&merged, &alphabet, options);
    let processor = Processor::new(proto.encode_to_vec()).map_err(Error::Option)?;
    let folder = Folder { config: llama_config(), ..Folder::default() };
    Ok(Tokenizer::new(Engine::SentencePiece(Box::new(processor)), folder))
}

/// The most frequent characters that make up this share of all.
fn covering(characters: &[(char, u64)], coverage: f64) -> Vec<char> {
    let all: u64 = characters.iter().map(|(_, count)| count).sum();
    let mut covered = 0;
    let mut alphabet = Vec::new();
    for (character, count) in characters {
        if covered as f64 / all as f64 >= coverage {
            break;
        }
        covered += count;
        alphabet.push(*character);
    }
    alphabet
}

fn learn_merges(
    counts: WordCounts,
    alphabet: &[char],
    most: usize,
    longest: usize,
    threads: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Vec<Box<str>>> {
    let mut ids: CharacterTable<Option<u32>> = CharacterTable::default();
    for (id, character) in (0..).zip(alphabet) {
        *ids.get_mut(*character) = Some(id);
    }
    let symbols =
        alphabet.iter().map(|character| SymbolInfo { text: character.to_string().into(), known: true }).collect();
    let mut words = Words::default();
    let mut spelled = Vec::new();
    // The order of the words makes no difference, since all their symbols are there already.
    for (text, count) in counts.each() {
        spelled.clear();
        spelled.extend(text.chars().map(|character| ids.get(character)));
        // What the alphabet lacks ends a word, for no piece can hold it.
        for part in spelled.split(Option::is_none).filter(|part| part.len() > 1) {
            words.push(part.iter().flatten().copied(), count);
        }
    }
    drop(counts);
    let trainer = Trainer::new(symbols, words, threads, |text: &str| text.chars().count() <= longest);
    pieces(trainer, most, go_on)
}

/// The first pieces of a trainer, at most so many.
fn pieces<A: Fn(&str) -> bool>(
    mut trainer: Trainer<A>,
    most: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Vec<Box<str>>> {
    let mut pieces = Vec::new();
    while pieces.len() < most {
        ask(go_on)?;
        let Some(piece) = trainer.next() else { break };
        pieces.push(piece);
    }
    Ok(pieces)
}

fn ask(go_on: &mut dyn FnMut() -> bool) -> Result<()> {
    if go_on() { Ok(()) } else { Err(Error::Stopped) }
}

fn new_model(merged: &[Box<str>], alphabet: &[char], options: &LearnOptions) -> ModelProto {
    let piece = |text: String, score: f32, kind: Kind| PieceProto {
        piece: Some(text),
        score: Some(score),
        kind: Some(kind as i32),
    };
    let mut pieces: Vec<PieceProto> = Vec::new();
    pieces.extend(SPECIAL.iter().map(|(text, kind)| piece((*text).to_owned(), 0.0, *kind)));
    pieces.extend((0..=u8::MAX).map(|byte| piece(format!("<0x{byte:02X}>"), 0.0, Kind::Byte)));
    let learned = merged.iter().map(|text| text.to_string()).chain(alphabet.iter().map(char::to_string));
    pieces.extend(learned.enumerate().map(|(rank, text)| piece(text, -(rank as f32), Kind::Normal)));
    let vocab_size = pieces.len() as i32;
    ModelProto {
        pieces,
        trainer_spec: Some(TrainerSpec {
            model_type: Some(model_type::BPE),
            vocab_size: Some(vocab_size),
            character_coverage: Some(options.character_coverage as f32),
            max_sentencepiece_length: Some(options.longest_piece as i32),
            split_by_unicode_script: Some(true),
            split_by_whitespace: Some(true),
            split_by_number: Some(true),
            treat_whitespace_as_suffix: Some(false),
            split_digits: Some(true),
            allow_whitespace_only_pieces: Some(true),
            byte_fallback: Some(true),
            unk_id: Some(0),
            bos_id: Some(1),
            eos_id: Some(2),
            pad_id: Some(-1),
            unk_piece: Some(SPECIAL[0].0.into()),
            bos_piece: Some(SPECIAL[1].0.into()),
            eos_piece: Some(SPECIAL[2].0.into()),
            unk_surface: None,
        }),
        normalizer_spec: Some(NormalizerSpec {
            name: Some("identity".into()),
            precompiled_charsmap: Some(Vec::new()),
            add_dummy_prefix: Some(true),
            remove_extra_whitespaces: Some(false),
            escape_whitespaces: Some(true),
        }),
        denormalizer_spec: None,
    }
}

fn llama_config() -> Map<String, Value> {
    let config = json!({
        "add_bos_token": true,
        "add_eos_token": false,
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": false,
        "eos_token": "</s>",
        "unk_token": "<unk>",
    });
    config.as_object().cloned().unwrap_or_default()
}

/// Learns pieces that a vocabulary lacks, in the order in which [`extend`](crate::extend) is to rank them: those that
/// save the most ids on the texts first.
///
/// Byte pair encoding goes on where the base stopped: on the texts as the base encodes them. A character that the base
/// spells in bytes gets a piece when that saves more than the best pair; a pair is merged only when both its parts are
/// pieces. So every piece can be reached. `go_on` is asked as in [`learn`].
pub fn learn_pieces<E: Into<TextError>>(
    base: &Tokenizer,
    texts: impl Iterator<Item = Result<String, E>>,
    count: usize,
    options: &PieceOptions,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Vec<Piece>> {
    let counts = count_all(texts, &WordCounter::extending(base)?, go_on)?;
    learn_pieces_from_words(base, counts, count, options, 1, go_on)
}

/// Learns pieces as [`learn_pieces`] does, from words that [`WordCounter::extending`] has counted, on so many threads,
/// whose number makes no difference. `go_on` is asked at each piece.
pub fn learn_pieces_from_words(
    base: &Tokenizer,
    counts: WordCounts,
    count: usize,
    options: &PieceOptions,
    threads: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Vec<Piece>> {
    let processor = crate::extend::extensible(base)?;
    let characters = counts.characters();
    if characters.is_empty() {
        return Err(Error::NoText);
    }
    let ascii = options.ascii.unwrap_or_else(|| ascii_share(&characters) >= ASCII_SHARE);
    let longest = options.longest_piece;
    let allowed = |text: &str| {
        text.chars().count() <= longest
            && (ascii || !text.contains(|character: char| character.is_ascii()))
            && !text.trim_start_matches(SPACE).is_empty()
            && !text.strip_prefix(SPACE).unwrap_or(text).contains(SPACE)
            && processor.pieces.id(text).is_none()
    };
    let (symbols, words) = encode_words(processor, counts);
    let trainer = Trainer::new(symbols, words, threads, allowed);
    let pieces: Vec<Piece> = pieces(trainer, count, go_on)?.into_iter().map(Piece::from).collect();
    if pieces.len() < count {
        let size = base.vocabulary_size();
        let found = pieces.len();
        return Err(Error::NotEnoughPieces { asked: size + count, most: size + found, found });
    }
    Ok(pieces)
}

/// The share of letters that are ASCII.
fn ascii_share(characters: &[(char, u64)]) -> f64 {
    let letters = characters.iter().filter(|(character, _)| character.is_alphabetic());
    let (ascii, all) = letters.fold((0, 0), |(ascii, all), (character, count)| {
        (ascii + if character.is_ascii() { *count } else { 0 }, all + count)
    });
    ascii as f64 / (all as f64).max(1.0)
}

/// The words as the base encodes them; its unknown characters are symbols that are not known.
fn encode_words(base: &Processor, counts: WordCounts) -> (Vec<SymbolInfo>, Words) {
    let mut symbols = Vec::new();
    let mut ids: FastMap<Box<str>, u32> = FastMap::default();
    let mut words = Words::default();
    let mut word = Vec::new();
    for (text, count) in counts.sorted() {
        word.clear();
        base.segment_piece(&text, &mut |part, known| {
            let id = *ids.entry(part.into()).or_insert_with(|| {
                symbols.push(SymbolInfo { text: part.into(), known });
                symbols.len() as u32 - 1
            });
            word.push(id);
        });
        words.push(word.iter().copied(), count);
    }
    (symbols, words)
}
