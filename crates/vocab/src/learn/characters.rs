//! A value for each character, found without hashing where the character is one of the common ones.

use crate::hash::FastMap;

/// As many characters as Unicode's first plane has.
const COMMON: usize = 1 << 16;

#[derive(Clone, Debug)]
pub(super) struct CharacterTable<T> {
    common: Vec<T>,
    others: FastMap<char, T>,
}

impl<T: Copy + Default> Default for CharacterTable<T> {
    fn default() -> Self {
        Self { common: vec![T::default(); COMMON], others: FastMap::default() }
    }
}

impl<T: Copy + Default> CharacterTable<T> {
    pub(super) fn get(&self, character: char) -> T {
        let common = self.common.get(character as usize).copied();
        common.unwrap_or_else(|| self.others.get(&character).copied().unwrap_or_default())
    }

    pub(super) fn get_mut(&mut self, character: char) -> &mut T {
        match self.common.get_mut(character as usize) {
            Some(value) => value,
            None => self.others.entry(character).or_default(),
        }
    }

    /// All characters, those too whose value was never set.
    pub(super) fn iter(&self) -> impl Iterator<Item = (char, T)> {
        let common = (0..).zip(&self.common).filter_map(|(number, value)| Some((char::from_u32(number)?, *value)));
        common.chain(self.others.iter().map(|(character, value)| (*character, *value)))
    }
}
