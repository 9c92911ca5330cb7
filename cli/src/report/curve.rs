//! The course of training, a column a quantity, thinned so that a page stays small however long the run.

use serde::Serialize;

use super::files::Step;

/// Points of a curve at most; a screen shows fewer.
const MOST_POINTS: usize = 8000;

/// The course of training. All columns are of the same length.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Curve {
    /// How many steps a point is the mean of.
    steps_per_point: usize,
    /// The last step of a point.
    step: Vec<u64>,
    stage: Vec<String>,
    bucket: Vec<u64>,
    loss: Vec<Option<f64>>,
    grad_norm: Vec<Option<f64>>,
    learning_rate: Vec<Option<f64>>,
    tokens_per_second: Vec<Option<f64>>,
    /// How many of a point's steps were clipped.
    clipped: Vec<usize>,
    /// How many of a point's steps were skipped.
    skipped: Vec<usize>,
}

impl Curve {
    /// The curve of all steps.
    pub(super) fn new(steps: &[Step]) -> Self {
        let steps_per_point = steps.len().div_ceil(MOST_POINTS).max(1);
        let mut curve = Self { steps_per_point, ..Self::default() };
        for stage in steps.chunk_by(|left, right| left.stage == right.stage) {
            for group in stage.chunks(steps_per_point) {
                curve.push(group);
            }
        }
        curve
    }

    fn push(&mut self, group: &[Step]) {
        let Some(last) = group.last() else { return };
        self.step.push(last.step);
        self.stage.push(last.stage.clone());
        self.bucket.push(last.bucket);
        self.loss.push(mean(group.iter().map(|step| step.loss)));
        self.grad_norm.push(mean(group.iter().map(|step| step.grad_norm)));
        self.learning_rate.push(mean(group.iter().map(|step| Some(step.learning_rate))));
        self.tokens_per_second.push(mean(group.iter().map(|step| Some(step.tokens_per_second))));
        self.clipped.push(group.iter().filter(|step| step.clipped).count());
        self.skipped.push(group.iter().filter(|step| step.skipped).count());
    }
}

/// The mean of the numbers among `values`, to six digits, which is more than a screen shows.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (count, sum) = values.flatten().fold((0, 0.0), |(count, sum), value| (count + 1, sum + value));
    let mean = sum / f64::from(count);
    (count > 0).then(|| format!("{mean:.5e}").parse().unwrap_or(mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_step(step: u64, stage: &str, loss: Option<f64>) -> Step {
        Step {
            step,
            stage: stage.to_owned(),
            bucket: 0,
            tokens: 1,
            loss,
            grad_norm: None,
            learning_rate: 1e-4,
            tokens_per_second: 10.0,
            seconds: 0.1,
            clipped: step.is_multiple_of(2),
            skipped: false,
            flops_per_token: None,
            mfu: None,
            parts: None,
        }
    }

    #[test]
    fn a_short_run_keeps_every_step() {
        let steps: Vec<Step> = (1..=3).map(|step| mk_step(step, "one", Some(step as f64))).collect();
        let curve = Curve::new(&steps);
        assert_eq!(curve.step, [1, 2, 3]);
        assert_eq!(curve.loss, [Some(1.0), Some(2.0), Some(3.0)]);
        assert_eq!(curve.grad_norm, [None, None, None]);
    }

    #[test]
    fn a_long_run_is_thinned_to_means_that_stay_within_a_stage() {
        let mut steps: Vec<Step> = (1..=8001).map(|step| mk_step(step, "one", Some(step as f64))).collect();
        steps.push(mk_step(8002, "two", None));
        steps.push(mk_step(8003, "two", Some(7.0)));
        let curve = Curve::new(&steps);
        assert_eq!(curve.steps_per_point, 2);
        assert_eq!(curve.step.len(), 4002);
        assert_eq!(curve.loss[0], Some(1.5));
        assert_eq!(curve.loss[4000], Some(8001.0));
        assert_eq!((curve.step[4001], curve.loss[4001]), (8003, Some(7.0)));
        assert_eq!(curve.clipped.iter().sum::<usize>(), 4001);
    }
}
