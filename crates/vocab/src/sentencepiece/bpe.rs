//! SentencePiece's byte pair encoding, with the ids of its `bpe_model.cc`.
//!
//! A text is cut wherever two neighbouring characters occur side by side in no piece: no merge can cross such a place,
//! so that the stretches between can be merged, and remembered, on their own.

use super::emit::Emitter;
use super::pieces::Pieces;
use super::proto::Kind;
use crate::cache::{Key, WordCache};
use crate::hash::{FastMap, FastSet, mix};
use crate::merges::{self, Merge, MergeTable, Merger, NO_SYMBOL, Symbol, Target};
use crate::pool::Pool;
use crate::trie::Trie;

/// The compiled merges of a model. Symbols are ids of pieces; those beyond the last id stand for characters that occur in
/// pieces but are none themselves.
#[derive(Clone, Debug)]
pub(crate) struct Bpe {
    /// The symbols of the characters U+0000 to U+FFFF.
    basic: Vec<u32>,
    /// The symbols of the other characters.
    astral: FastMap<char, u32>,
    table: MergeTable,
    links: Links,
    /// For each piece its rank, the best being 0; pieces of equal scores have equal ranks.
    ranks: Vec<u32>,
    /// For each piece of several characters the pair that it arises from, if it can be reached.
    pairs: Vec<Option<(u32, u32)>>,
    /// What an unused piece is taken apart into.
    unused: FastMap<u32, Vec<Part>>,
    pool: Pool<Scratch>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Piece(u32),
    Unknown(char),
}

#[derive(Debug, Default)]
struct Scratch {
    merger: Merger,
    cache: WordCache,
}

impl Bpe {
    pub(crate) fn new(pieces: &Pieces) -> Self {
        let ranks = ranks(pieces);
        let mut symbols: FastMap<&[u8], u32> = FastMap::default();
        let mut outside = Vec::new();
        for (id, text) in pieces.in_text() {
            symbols.insert(text.as_bytes(), id);
        }
        let many: Vec<(u32, &str)> = pieces.in_text().filter(|(_, text)| text.chars().nth(1).is_some()).collect();
        let characters: FastSet<char> = many.iter().flat_map(|(_, text)| text.chars()).collect();
        let mut characters: Vec<char> = characters.into_iter().collect();
        characters.sort_unstable();
        let spelled: Vec<String> = characters.iter().map(char::to_string).collect();
        for (character, text) in characters.iter().zip(&spelled) {
            symbols.entry(text.as_bytes()).or_insert_with(|| {
                outside.push(*character);
                (pieces.len() + outside.len() - 1) as u32
            });
        }
        let (basic, astral) = characters_of(&symbols);
        let split = |text: &[u8], into: &mut Vec<Symbol>| {
            let text = std::str::from_utf8(text).unwrap_or_default();
            into.extend(text.char_indices().map(|(start, character)| Symbol {
                id: symbol_of(&basic, &astral, character),
                end: (start + character.len_utf8()) as u32,
            }));
        };
        let targets: Vec<_> = many
            .iter()
            .map(|(id, text)| Target { text: text.as_bytes(), symbol: *id, rank: ranks[*id as usize] })
            .collect();
        let found = merges::compile(&targets, split, |text| symbols.get(text).copied());
        let mut table = MergeTable::with_capacity(targets.len());
        let mut pairs = vec![None; pieces.len()];
        for (target, pair) in targets.iter().zip(found) {
            if let Some((left, right)) = pair {
                table.insert(left, right, Merge { rank: target.rank, symbol: target.symbol });
                pairs[target.symbol as usize] = pair;
            }
        }
        let links = Links::new(many.iter().map(|(_, text)| *text));
        let mut bpe =
            Self { basic, astral, table, links, ranks, pairs, unused: FastMap::default(), pool: Pool::default() };
        for (id, _) in pieces.in_text().filter(|(id, _)| pieces.kind(*id) == Kind::Unused) {
            let mut parts = Vec::new();
            bpe.take_apart(pieces, &outside, id, &mut parts);
            bpe.unused.insert(id, parts);
        }
        bpe
    }

    /// The pair of pieces that a piece of several characters arises from, if it can be reached and both are pieces.
    pub(crate) fn pair(&self, id: u32) -> Option<(u32, u32)> {
        self.pairs[id as usize].filter(|(left, right)| (*left.max(right) as usize) < self.pairs.len())
    }

    /// A piece's rank: the best is 0, and pieces of equal scores have equal ranks.
    pub(crate) fn rank(&self, id: u32) -> u32 {
        self.ranks[id as usize]
    }

    fn take_apart(&self, pieces: &Pieces, outside: &[char], symbol: u32, parts: &mut Vec<Part>) {
        let Some(kind) = pieces.get(symbol).map(|_| pieces.kind(symbol)) else {
            parts.push(Part::Unknown(outside[symbol as usize - pieces.len()]));
            return;
        };
        if kind != Kind::Unused {
            parts.push(Part::Piece(symbol));
        } else if let Some((left, right)) = self.pairs[symbol as usize] {
            self.take_apart(pieces, outside, left, parts);
            self.take_apart(pieces, outside, right, parts);
        } else {
            parts.extend(pieces.text(symbol).chars().map(Part::Unknown));
        }
    }

