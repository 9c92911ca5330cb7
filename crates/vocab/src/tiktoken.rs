//! tiktoken vocabularies: lines of a token's bytes in base64 and its rank, which is its id.

use crate::cache::WordCache;
use crate::hash::FastMap;
use crate::merges::{self, Merge, MergeTable, Merger, Symbol, Target};
use crate::pool::Pool;
use crate::words::WordRule;
use base64::Engine as _;
use std::borrow::Cow;
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc, is_nfc_quick};

/// A tiktoken vocabulary with the words it cuts text into.
#[derive(Clone, Debug)]
pub(crate) struct Tiktoken {
    /// The file's name and contents.
    pub(crate) name: String,
    pub(crate) file: Vec<u8>,
    pub(crate) rule: WordRule,
    /// Qwen brings text into Unicode's normal form C first.
    pub(crate) composes: bool,
    /// Tokens by id; ids that there are not are empty.
    pub(crate) tokens: Vec<Vec<u8>>,
    ids: FastMap<Vec<u8>, u32>,
    bytes: Vec<u32>,
    table: MergeTable,
    pub(crate) pairs: Vec<Option<(u32, u32)>>,
    pool: Pool<(Merger, WordCache)>,
}

impl Tiktoken {
    /// Whether a file's first line is one of this format.
    pub(crate) fn recognises(file: &[u8]) -> bool {
        let line = file.split(|byte| *byte == b'\n').next().unwrap_or_default();
        line.len() < 4096 && parse_line(line).is_ok()
    }

    /// Reads a vocabulary; its name, and whether it has tokens of several digits, tell how it cuts text into words.
    pub(crate) fn new(name: &str, file: Vec<u8>) -> Result<Self, String> {
        let mut ids: FastMap<Vec<u8>, u32> = FastMap::default();
        for (index, line) in file.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let (token, rank) = parse_line(line).map_err(|reason| format!("line {}: {reason}", index + 1))?;
            if ids.insert(token, rank).is_some() {
                return Err(format!("line {}: its token occurs twice", index + 1));
            }
        }
        let size = ids.values().max().map_or(0, |rank| *rank as usize + 1);
        if ids.is_empty() || size > ids.len() * 2 {
            return Err("its ranks are not those of a vocabulary".into());
        }
        let mut tokens = vec![Vec::new(); size];
        for (token, rank) in &ids {
            if !std::mem::replace(&mut tokens[*rank as usize], token.clone()).is_empty() {
                return Err(format!("the rank {rank} occurs twice"));
            }
        }
        let bytes: Vec<u32> = (0..=u8::MAX).filter_map(|byte| ids.get(&vec![byte]).copied()).collect();
        if bytes.len() != 256 {
            return Err("it lacks some of the 256 single bytes".into());
        }
        let is_digits = |token: &Vec<u8>| token.len() > 1 && token.iter().all(u8::is_ascii_digit);
        let rule = WordRule { digits: if ids.keys().any(is_digits) { 3 } else { 1 } };
        let (table, pairs) = compile(&tokens, &ids, &bytes);
        let name = name.to_owned();
        let composes = name.to_lowercase().contains("qwen");
        Ok(Self { name, file, rule, composes, tokens, ids, bytes, table, pairs, pool: Pool::default() })
    }

    pub(crate) fn vocabulary_size(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        self.encode_composed(&self.compose(text), &mut ids);
        ids
    }

    pub(crate) fn encode_with_ends(&self, text: &str) -> (Vec<u32>, Vec<u32>) {
        let composed = self.compose(text);
        let mut ids = Vec::new();
        self.encode_composed(&composed, &mut ids);
        let origins = matches!(composed, Cow::Owned(_)).then(|| origins_of_composed(text));
        let mut position = 0;
        let ends = ids.iter().map(|id| {
            position += self.tokens[*id as usize].len();
            match &origins {
                Some(origins) => origins.get(position).copied().unwrap_or(text.len() as u32),
                None => position as u32,
            }
        });
        let ends = ends.collect();
        (ids, ends)
    }

    fn compose<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.composes || is_nfc(text) { Cow::Borrowed(text) } else { Cow::Owned(text.nfc().collect()) }
    }

    fn encode_composed(&self, text: &str, ids: &mut Vec<u32>) {
        self.pool.with(|(merger, cache)| {
            let mut rest = text;
            while !rest.is_empty() {
                let (word, after) = rest.split_at(self.rule.first_word(rest));
                self.encode_word(word.as_bytes(), merger, cache, ids);
                rest = after;
            }
        });
    }

    fn encode_word(&self, word: &[u8], merger: &mut Merger, cache: &mut WordCache, ids: &mut Vec<u32>) {
        cache.append(word, ids, |ids| match self.ids.get(word) {
            Some(id) => ids.push(*id),
            None => merger.append(symbols(&self.bytes, word), &self.table, ids),
        });
    }

    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        let tokens = ids.iter().filter_map(|id| self.tokens.get(*id as usize));
        let bytes: Vec<u8> = tokens.flatten().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn piece(&self, id: u32) -> Option<String> {
        let token = self.tokens.get(id as usize).filter(|token| !token.is_empty())?;
        Some(String::from_utf8_lossy(token).into_owned())
    }

    pub(crate) fn id(&self, piece: &str) -> Option<u32> {
        self.ids.get(piece.as_bytes()).copied()
    }

    /// Feeds what decides ids to a hash.
    pub(crate) fn hash(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"tiktoken");
        hasher.update(self.rule.pattern().as_bytes());
        hasher.update(&[u8::from(self.composes)]);
        hasher.update(&self.file);
    }
}

