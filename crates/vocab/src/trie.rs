//! A double-array trie from byte strings to numbers, for prefix matching.
//!
//! Node n's child by byte b is at `base[n] + b` if that slot's `check` is n (Aoe 1989,
//! <https://doi.org/10.1109/32.31365>).

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    base: u32,
    check: u32,
    value: u32,
}

const FREE: Slot = Slot { base: 0, check: NONE, value: NONE };

/// A trie; node 0 is its root.
#[derive(Clone, Debug)]
pub(crate) struct Trie {
    slots: Vec<Slot>,
}

impl Trie {
    /// The trie of these keys, which are non-empty and distinct, with their values.
    pub(crate) fn new<'a>(keys: impl Iterator<Item = (&'a [u8], u32)>) -> Self {
        let mut keys: Vec<_> = keys.collect();
        keys.sort_unstable();
        let mut builder = Builder { slots: vec![FREE; 512], first_free: 1 };
        builder.slots[0].check = 0;
        builder.place(0, &keys);
        Self { slots: builder.slots }
    }

    /// The child of a node by a byte.
    #[inline]
    pub(crate) fn step(&self, node: u32, byte: u8) -> Option<u32> {
        let child = self.slots[node as usize].base + u32::from(byte);
        let found = self.slots.get(child as usize).is_some_and(|slot| slot.check == node);
        (found && child != 0).then_some(child)
    }

    /// The value of the key that ends at a node.
    #[inline]
    pub(crate) fn value(&self, node: u32) -> Option<u32> {
        let value = self.slots[node as usize].value;
        (value != NONE).then_some(value)
    }

    /// The longest key that `text` begins with: its length in bytes and its value.
    pub(crate) fn longest_prefix(&self, text: &[u8]) -> Option<(usize, u32)> {
        let mut node = 0;
        let mut longest = None;
        for (index, &byte) in text.iter().enumerate() {
            let Some(child) = self.step(node, byte) else { break };
            node = child;
            if let Some(value) = self.value(node) {
                longest = Some((index + 1, value));
            }
        }
        longest
    }
}

struct Builder {
    slots: Vec<Slot>,
    /// No slot before this one is free.
    first_free: usize,
}

impl Builder {
    /// Places the children of a node, whose keys are those left over, breadth first.
    fn place(&mut self, root: usize, keys: &[(&[u8], u32)]) {
        let mut queue = std::collections::VecDeque::from([(root, 0..keys.len(), 0)]);
        while let Some((node, mut range, depth)) = queue.pop_front() {
            if keys.get(range.start).is_some_and(|(key, _)| key.len() == depth && !range.is_empty()) {
                self.slots[node].value = keys[range.start].1;
                range.start += 1;
            }
            if range.is_empty() {
                continue;
            }
            let groups: Vec<_> = keys[range.clone()].chunk_by(|one, other| one.0[depth] == other.0[depth]).collect();
            let labels: Vec<u8> = groups.iter().map(|group| group[0].0[depth]).collect();
            let base = self.find_base(&labels);
            self.slots[node].base = base as u32;
            let mut start = range.start;
            for (group, label) in groups.iter().zip(&labels) {
                let child = base + usize::from(*label);
                self.slots[child].check = node as u32;
                queue.push_back((child, start..start + group.len(), depth + 1));
                start += group.len();
            }
        }
    }

    /// The first place where all these children fit.
    fn find_base(&mut self, labels: &[u8]) -> usize {
        while self.slots.get(self.first_free).is_some_and(|slot| slot.check != NONE) {
            self.first_free += 1;
        }
        let first = usize::from(labels[0]);
        let mut slot = self.first_free.max(first + 1);
        let mut tried = 0;
        loop {
            if self.slots.len() < slot + 512 {
                self.slots.resize((slot + 512).max(self.slots.len() * 3 / 2), FREE);
            }
            let base = slot - first;
            if labels.iter().all(|label| self.slots[base + usize::from(*label)].check == NONE) {
                // Where many places were tried in vain the region is nearly full: never look there again.
                if tried > 256 {
                    self.first_free = slot;
                }
                return base;
            }
            slot += 1;
            tried += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Trie;

    #[test]
    fn finds_the_longest_prefix_only() {
        let words = ["a", "ab", "abcd", "b", "中", "中国", "中国人", "▁"];
        let trie = Trie::new(words.iter().enumerate().map(|(index, word)| (word.as_bytes(), index as u32)));
        let longest = |text: &str| trie.longest_prefix(text.as_bytes());
        assert_eq!(longest("abc"), Some((2, 1)));
        assert_eq!(longest("abcde"), Some((4, 2)));
        assert_eq!(longest("中国话"), Some((6, 5)));
        assert_eq!(longest("国"), None);
        assert_eq!(longest(""), None);
        assert_eq!(longest("\u{2580}"), None);
    }

    #[test]
    fn holds_every_key_of_many() {
        let keys: Vec<String> =
            (0..20_000u32).map(|n| format!("{:x}", u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
        let trie = Trie::new(keys.iter().enumerate().map(|(index, key)| (key.as_bytes(), index as u32)));
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(trie.longest_prefix(key.as_bytes()), Some((key.len(), index as u32)));
        }
        assert_eq!(trie.longest_prefix(b"zzz"), None);
    }
}
