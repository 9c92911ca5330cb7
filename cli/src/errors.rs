//! Which errors the user can mend, and how they are shown.

use std::fmt;
use std::process::ExitCode;

/// The exit code of what the user can mend.
const USER: u8 = 2;

/// What the user can mend: one sentence a mistake, each naming the file, field or argument and the remedy.
#[derive(Debug)]
pub(crate) struct UserError {
    sentences: Vec<String>,
}

impl UserError {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { sentences: vec![sentence.into()] }
    }

    pub(crate) fn all(sentences: Vec<String>) -> Self {
        Self { sentences }
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentences.join("\n"))
    }
}

impl std::error::Error for UserError {}

/// Writes an error to standard error and gives the exit code for it.
pub(crate) fn show(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<UserError>() {
        Some(user) => user.sentences.iter().for_each(|sentence| show_sentence(sentence)),
        None => show_sentence(&sentence(error)),
    }
    ExitCode::from(if is_users(error) { USER } else { 1 })
}

/// Writes one mistake to standard error.
pub(crate) fn show_sentence(sentence: &str) {
    eprintln!("error: {sentence}");
}

/// The error and its causes, but for those that a message names already.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

fn is_users(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<UserError>()
            || cause.is::<palimpsest_api::LoadError>()
            || cause.downcast_ref::<palimpsest_store::Error>().is_some_and(palimpsest_store::Error::is_users)
            || cause.downcast_ref::<palimpsest_corpus::Error>().is_some_and(palimpsest_corpus::Error::is_users)
            || cause.downcast_ref::<palimpsest_prepare::Error>().is_some_and(palimpsest_prepare::Error::is_users)
            || cause.downcast_ref::<palimpsest_serve::Error>().is_some_and(palimpsest_serve::Error::is_users)
            || cause.downcast_ref::<palimpsest_vocab::Error>().is_some_and(palimpsest_vocab::Error::is_users)
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let source = std::io::Error::other("no luck");
        let error = palimpsest_store::Error::Io { action: "read", path: "a".into(), source };
        assert!(!is_users(&anyhow::Error::new(error)));
        let source = std::io::Error::other("no luck");
        let error = Err::<(), _>(palimpsest_store::Error::Io { action: "read", path: "a".into(), source });
        assert_eq!(sentence(&error.context("cannot start").unwrap_err()), "cannot start: cannot read a: no luck");
    }

    #[test]
    fn what_the_user_can_mend_is_seen_through_contexts() {
        let error = Err::<(), _>(UserError::new("a")).context("b").unwrap_err();
        assert!(is_users(&error));
        assert!(!is_users(&anyhow::anyhow!("a")));
    }
}
