//! The learning rate as a function of a stage's step.

use std::f64::consts::PI;

use palimpsest_api::{DecayShape, Schedule, ScheduleKind};

/// The learning rate of step `step` (from 0) of a stage of `steps` steps whose peak is `peak`.
///
/// The warm-up is `peak * (step + 1) / warmupSteps`. The shape then spans the rest: with `x` from 0 at its first step
/// to 1 one step after the last, `Cosine` and `Linear` are those of PyTorch's `CosineAnnealingLR` and `LinearLR`.
pub fn learning_rate(schedule: &Schedule, peak: f64, step: u64, steps: u64) -> f64 {
    if step < schedule.warmup_steps {
        return peak * (step + 1) as f64 / schedule.warmup_steps as f64;
    }
    let minimum = peak * schedule.minimum_ratio.value();
    let between = |share: f64| minimum + (peak - minimum) * share;
    match schedule.kind {
        ScheduleKind::Constant => peak,
        ScheduleKind::Cosine => between(cosine(passed(step, schedule.warmup_steps, steps))),
        ScheduleKind::Linear => between(1.0 - passed(step, schedule.warmup_steps, steps)),
        ScheduleKind::WarmupStableDecay => {
            let decay_from = steps.saturating_sub(schedule.decay_steps.unwrap_or(0)).max(schedule.warmup_steps);
            if step < decay_from {
                return peak;
            }
            let x = passed(step, decay_from, steps);
            between(match schedule.decay_shape.unwrap_or_default() {
                DecayShape::Linear => 1.0 - x,
                DecayShape::Cosine => cosine(x),
                DecayShape::Sqrt => 1.0 - x.sqrt(),
            })
        }
    }
}

/// The share of `from..to` that lies before `step`.
fn passed(step: u64, from: u64, to: u64) -> f64 {
    (step - from) as f64 / (to - from).max(1) as f64
}

fn cosine(x: f64) -> f64 {
    0.5 * (1.0 + (PI * x).cos())
}

#[cfg(test)]
mod tests {
    use palimpsest_api::{Decimal, Schedule, ScheduleKind};
    use serde::Deserialize;

    use super::*;

    /// A schedule of PyTorch's or transformers', as `tests/parity/schedules.py` wrote it.
    #[derive(Deserialize)]
    struct Reference {
        name: String,
        schedule: Schedule,
        peak: f64,
        steps: u64,
        from: u64,
        rates: Vec<f64>,
    }

    #[test]
    fn rates_are_pytorchs_and_transformers() {
        let references: Vec<Reference> = serde_json::from_str(include_str!("schedule_reference.json")).unwrap();
        assert_eq!(references.len(), 7);
        for Reference { name, schedule, peak, steps, from, rates } in references {
            assert_eq!(rates.len() as u64, steps - from);
            for (step, theirs) in (from..).zip(rates) {
                let ours = learning_rate(&schedule, peak, step, steps);
                assert!((ours / theirs - 1.0).abs() < 1e-12, "{name}: step {step}: {ours}, not {theirs}");
            }
        }
    }

    fn mk_schedule(kind: ScheduleKind) -> Schedule {
        Schedule { kind, warmup_steps: 4, minimum_ratio: Decimal::parse("0.1").unwrap(), ..Schedule::default() }
    }

    fn rates(schedule: &Schedule, steps: u64) -> Vec<f64> {
        (0..steps).map(|step| (learning_rate(schedule, 1.0, step, steps) * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn warm_up_then_each_shape() {
        let linear = rates(&mk_schedule(ScheduleKind::Linear), 8);
        assert_eq!(linear, [0.25, 0.5, 0.75, 1.0, 1.0, 0.775, 0.55, 0.325]);
        let cosine = rates(&mk_schedule(ScheduleKind::Cosine), 8);
        assert_eq!(cosine, [0.25, 0.5, 0.75, 1.0, 1.0, 0.868198, 0.55, 0.231802]);
        let constant = rates(&mk_schedule(ScheduleKind::Constant), 6);
        assert_eq!(constant, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn warmup_stable_decay_falls_only_at_the_end() {
        let mut schedule = mk_schedule(ScheduleKind::WarmupStableDecay);
        schedule.decay_steps = Some(2);
        assert_eq!(rates(&schedule, 8), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 0.55]);
        schedule.decay_shape = Some(DecayShape::Sqrt);
        schedule.decay_steps = Some(4);
        assert_eq!(rates(&schedule, 8)[5], 0.55);
    }
}
