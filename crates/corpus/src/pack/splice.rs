//! Splicing: documents follow one another and are cut where a sequence ends. No position but the last ones is padding.

use super::{Item, Packed, Piece};

/// Packs documents in their order.
pub(super) fn pack(items: &[Item], sequence_length: u32) -> Packed {
    let mut packed = Packed::default();
    let mut room = sequence_length;
    for item in items {
        let Item { dataset, document, length } = *item;
        let mut offset = 0;
        while offset < length - 1 {
            let positions = room.min(length - 1 - offset);
            packed.pieces.push(Piece { dataset, document, offset, positions });
            offset += positions;
            room -= positions;
            if room == 0 {
                packed.ends.push(packed.pieces.len() as u32);
                room = sequence_length;
            }
        }
    }
    if room < sequence_length {
        packed.ends.push(packed.pieces.len() as u32);
    }
    packed
}

/// How many sequences `pack` makes.
pub(super) fn count(lengths: &[u32], sequence_length: u32) -> u64 {
    let positions: u64 = lengths.iter().map(|length| u64::from(length - 1)).sum();
    positions.div_ceil(u64::from(sequence_length))
}
