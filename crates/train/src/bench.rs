//! A training step outside a job, for benchmarks: the same passes, clipping and optimizer, without data or records.

use palimpsest_api::{Optimizer as OptimizerSpec, Trainable};
use palimpsest_model::{Batch, Decoder, ForwardOptions};

use crate::error::Result;
use crate::flops;
use crate::optimizer::Optimizer;

/// A model with its optimizer.
#[derive(Debug)]
pub struct BenchmarkModel {
    model: Decoder,
    optimizer: Optimizer,
    settings: OptimizerSpec,
    forward: ForwardOptions,
}

impl BenchmarkModel {
    /// All of the model's parameters are trained.
    pub fn new(mut model: Decoder, settings: OptimizerSpec, forward: ForwardOptions) -> Result<Self> {
        let mut optimizer = Optimizer::new(&model, None);
        optimizer.set_trainable(&mut model, Trainable::All)?;
        Ok(Self { model, optimizer, settings, forward })
    }

    /// The floating-point operations of the model in a step on rows that attend to all of themselves.
    pub fn flops_of_step(&self, rows: i64, positions: i64) -> Result<f64> {
        Ok(flops::shape(&self.model)?.flops((rows * positions) as f64, positions as f64, Trainable::All))
    }

    /// One optimizer step; gives the mean loss before it.
    pub fn take_step(&mut self, batch: &Batch, targets: u64) -> Result<f64> {
        let scale = 1.0 / targets.max(1) as f64;
        let sum = self.model.loss_and_backward(batch, scale, &self.forward)?.sum;
        self.optimizer.clip(&self.model, self.settings.clip_norm.value())?;
        self.optimizer.step(&self.model, &self.settings, self.settings.learning_rate.value())?;
        self.model.zero_gradients()?;
        Ok(sum * scale)
    }
}
