//! Texts that end an output, which may come in pieces.

/// Looks for texts that end an output, and holds back what may be the beginning of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

/// What may be told of an output now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) text: String,
    /// Whether one of the texts has come; the text is cut before it.
    pub(crate) is_stopped: bool,
}

impl StopMatcher {
    /// Texts are not empty.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes in what comes next.
    pub(crate) fn push(&mut self, text: String) -> Released {
        if self.stops.is_empty() {
            return Released { text, is_stopped: false };
        }
        self.held.push_str(&text);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop)).min();
        if let Some(position) = found {
            self.held.truncate(position);
            return Released { text: std::mem::take(&mut self.held), is_stopped: true };
        }
        let kept = self.beginning_of_a_stop();
        let rest = self.held.split_off(self.held.len() - kept);
        Released { text: std::mem::replace(&mut self.held, rest), is_stopped: false }
    }

    /// What was held back, where nothing more comes.
    pub(crate) fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end with which a stop may begin.
    fn beginning_of_a_stop(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let most = self.held.len().min(longest.saturating_sub(1));
        let is_beginning = |bytes: &usize| {
            let start = self.held.len() - bytes;
            let end = &self.held.as_bytes()[start..];
            // Stops begin with a whole character, and so does what is cut here.
            self.held.is_char_boundary(start) && self.stops.iter().any(|stop| stop.as_bytes().starts_with(end))
        };
        (1..=most).rev().find(is_beginning).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut texts = Vec::new();
        for piece in pieces {
            let released = matcher.push((*piece).to_owned());
            texts.push(released.text);
            if released.is_stopped {
                return (texts, true);
            }
        }
        texts.push(matcher.flush());
        (texts, false)
    }

    #[test]
    fn what_may_begin_a_stop_is_held_back_until_it_is_known() {
        assert_eq!(run(&["END"], &["a E", "N", "X"]), (vec!["a ".into(), "".into(), "ENX".into(), "".into()], false));
        assert_eq!(run(&["END"], &["a E", "ND b"]), (vec!["a ".into(), "".into()], true));
        assert_eq!(run(&["END"], &["a E", "N"]), (vec!["a ".into(), "".into(), "EN".into()], false));
        assert_eq!(run(&["aab"], &["aaab"]), (vec!["a".into()], true));
        assert_eq!(run(&["aab"], &["aa", "a", "b"]), (vec!["".into(), "a".into(), "".into()], true));
    }

    #[test]
    fn the_first_of_several_stops_counts_and_characters_stay_whole() {
        assert_eq!(run(&["c", "b"], &["abc"]), (vec!["a".into()], true));
        assert_eq!(run(&["好的"], &["你好", "吗"]), (vec!["你".into(), "好吗".into(), "".into()], false));
        assert_eq!(run(&[], &["你好"]), (vec!["你好".into(), "".into()], false));
    }
}
