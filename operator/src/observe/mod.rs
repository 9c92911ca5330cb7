//! What pods, and refusals to make them, say of a job. Pure: objects of Kubernetes go in.

mod block;
mod pod;
mod refusal;

pub(crate) use block::Block;
pub(crate) use pod::{End, Life, OVERDUE, PodView};
pub(crate) use refusal::{Refusal, of_refusal};

#[cfg(test)]
mod tests;
