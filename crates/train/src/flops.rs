//! How much a step computes, and how much of what the device can do that is.

use std::time::Instant;

use palimpsest_corpus::Sequence;
use palimpsest_model::Decoder;
use palimpsest_prepare::Shape;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::records::StepRecord;
use crate::step::StepContext;

/// Step time that a process spends before the device's rate is measured: shorter runs are not held up by it.
const SECONDS_BEFORE: f64 = 1.0;

/// A product that takes this long is large enough to be measured by.
const ENOUGH_SECONDS: f64 = 0.01;

/// The model's shape.
pub(crate) fn shape(model: &Decoder) -> Result<Shape> {
    let config = model.config.to_json("float32");
    Shape::of(&config, model.config.vocab_size as usize)
        .ok_or_else(|| Error::User("config.json: the model's sizes are not there; restore the file".to_owned()))
}

/// The floating-point operations of a step over `sequences`. Padding does not count, and a position attends to its own
/// document or to its whole sequence, as the job says.
pub(crate) fn of_step(context: &StepContext<'_>, sequences: &[Sequence<'_>]) -> f64 {
    let mut flops = 0.0;
    for sequence in sequences {
        let whole = [sequence.input_ids.len() as u32];
        let spans = if context.document_attention { sequence.segments } else { whole.as_slice() };
        for span in spans.iter().map(|span| f64::from(*span)) {
            flops += context.shape.flops(span, span, context.stage.trainable);
        }
    }
    flops
}

/// The rate of the device at matrix products, measured once while a process trains.
#[derive(Debug)]
pub(crate) struct MatrixRate {
    compute: Kind,
    device: Device,
    /// Step time so far, until it is measured.
    seconds: f64,
    flops_per_second: Option<f64>,
}

impl MatrixRate {
    /// In the kind that the passes compute in.
    pub(crate) fn new(compute: Kind, device: Device) -> Self {
        Self { compute, device, seconds: 0.0, flops_per_second: None }
    }

    /// What it is, once it is known.
    pub(crate) fn flops_per_second(&self) -> Option<f64> {
        self.flops_per_second
    }

    /// The share of it that a step has used, where it is known. The step is over: what is measured here is in no step's time.
    pub(crate) fn share_of(&mut self, record: &StepRecord) -> Result<Option<f64>> {
        if self.flops_per_second.is_none() {
            self.seconds += record.seconds;
            if self.seconds >= SECONDS_BEFORE {
                self.flops_per_second = Some(matrix_flops_per_second(self.compute, self.device)?);
            }
        }
        let flops = record.flops_per_token * record.tokens as f64;
        Ok(self.flops_per_second.map(|rate| flops / record.seconds / rate))
    }
}

/// What a device does a second in square matrix products: the best of a few, as large as is needed to take a while. Some 0.1 s
/// in all on a CPU, less on a GPU.
pub fn matrix_flops_per_second(kind: Kind, device: Device) -> Result<f64> {
    // A launch costs a GPU more than a small product; several are waited for at once.
    let launches = if device.is_cuda() { 10 } else { 1 };
    let mut best: f64 = 0.0;
    for size in [256i64, 512, 1024, 2048, 4096] {
        let factor = Tensor::f_ones([size, size], (kind, device))?;
        let product = factor.f_mm(&factor)?;
        let mut shortest = f64::INFINITY;
        for _ in 0..3 {
            let began = Instant::now();
            for _ in 0..launches {
                let _ = factor.f_mm_out(&product, &factor)?;
            }
            // Waits for the device.
            let _ = product.f_double_value(&[0, 0])?;
            shortest = shortest.min(began.elapsed().as_secs_f64() / f64::from(launches));
        }
        best = best.max(2.0 * (size as f64).powi(3) / shortest);
        if shortest > ENOUGH_SECONDS {
            break;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_measured_within_a_second_and_far_above_what_a_scalar_loop_does() {
        let began = Instant::now();
        let rate = matrix_flops_per_second(Kind::Float, Device::Cpu).unwrap();
        assert!(rate > 1e9 && rate < 1e14, "{rate:e}");
        assert!(began.elapsed().as_secs_f64() < 5.0, "{:?}, with others at work", began.elapsed());
    }
}
