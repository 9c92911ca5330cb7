//! Notices a loss that jumps.

use std::collections::VecDeque;

use palimpsest_api::{SpikeAction, Spikes};
use serde::{Deserialize, Serialize};

/// What to do with a step whose loss has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The loss is as expected.
    Step,
    /// A spike that the stage ignores: counted, and the optimizer steps.
    StepThough,
    /// A spike: the optimizer does not step.
    Skip,
    /// A spike that ends the job.
    Fail,
}

/// The last losses of a stage. A spike lies more than `lossSigma` deviations above their mean; nothing is judged before
/// half the window is filled, as in OLMo-core's `SkipStepOptimizer`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SpikeWindow {
    losses: VecDeque<f64>,
}

impl SpikeWindow {
    /// Judges the loss of a step, and takes it into the window if it is a number: a lasting shift of the level is thus
    /// not skipped for ever. A loss or gradient norm that is not finite is always a spike, and never stepped on.
    pub(crate) fn judge(&mut self, spikes: &Spikes, loss: f64, gradient_norm: f64) -> Verdict {
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return if spikes.action == SpikeAction::Fail { Verdict::Fail } else { Verdict::Skip };
        }
        let is_spike = self.threshold(spikes).is_some_and(|threshold| loss > threshold);
        self.losses.push_back(loss);
        while self.losses.len() > spikes.window as usize {
            self.losses.pop_front();
        }
        match (is_spike, spikes.action) {
            (false, _) => Verdict::Step,
            (true, SpikeAction::Ignore) => Verdict::StepThough,
            (true, SpikeAction::SkipStep) => Verdict::Skip,
            (true, SpikeAction::Fail) => Verdict::Fail,
        }
    }

    fn threshold(&self, spikes: &Spikes) -> Option<f64> {
        let count = self.losses.len();
        if count < (spikes.window as usize / 2).max(2) {
            return None;
        }
        let mean = self.losses.iter().sum::<f64>() / count as f64;
        let variance = self.losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
        Some(mean + spikes.loss_sigma.value() * variance.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_window(spikes: &Spikes) -> SpikeWindow {
        let mut window = SpikeWindow::default();
        for step in 0..spikes.window {
            assert_eq!(window.judge(spikes, 2.0 + 0.01 * f64::from(step % 2), 1.0), Verdict::Step);
        }
        window
    }

    #[test]
    fn a_jump_is_a_spike_and_a_lasting_shift_is_accepted() {
        let spikes = Spikes { window: 16, ..Spikes::default() };
        let mut window = mk_window(&spikes);
        assert_eq!(window.judge(&spikes, 2.02, 1.0), Verdict::Step);
        let verdicts: Vec<Verdict> = (0..16).map(|_| window.judge(&spikes, 3.0, 1.0)).collect();
        assert_eq!(verdicts[0], Verdict::Skip);
        assert_eq!(verdicts[15], Verdict::Step);
    }

    #[test]
    fn what_is_not_a_number_is_never_stepped_on() {
        let ignoring = Spikes { action: SpikeAction::Ignore, ..Spikes::default() };
        let mut window = SpikeWindow::default();
        assert_eq!(window.judge(&ignoring, f64::NAN, 1.0), Verdict::Skip);
        assert_eq!(window.judge(&ignoring, 1.0, f64::INFINITY), Verdict::Skip);
        let failing = Spikes { action: SpikeAction::Fail, ..Spikes::default() };
        assert_eq!(window.judge(&failing, f64::NAN, 1.0), Verdict::Fail);
        assert_eq!(window, SpikeWindow::default());
    }

    #[test]
    fn an_ignored_spike_is_stepped_on() {
        let spikes = Spikes { window: 16, action: SpikeAction::Ignore, ..Spikes::default() };
        assert_eq!(mk_window(&spikes).judge(&spikes, 9.0, 1.0), Verdict::StepThough);
    }
}
