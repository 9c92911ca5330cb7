//! Decodes ids one by one.
//!
//! What an id adds to a text depends on those before it: a space at the beginning is not shown, and a character may need several
//! ids. So the newest ids are decoded with and without the next one, and the difference is what it adds.

use std::sync::Arc;

use palimpsest_vocab::Tokenizer;

/// Stands for bytes that make no character, or not yet.
const REPLACEMENT: char = '\u{FFFD}';

/// Ids that are waited for at most before what makes no character is told as it is. A character has four bytes at most, but a
/// tokenizer may let several begin in one id.
const HELD: usize = 16;

/// Ids of a prompt that are looked at for a beginning.
const CONTEXT: usize = 8;

/// Decodes ids one by one.
#[derive(Clone, Debug)]
pub(crate) struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    /// The newest ids whose text was told, and those after them.
    window: Vec<u32>,
    /// How many of them were told.
    told: usize,
    /// Their text.
    told_text: String,
}

impl Detokenizer {
    /// Goes on from these ids, whose text has been told.
    pub(crate) fn after(tokenizer: Arc<Tokenizer>, prompt: &[u32]) -> Self {
        // Back to where there is some text: a space after it is shown.
        let mut count = CONTEXT.min(prompt.len());
        let mut text = tokenizer.decode(&prompt[prompt.len() - count..]);
        while text.trim_matches(REPLACEMENT).is_empty() && count < prompt.len() {
            count = (count * 4).min(prompt.len());
            text = tokenizer.decode(&prompt[prompt.len() - count..]);
        }
        Self { tokenizer, window: prompt[prompt.len() - count..].to_vec(), told: count, told_text: text }
    }

    /// What the next id adds; nothing while a character is not whole.
    pub(crate) fn push(&mut self, id: u32) -> String {
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window);
        let held = self.window.len() - self.told;
        if text.ends_with(REPLACEMENT) && held < HELD {
            return String::new();
        }
        if text == self.told_text && held == 1 && (!text.is_empty() || self.window.len() > HELD) {
            // It adds nothing now or later. At a text's beginning it might be a space that only what follows shows.
            self.window.pop();
            return String::new();
        }
        let added = self.added_to(&text);
        self.tell();
        added
    }

    /// What is left, where nothing more comes.
    pub(crate) fn flush(&mut self) -> String {
        if self.window.len() == self.told {
            return String::new();
        }
        let text = self.tokenizer.decode(&self.window);
        let added = self.added_to(&text);
        self.tell();
        added
    }

    fn added_to(&self, text: &str) -> String {
        if let Some(added) = text.strip_prefix(&self.told_text) {
            return added.to_owned();
        }
        // The prompt ended within a character that is whole now: what replaced it has been told.
        let same = text.chars().zip(self.told_text.chars()).take_while(|(new, old)| new == old);
        let bytes = same.map(|(new, _)| new.len_utf8()).sum();
        text[bytes..].to_owned()
    }

    /// The newest ids that have some text are the beginning of what comes now.
    fn tell(&mut self) {
        let mut start = self.told;
        let mut step = 1;
        self.told_text = self.tokenizer.decode(&self.window[start..]);
        // Spaces alone show nothing at a beginning.
        while self.told_text.is_empty() && start > 0 {
            start = start.saturating_sub(step);
            step *= 2;
            self.told_text = self.tokenizer.decode(&self.window[start..]);
        }
        self.window.drain(..start);
        self.told = self.window.len();
    }
}

#[cfg(test)]
mod tests;