    /// Encodes normalised text.
    pub(crate) fn encode(&self, text: &str, user_defined: Option<&Trie>, emitter: &mut Emitter<'_>) {
        self.pool.with(|scratch| match user_defined {
            Some(user_defined) => self.encode_around(text, user_defined, scratch, emitter),
            None => self.encode_stretches(text, scratch, emitter),
        });
    }

    /// Encodes what lies between user-defined pieces, which are taken from left to right, the longest first.
    fn encode_around(&self, text: &str, user_defined: &Trie, scratch: &mut Scratch, emitter: &mut Emitter<'_>) {
        let mut start = 0;
        let mut position = 0;
        while let Some(character) = text[position..].chars().next() {
            match user_defined.longest_prefix(&text.as_bytes()[position..]) {
                Some((length, id)) => {
                    self.encode_stretches(&text[start..position], scratch, emitter);
                    emitter.piece(id, length);
                    position += length;
                    start = position;
                }
                None => position += character.len_utf8(),
            }
        }
        self.encode_stretches(&text[start..], scratch, emitter);
    }

    fn encode_stretches(&self, text: &str, scratch: &mut Scratch, emitter: &mut Emitter<'_>) {
        let mut characters = text.char_indices();
        let Some((_, mut previous)) = characters.next() else { return };
        let mut start = 0;
        for (position, character) in characters {
            if !self.links.joined(previous, character) {
                self.encode_stretch(&text[start..position], scratch, emitter);
                start = position;
            }
            previous = character;
        }
        self.encode_stretch(&text[start..], scratch, emitter);
    }

    fn encode_stretch(&self, text: &str, scratch: &mut Scratch, emitter: &mut Emitter<'_>) {
        let key = Key::new(text.as_bytes());
        if let Some(ids) = key.as_ref().and_then(|key| scratch.cache.get(key)) {
            emitter.cached(ids);
            return;
        }
        scratch.merger.symbols.clear();
        scratch.merger.symbols.extend(text.char_indices().map(|(start, character)| Symbol {
            id: symbol_of(&self.basic, &self.astral, character),
            end: (start + character.len_utf8()) as u32,
        }));
        scratch.merger.merge(&self.table, &mut |_, _| ());
        let first_id = emitter.ids.len();
        let mut start = 0;
        for symbol in &scratch.merger.symbols {
            let end = symbol.end as usize;
            self.emit(symbol.id, &text[start..end], emitter);
            start = end;
        }
        if let Some(key) = key
            && emitter.can_cache()
        {
            scratch.cache.put(key, &emitter.ids[first_id..]);
        }
    }

    fn emit(&self, symbol: u32, text: &str, emitter: &mut Emitter<'_>) {
        if symbol as usize >= self.pairs.len() {
            emitter.unknown(text);
        } else if let Some(parts) = self.unused.get(&symbol) {
            for part in parts {
                match part {
                    Part::Piece(id) => emitter.piece_of_vocabulary(*id),
                    Part::Unknown(character) => emitter.unknown(character.encode_utf8(&mut [0; 4])),
                }
            }
        } else {
            emitter.piece(symbol, text.len());
        }
    }
}

#[inline]
fn symbol_of(basic: &[u32], astral: &FastMap<char, u32>, character: char) -> u32 {
    match basic.get(character as usize) {
        Some(symbol) => *symbol,
        None => astral.get(&character).copied().unwrap_or(NO_SYMBOL),
    }
}

fn characters_of(symbols: &FastMap<&[u8], u32>) -> (Vec<u32>, FastMap<char, u32>) {
    let mut basic = vec![NO_SYMBOL; 1 << 16];
    let mut astral = FastMap::default();
    for (text, symbol) in symbols {
        let mut characters = std::str::from_utf8(text).unwrap_or_default().chars();
        if let (Some(character), None) = (characters.next(), characters.next()) {
            match basic.get_mut(character as usize) {
                Some(slot) => *slot = *symbol,
                None => {
                    astral.insert(character, *symbol);
                }
            }
        }
    }
    (basic, astral)
}

/// Ranks by descending score, in the order in which SentencePiece compares floats (-0 is less than 0).
fn ranks(pieces: &Pieces) -> Vec<u32> {
    let key = |id: u32| {
        let bits = pieces.score(id).to_bits();
        if bits >> 31 == 1 { bits } else { !bits & !(1 << 31) }
    };
    let mut order: Vec<u32> = (0..pieces.len() as u32).collect();
    order.sort_by_key(|id| key(*id));
    let mut ranks = vec![0; order.len()];
    let mut rank = 0;
    for (index, id) in order.iter().enumerate() {
        if index > 0 && key(order[index - 1]) != key(*id) {
            rank = index as u32;
        }
        ranks[*id as usize] = rank;
    }
    ranks
}

/// Which characters stand side by side in some piece: a bitmap by hash. A false "yes" costs a little time, no more.
#[derive(Clone, Debug)]
struct Links {
    bits: Vec<u64>,
}

