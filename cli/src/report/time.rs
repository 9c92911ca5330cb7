//! Where the time of the steps went, over all that the metrics hold.

use serde::Serialize;

use super::files::Step;

/// Sums over the steps, in seconds of the host, and how well the device was used.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StepTime {
    data_seconds: f64,
    forward_seconds: f64,
    backward_seconds: f64,
    optimizer_seconds: f64,
    /// What is in none of them.
    other_seconds: f64,
    /// Operations of a document token.
    flops_per_token: Option<f64>,
    /// The share of the device's rate of operations, over the steps that tell it, by their time.
    mfu: Option<f64>,
}

impl StepTime {
    /// `None` where no step tells its parts.
    pub(super) fn new(steps: &[Step]) -> Option<Self> {
        let told = || steps.iter().filter_map(|step| Some((step, step.parts.as_ref()?)));
        told().next()?;
        let sum = |part: fn(&super::files::Parts) -> f64| told().map(|(_, parts)| part(parts)).sum::<f64>();
        let (data_seconds, forward_seconds) = (sum(|parts| parts.data_seconds), sum(|parts| parts.forward_seconds));
        let backward_seconds = sum(|parts| parts.backward_seconds);
        let optimizer_seconds = sum(|parts| parts.optimizer_seconds);
        let all: f64 = told().map(|(step, _)| step.seconds).sum();
        let with_mfu = steps.iter().filter_map(|step| Some((step.seconds, step.mfu?)));
        let (weighted, seconds) =
            with_mfu.fold((0.0, 0.0), |(weighted, seconds), (took, mfu)| (weighted + mfu * took, seconds + took));
        Some(Self {
            data_seconds,
            forward_seconds,
            backward_seconds,
            optimizer_seconds,
            other_seconds: (all - data_seconds - forward_seconds - backward_seconds - optimizer_seconds).max(0.0),
            flops_per_token: steps.iter().rev().find_map(|step| step.flops_per_token),
            mfu: (seconds > 0.0).then(|| weighted / seconds),
        })
    }
}
