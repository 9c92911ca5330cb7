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
        None => show_sentence(&format!("{error:#}")),
    }
    ExitCode::from(if is_users(error) { USER } else { 1 })
}

/// Writes one mistake to standard error.
pub(crate) fn show_sentence(sentence: &str) {
    eprintln!("error: {sentence}");
}

fn is_users(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<UserError>()
            || cause.is::<palimpsest_api::LoadError>()
            || cause.downcast_ref::<palimpsest_store::Error>().is_some_and(palimpsest_store::Error::is_users)
            || cause.downcast_ref::<palimpsest_corpus::Error>().is_some_and(palimpsest_corpus::Error::is_users)
            || cause.downcast_ref::<palimpsest_prepare::Error>().is_some_and(palimpsest_prepare::Error::is_users)
            || cause.is::<palimpsest_vocab::Error>()
    })
}
