//! Optimizers, schedules and spikes of a stage.

use super::Rule;
use super::shapes::{decimal, is_decimal, unique};

pub(super) fn rules() -> Vec<Rule> {
    let range = |field: &str, condition: &str, remedy: &str| {
        decimal(&format!("Optimizer.{field}"), condition, &format!("is out of range; write {remedy}"))
    };
    let in_range = format!("!{} || (double(beta) >= 0.0 && double(beta) < 1.0)", is_decimal("beta"));
    let mut rules = vec![
        range("learningRate", "value > 0.0", "more than 0, such as \"1e-4\""),
        Rule::new(
            "Optimizer.betas",
            format!("self.all(beta, {in_range})"),
            "is out of range; write 0 or more and less than 1",
        )
        .says(format!("self.filter(beta, !({in_range}))[0] + ' is out of range; write 0 or more and less than 1'")),
        range("epsilon", "value > 0.0", "more than 0, such as \"1e-8\""),
        range("weightDecay", "value >= 0.0", "0 or more"),
        range("clipNorm", "value >= 0.0", "0 (no clipping) or more"),
        unique("Optimizer.noDecay"),
        decimal("Schedule.minimumRatio", "value >= 0.0 && value <= 1.0", "is not a part of the peak; write 0 to 1"),
        decimal("Spikes.lossSigma", "value > 0.0", "is out of range; write more than 0, such as \"6\""),
        Rule::new("Spikes.window", "self >= 2", "losses have no deviation; write 2 or more"),
    ];
    rules.extend(decay());
    rules
}

/// The last steps of `WarmupStableDecay` decay, and of no other kind.
fn decay() -> Vec<Rule> {
    let elsewhere = |field: &str| {
        let remedy = "remove it, or write kind: WarmupStableDecay";
        Rule::new(
            "Schedule",
            format!("self.kind == 'WarmupStableDecay' || !has(self.{field})"),
            format!("means nothing with this kind; {remedy}"),
        )
        .says(format!("'means nothing with kind ' + self.kind + '; {remedy}'"))
        .at(format!(".{field}"))
    };
    vec![
        Rule::new(
            "Schedule",
            "self.kind != 'WarmupStableDecay' || has(self.decaySteps)",
            "required with kind WarmupStableDecay, but missing; write how many of the last steps decay",
        )
        .at(".decaySteps"),
        elsewhere("decaySteps"),
        elsewhere("decayShape"),
        Rule::new(
            "Schedule",
            "self.kind != 'WarmupStableDecay' || !has(self.decaySteps) || self.decaySteps > 0",
            "0 steps do not decay; write 1 or more, or kind: Constant",
        )
        .at(".decaySteps"),
        Rule::new(
            "Stage",
            "self.schedule.kind != 'WarmupStableDecay' || !has(self.schedule.decaySteps) || !has(self.budget.steps) || self.schedule.decaySteps <= self.budget.steps",
            "is more than the stage's steps; write at most that",
        )
        .at(".schedule.decaySteps"),
    ]
}
