//! Collects ids, spelling in bytes what the vocabulary lacks.

use super::pieces::Pieces;

/// Where the ids of a text go.
#[derive(Debug)]
pub(crate) struct Emitter<'a> {
    pub(crate) ids: &'a mut Vec<u32>,
    /// The bytes of normalised text that each id covers, where they are wanted.
    pub(crate) lengths: Option<&'a mut Vec<u32>>,
    pieces: &'a Pieces,
    after_unknown: bool,
}

impl<'a> Emitter<'a> {
    pub(crate) fn new(pieces: &'a Pieces, ids: &'a mut Vec<u32>, lengths: Option<&'a mut Vec<u32>>) -> Self {
        Self { ids, lengths, pieces, after_unknown: false }
    }

    /// Whether what was emitted for a stretch will be emitted for it anywhere: without bytes to fall back to, a run of
    /// unknown characters becomes a single id.
    #[inline]
    pub(crate) fn can_cache(&self) -> bool {
        self.pieces.bytes.is_some()
    }

    /// The ids of a stretch that was emitted before.
    #[inline]
    pub(crate) fn cached(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        if let Some(lengths) = &mut self.lengths {
            lengths.extend(ids.iter().map(|id| self.pieces.length(*id)));
        }
    }

    /// A piece that covers so many bytes.
    #[inline]
    pub(crate) fn piece(&mut self, id: u32, length: usize) {
        self.after_unknown = false;
        self.ids.push(id);
        if let Some(lengths) = &mut self.lengths {
            lengths.push(length as u32);
        }
    }

    /// A piece that covers its own text.
    pub(crate) fn piece_of_vocabulary(&mut self, id: u32) {
        self.piece(id, self.pieces.length(id) as usize);
    }

    /// Text that the vocabulary lacks: its bytes, or one unknown for the whole run.
    pub(crate) fn unknown(&mut self, text: &str) {
        if let Some(bytes) = &self.pieces.bytes {
            self.ids.extend(text.bytes().map(|byte| bytes[usize::from(byte)]));
            if let Some(lengths) = &mut self.lengths {
                lengths.extend(text.bytes().map(|_| 1));
            }
        } else if self.after_unknown {
            if let Some(last) = self.lengths.as_mut().and_then(|lengths| lengths.last_mut()) {
                *last += text.len() as u32;
            }
        } else {
            self.ids.push(self.pieces.unknown);
            if let Some(lengths) = &mut self.lengths {
                lengths.push(text.len() as u32);
            }
            self.after_unknown = true;
        }
    }
}
