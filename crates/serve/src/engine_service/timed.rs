//! Measures a model's share of the steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use palimpsest_infer::{Model, Work};

/// A model whose steps are measured.
#[derive(Debug)]
pub(super) struct Timed<M> {
    model: M,
    time: ModelTime,
}

/// How long a model has computed so far.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelTime(Arc<AtomicU64>);

impl ModelTime {
    pub(super) fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl<M> Timed<M> {
    pub(super) fn new(model: M) -> (Self, ModelTime) {
        let time = ModelTime::default();
        (Self { model, time: time.clone() }, time)
    }
}

impl<M: Model> Model for Timed<M> {
    type Error = M::Error;

    fn vocabulary(&self) -> usize {
        self.model.vocabulary()
    }

    fn step(&mut self, step: &[Work<'_>]) -> Result<&[f32], Self::Error> {
        let began = Instant::now();
        let result = self.model.step(step);
        let nanoseconds = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.time.0.fetch_add(nanoseconds, Ordering::Relaxed);
        result
    }
}