impl Links {
    fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut pairs: FastSet<(char, char)> = FastSet::default();
        for text in texts {
            pairs.extend(text.chars().zip(text.chars().skip(1)));
        }
        let size = (pairs.len() * 32).next_power_of_two().clamp(1 << 12, 1 << 22);
        let mut links = Self { bits: vec![0; size / 64] };
        for (left, right) in pairs {
            let place = links.place(left, right);
            links.bits[place / 64] |= 1 << (place % 64);
        }
        links
    }

    #[inline]
    fn place(&self, left: char, right: char) -> usize {
        mix(u64::from(left) << 32 | u64::from(right)) as usize & (self.bits.len() * 64 - 1)
    }

    #[inline]
    fn joined(&self, left: char, right: char) -> bool {
        let place = self.place(left, right);
        self.bits[place / 64] >> (place % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::Bpe;
    use crate::sentencepiece::emit::Emitter;
    use crate::sentencepiece::pieces::Pieces;
    use crate::sentencepiece::proto::{Kind, ModelProto, PieceProto, TrainerSpec};
    use palimpsest_random::Stream;
    use std::collections::HashMap;

    /// SentencePiece's own algorithm, on strings: merge the best pair, the leftmost of equals; then take unused apart.
    fn by_strings(pieces: &Pieces, text: &str) -> Vec<u32> {
        let usable = |text: &str| pieces.id(text).filter(|id| pieces.kind(*id).in_text());
        let mut symbols: Vec<String> = text.chars().map(String::from).collect();
        let mut parts = HashMap::new();
        loop {
            let candidates = symbols.windows(2).enumerate().filter_map(|(left, pair)| {
                let merged = pair.concat();
                let score = pieces.score(usable(&merged)?);
                Some((score, left, merged))
            });
            let better = |one: &(f32, usize, String), other: &(f32, usize, String)| {
                one.0.total_cmp(&other.0).then(other.1.cmp(&one.1))
            };
            let Some((_, left, merged)) = candidates.max_by(better) else { break };
            let right = symbols.remove(left + 1);
            parts.insert(merged.clone(), (std::mem::replace(&mut symbols[left], merged), right));
        }
        let mut ids = Vec::new();
        let mut rest: Vec<String> = symbols.into_iter().rev().collect();
        while let Some(text) = rest.pop() {
            match usable(&text) {
                Some(id) if pieces.kind(id) != Kind::Unused => ids.push(id),
                Some(_) if parts.contains_key(&text) => {
                    let (left, right) = parts[&text].clone();
                    rest.extend([right, left]);
                }
                _ => ids.extend(text.bytes().map(|byte| pieces.id(&format!("<0x{byte:02X}>")).unwrap())),
            }
        }
        ids
    }

    /// A vocabulary of random words of few letters, with equal scores, unused pieces, and letters that are no pieces.
    fn random_pieces(random: &mut Stream, letters: &[char], distinct: u64) -> Pieces {
        let piece = |text: String, score: f32, kind: Kind| PieceProto {
            piece: Some(text),
            score: Some(score),
            kind: Some(kind as i32),
        };
        let mut pieces = vec![piece("<unk>".into(), 0.0, Kind::Unknown)];
        pieces.extend((0..=u8::MAX).map(|byte| piece(format!("<0x{byte:02X}>"), 0.0, Kind::Byte)));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..60 {
            let length = 1 + random.below(6) as usize;
            let text: String = (0..length).map(|_| letters[random.below(letters.len() as u64) as usize]).collect();
            let kind = if random.below(8) == 0 { Kind::Unused } else { Kind::Normal };
            let score = -(random.below(distinct) as f32);
            if seen.insert(text.clone()) {
                pieces.push(piece(text, score, kind));
            }
        }
        let trainer_spec = Some(TrainerSpec { byte_fallback: Some(true), ..Default::default() });
        Pieces::new(&ModelProto { pieces, trainer_spec, ..Default::default() }).unwrap()
    }

    #[test]
    fn one_pair_a_piece_gives_the_ids_of_merging_strings() {
        let mut random = Stream::new(3, "vocabularies", &[]);
        let mut different_from_letters = 0;
        for round in 0..300 {
            let letters: &[char] = if round % 2 == 0 { &['a', 'b'] } else { &['a', 'é', '中', '\u{2581}', '𠀀'] };
            let pieces = random_pieces(&mut random, letters, [1, 3, 1000][round % 3]);
            let bpe = Bpe::new(&pieces);
            for _ in 0..40 {
                let length = random.below(60) as usize;
                let text: String = (0..length).map(|_| letters[random.below(letters.len() as u64) as usize]).collect();
                let mut ids = Vec::new();
                bpe.encode(&text, None, &mut Emitter::new(&pieces, &mut ids, None));
                assert_eq!(ids, by_strings(&pieces, &text), "{text:?} in round {round}");
                different_from_letters += usize::from(ids.len() < length);
            }
        }
        assert!(different_from_letters > 5_000, "{different_from_letters}");
    }
}
