//! From a bucket's documents to sequences: documents are cut into pieces and pieces put side by side.
//!
//! A piece of n + 1 ids takes n input positions with their n labels. Pieces of one document overlap by one id, so that
//! every id but the first is a label exactly once; a document of T ids takes T - 1 positions however it is cut:
//!
//! ```text
//! document  BOS a  b  c  d  e  EOS       sequences of 3 positions
//! piece 0   BOS a  b                     labels a b c
//! piece 1            c  d  e             labels d e EOS
//! ```

mod best_fit;
mod splice;

use palimpsest_api::Packing;
use palimpsest_random::Stream;

/// A document of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Which dataset of the stage's mixture.
    pub(crate) dataset: u32,
    pub(crate) document: u32,
    /// Its ids.
    pub(crate) length: u32,
}

/// A stretch of a document in a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) dataset: u32,
    pub(crate) document: u32,
    /// Where its first input lies in the document's ids.
    pub(crate) offset: u32,
    /// Input positions; it spans one id more.
    pub(crate) positions: u32,
}

/// The pieces of a bucket by sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    pieces: Vec<Piece>,
    /// Where each sequence's pieces end.
    ends: Vec<u32>,
}

impl Packed {
    /// How many sequences there are.
    pub(crate) fn sequences(&self) -> usize {
        self.ends.len()
    }

    /// The pieces of a sequence.
    pub(crate) fn sequence(&self, index: usize) -> &[Piece] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.pieces[start as usize..self.ends[index] as usize]
    }
}

/// How a bucket is packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packer {
    pub(crate) packing: Packing,
    /// Input positions of a sequence.
    pub(crate) sequence_length: u32,
    pub(crate) seed: u64,
}

impl Packer {
    /// Packs bucket `bucket` of stage `stage`. Documents that follow one another are first mixed by seed.
    pub(crate) fn pack(&self, mut items: Vec<Item>, stage: u64, bucket: u64) -> Packed {
        match self.packing {
            Packing::BestFit => best_fit::pack(&items, self.sequence_length),
            Packing::Splice => {
                Stream::new(self.seed, "splice order", &[stage, bucket]).shuffle(&mut items);
                splice::pack(&items, self.sequence_length)
            }
        }
    }

    /// How many sequences `pack` makes of items of these lengths.
    pub(crate) fn count(&self, lengths: &[u32]) -> u64 {
        match self.packing {
            Packing::BestFit => best_fit::count(lengths, self.sequence_length),
            Packing::Splice => splice::count(lengths, self.sequence_length),
        }
    }
}
