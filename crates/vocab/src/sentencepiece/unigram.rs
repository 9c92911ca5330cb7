//! SentencePiece's unigram model: the segmentation of the highest sum of scores, as `Model::EncodeOptimized` of
//! `unigram_model.cc` finds it, in the same order of 32-bit sums.

use super::emit::Emitter;
use super::pieces::Pieces;
use super::proto::Kind;
use crate::pool::Pool;
use crate::trie::Trie;

const UNKNOWN_PENALTY: f32 = 10.0;
/// Where a sum leaves this range, all sums that matter still are shifted back to around 0.
const RESET: f32 = 100_000.0;

/// A unigram model.
#[derive(Clone, Debug)]
pub(crate) struct Unigram {
    trie: Trie,
    unknown_score: f32,
    pool: Pool<Scratch>,
}

#[derive(Debug, Default)]
struct Scratch {
    best: Vec<Best>,
    path: Vec<Best>,
}

/// The best way to end at a position: the last piece, where it starts, and the sum of scores.
#[derive(Clone, Copy, Debug)]
struct Best {
    id: u32,
    score: f32,
    start: u32,
}

const NOWHERE: u32 = u32::MAX;
const UNREACHED: Best = Best { id: NOWHERE, score: 0.0, start: NOWHERE };

impl Unigram {
    pub(crate) fn new(pieces: &Pieces) -> Result<Self, String> {
        if (0..pieces.len() as u32).any(|id| !pieces.score(id).is_finite()) {
            return Err("a score is not a finite number".into());
        }
        let lowest = pieces.of_kind(Kind::Normal).map(|(id, _)| pieces.score(id)).fold(f32::MAX, f32::min);
        let trie = Trie::new(pieces.in_text().map(|(id, text)| (text.as_bytes(), id)));
        Ok(Self { trie, unknown_score: lowest - UNKNOWN_PENALTY, pool: Pool::default() })
    }

    /// Encodes normalised text.
    pub(crate) fn encode(&self, text: &str, pieces: &Pieces, emitter: &mut Emitter<'_>) {
        self.pool.with(|scratch| {
            self.search(text.as_bytes(), pieces, &mut scratch.best);
            scratch.path.clear();
            let mut end = text.len();
            while end > 0 {
                let best = scratch.best[end];
                scratch.path.push(best);
                end = best.start as usize;
            }
            let mut ends = scratch.path.iter().map(|best| best.start as usize).rev().skip(1).chain([text.len()]);
            for best in scratch.path.iter().rev() {
                let end = ends.next().unwrap_or(text.len());
                let surface = &text[best.start as usize..end];
                if best.id == NOWHERE { emitter.unknown(surface) } else { emitter.piece(best.id, surface.len()) }
            }
        });
    }

    fn search(&self, text: &[u8], pieces: &Pieces, best: &mut Vec<Best>) {
        best.clear();
        best.resize(text.len() + 1, UNREACHED);
        let mut start = 0;
        let mut frontier = 0;
        while start < text.len() {
            let mut until_here = best[start].score;
            if until_here.abs() > RESET {
                for (position, entry) in best[..=frontier].iter_mut().enumerate().skip(start) {
                    if position == start || entry.start != NOWHERE {
                        entry.score -= until_here;
                    }
                }
                until_here = 0.0;
            }
            let character = character_length(text[start]).min(text.len() - start);
            let mut has_character = false;
            let mut node = 0;
            for (offset, &byte) in text[start..].iter().enumerate() {
                let Some(child) = self.trie.step(node, byte) else { break };
                node = child;
                let Some(id) = self.trie.value(node) else { continue };
                let length = offset + 1;
                let score = match pieces.kind(id) {
                    Kind::Unused => continue,
                    Kind::UserDefined => (0.1 * (length as i32 - 1) as f64) as f32,
                    _ => pieces.score(id),
                };
                frontier = frontier.max(start + length);
                improve(&mut best[start + length], Best { id, score: score + until_here, start: start as u32 });
                has_character |= length == character;
            }
            if !has_character {
                let end = start + character;
                frontier = frontier.max(end);
                let unknown = Best { id: NOWHERE, score: self.unknown_score + until_here, start: start as u32 };
                improve(&mut best[end], unknown);
            }
            start += character;
        }
    }
}

fn improve(entry: &mut Best, candidate: Best) {
    if entry.start == NOWHERE || candidate.score > entry.score {
        *entry = candidate;
    }
}

fn character_length(first: u8) -> usize {
    match first {
        0..0xC0 => 1,
        0xC0..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0.. => 4,
    }
}
