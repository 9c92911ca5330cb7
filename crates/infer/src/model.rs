//! What computes steps.

use crate::work::Work;

/// What computes steps.
pub trait Model {
    /// Why a step came to nothing.
    type Error;

    /// Tokens that it knows: those below this.
    fn vocabulary(&self) -> usize;

    /// Computes a step, and gives the logits that are wanted, [rows, vocabulary]: in the order of the works and of their tokens, for each as
    /// many rows as [`Work::rows`] says. They stay the model's own, so that nothing is copied twice.
    fn step(&mut self, step: &[Work<'_>]) -> Result<&[f32], Self::Error>;
}
