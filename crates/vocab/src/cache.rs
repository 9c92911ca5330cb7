//! A small cache of how short stretches of text are encoded, so that a word is merged once.

use crate::hash::mix;

const KEY_BYTES: usize = 24;
const MOST_IDS: usize = 8;
const ENTRIES: usize = 1 << 14;

/// A direct-mapped cache: a later stretch takes the place of an earlier one with the same hash.
#[derive(Debug)]
pub(crate) struct WordCache {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    count: u8,
    ids: [u32; MOST_IDS],
}

/// A stretch of text that is short enough to be cached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Key {
    words: [u64; KEY_BYTES / 8],
    length: u8,
}

impl Key {
    /// The key of a text, if it is short enough.
    #[inline]
    pub(crate) fn new(text: &[u8]) -> Option<Self> {
        if text.len() > KEY_BYTES {
            return None;
        }
        let mut bytes = [0u8; KEY_BYTES];
        bytes[..text.len()].copy_from_slice(text);
        let (words, _) = bytes.as_chunks::<8>();
        let words = [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]), u64::from_le_bytes(words[2])];
        Some(Self { words, length: text.len() as u8 })
    }

    #[inline]
    fn slot(&self) -> usize {
        let folded = self.words[0]
            ^ self.words[1].wrapping_mul(0xA24B_AED4_963E_E407).rotate_left(29)
            ^ self.words[2].wrapping_mul(0x9FB2_1C65_1E98_DF25).rotate_left(17);
        (mix(folded ^ u64::from(self.length)) >> 40) as usize & (ENTRIES - 1)
    }
}

impl Default for WordCache {
    fn default() -> Self {
        let nothing = Entry { key: Key { words: [0; KEY_BYTES / 8], length: u8::MAX }, count: 0, ids: [0; MOST_IDS] };
        Self { entries: vec![nothing; ENTRIES] }
    }
}

impl WordCache {
    /// The ids of a text, if they are held.
    #[inline]
    pub(crate) fn get(&self, key: &Key) -> Option<&[u32]> {
        let entry = &self.entries[key.slot()];
        (entry.key == *key).then(|| &entry.ids[..usize::from(entry.count)])
    }

    /// Holds the ids of a text, if they are few.
    #[inline]
    pub(crate) fn put(&mut self, key: Key, ids: &[u32]) {
        if ids.len() > MOST_IDS {
            return;
        }
        let mut entry = Entry { key, count: ids.len() as u8, ids: [0; MOST_IDS] };
        entry.ids[..ids.len()].copy_from_slice(ids);
        self.entries[key.slot()] = entry;
    }

    /// Appends the ids of a text: those that are held, or what `encode` appends.
    #[inline]
    pub(crate) fn append(&mut self, text: &[u8], ids: &mut Vec<u32>, encode: impl FnOnce(&mut Vec<u32>)) {
        let key = Key::new(text);
        if let Some(found) = key.as_ref().and_then(|key| self.get(key)) {
            ids.extend_from_slice(found);
            return;
        }
        let first = ids.len();
        encode(ids);
        if let Some(key) = key {
            self.put(key, &ids[first..]);
        }
    }
}