fn parse_line(line: &[u8]) -> Result<(Vec<u8>, u32), &'static str> {
    const SHAPE: &str = "expected a token in base64, a space and its rank";
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let space = line.iter().position(|byte| *byte == b' ').ok_or(SHAPE)?;
    let token = base64::engine::general_purpose::STANDARD.decode(&line[..space]).map_err(|_| SHAPE)?;
    let rank = std::str::from_utf8(&line[space + 1..]).ok().and_then(|rank| rank.parse().ok()).ok_or(SHAPE)?;
    if token.is_empty() { Err(SHAPE) } else { Ok((token, rank)) }
}

fn symbols(bytes: &[u32], text: &[u8]) -> impl Iterator<Item = Symbol> {
    text.iter().enumerate().map(|(index, byte)| Symbol { id: bytes[usize::from(*byte)], end: index as u32 + 1 })
}

/// For each token the pair that it arises from, if it can be reached.
type Pairs = Vec<Option<(u32, u32)>>;

fn compile(tokens: &[Vec<u8>], ids: &FastMap<Vec<u8>, u32>, bytes: &[u32]) -> (MergeTable, Pairs) {
    let many = tokens.iter().enumerate().filter(|(_, token)| token.len() > 1);
    let targets: Vec<_> = many.map(|(id, token)| Target { text: token, symbol: id as u32, rank: id as u32 }).collect();
    let split = |text: &[u8], into: &mut Vec<Symbol>| into.extend(symbols(bytes, text));
    let found = merges::compile(&targets, split, |text| ids.get(text).copied());
    let mut table = MergeTable::with_capacity(targets.len());
    let mut pairs = vec![None; tokens.len()];
    for (target, pair) in targets.iter().zip(found) {
        if let Some((left, right)) = pair {
            table.insert(left, right, Merge { rank: target.rank, symbol: target.symbol });
            pairs[target.symbol as usize] = pair;
        }
    }
    (table, pairs)
}

/// For each byte of a text's normal form C, and its end, where in the text the characters end that it was made from. A
/// position inside such a group belongs to the group's end.
fn origins_of_composed(text: &str) -> Vec<u32> {
    let mut origins = vec![0];
    let mut start = 0;
    let starts_group = |character: char| {
        canonical_combining_class(character) == 0 && is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes
    };
    let mut ends: Vec<usize> =
        text.char_indices().skip(1).filter(|(_, c)| starts_group(*c)).map(|(at, _)| at).collect();
    ends.push(text.len());
    for end in ends {
        let group = &text[start..end];
        let length = group.nfc().map(char::len_utf8).sum::<usize>();
        if length == group.len() && is_nfc(group) {
            origins.extend((start + 1..=end).map(|position| position as u32));
        } else {
            origins.extend(std::iter::repeat_n(end as u32, length));
        }
        start = end;
    }
    origins
}
