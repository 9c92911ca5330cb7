//! Stages: mixtures, budgets, optimizers, schedules.

use super::Violations;
use crate::decimal::Decimal;
use crate::training_job::{
    Budget, CarryOver, CheckpointState, Optimizer, Schedule, ScheduleKind, Spikes, Stage, Trainable, TrainingJobSpec,
};

pub(super) fn check(spec: &TrainingJobSpec, violations: &mut Violations) {
    violations.add_if(
        spec.stages.is_empty(),
        "spec.stages",
        "is empty; write at least one stage, with its name, mixture and budget",
    );
    violations.unique("spec.stages", "name", spec.stages.iter().map(|stage| stage.name.as_str()));
    for (index, stage) in spec.stages.iter().enumerate() {
        let field = format!("spec.stages[{index}]");
        violations.add_if(
            stage.buckets == 0,
            format!("{field}.buckets"),
            "0 buckets hold nothing; write 1 to train on everything at once",
        );
        check_mixture(&field, spec, stage, violations);
        check_budget(&field, stage, violations);
        check_trainable(&field, spec, stage, violations);
        check_carry_over(&field, index, spec, stage, violations);
        check_batch(&field, stage, violations);
        check_optimizer(&format!("{field}.optimizer"), &stage.optimizer, violations);
        check_schedule(&format!("{field}.schedule"), &stage.schedule, &stage.budget, violations);
        check_spikes(&format!("{field}.spikes"), &stage.spikes, violations);
    }
}

fn check_mixture(stage_field: &str, spec: &TrainingJobSpec, stage: &Stage, violations: &mut Violations) {
    let field = format!("{stage_field}.mixture");
    let in_epochs = stage.budget.epochs.is_some();
    violations.add_if(stage.mixture.is_empty(), &field, "is empty; name at least one dataset");
    for (index, entry) in stage.mixture.iter().enumerate() {
        violations.known_dataset(format!("{field}[{index}].dataset"), &entry.dataset, &spec.data.datasets);
        if let Some(first) = stage.mixture[..index].iter().position(|other| other.dataset == entry.dataset) {
            let message =
                format!("\"{}\" is in {field}[{first}] already; keep one, with the sum of the weights", entry.dataset);
            violations.add(format!("{field}[{index}].dataset"), message);
        }
        let weight = format!("{field}[{index}].weight");
        match entry.weight {
            Some(_) if in_epochs => {
                violations.add(weight, "a budget in epochs takes every document, so there are no weights; remove it");
            }
            None if !in_epochs => violations.add(weight, "required, but missing; write a whole number, such as 1"),
            Some(0) => violations.add(
                weight,
                format!("a weight of 0 trains on nothing; remove \"{}\" from the mixture or write 1 or more", entry.dataset),
            ),
            Some(weight_in_tokens) => violations.add_if(
                weight_in_tokens > u64::from(u32::MAX),
                weight,
                format!("{weight_in_tokens} is too large; weights are relative, so write smaller ones in the same proportion"),
            ),
            None => {}
        }
    }
}

fn check_budget(stage_field: &str, stage: &Stage, violations: &mut Violations) {
    let field = format!("{stage_field}.budget");
    let Budget { tokens, steps, epochs } = stage.budget;
    violations
        .exactly_one(&field, &[("tokens", tokens.is_some()), ("steps", steps.is_some()), ("epochs", epochs.is_some())]);
    for (name, amount) in [("tokens", tokens), ("steps", steps), ("epochs", epochs.map(u64::from))] {
        violations.add_if(
            amount == Some(0),
            format!("{field}.{name}"),
            "a budget of 0 trains on nothing; remove the stage or write 1 or more",
        );
    }
    violations.add_if(
        stage.max_repeats == 0,
        format!("{stage_field}.maxRepeats"),
        "0 leaves no document to train on; write 1 or more",
    );
    if let Some(epochs) = epochs
        && epochs > stage.max_repeats
        && stage.max_repeats > 0
    {
        let message = format!(
            "{epochs} epochs use each document more often than maxRepeats: {} allows; write at most {} epochs or a larger maxRepeats",
            stage.max_repeats, stage.max_repeats
        );
        violations.add(format!("{field}.epochs"), message);
    }
}

fn check_trainable(field: &str, spec: &TrainingJobSpec, stage: &Stage, violations: &mut Violations) {
    let is_extended = spec.tokenizer.as_ref().is_some_and(|tokenizer| tokenizer.extension.is_some());
    violations.add_if(
        stage.trainable == Trainable::NewEmbeddings && !is_extended,
        format!("{field}.trainable"),
        "NewEmbeddings trains the rows of an extension; write spec.tokenizer.extension or another value",
    );
}

fn check_carry_over(field: &str, index: usize, spec: &TrainingJobSpec, stage: &Stage, violations: &mut Violations) {
    if index > 0 {
        return;
    }
    let has_moments = spec.model.checkpoint.as_ref().is_some_and(|it| it.state == CheckpointState::Full);
    match (stage.carry_over, has_moments) {
        (CarryOver::WeightsAndOptimizer, false) => violations.add(
            format!("{field}.carryOver"),
            "the first stage has no optimizer state to take over; write Weights, or give spec.model.checkpoint with state: Full",
        ),
        (CarryOver::Weights, true) => violations.add(
            "spec.model.checkpoint.state",
            format!("Full reads moments that {field}.carryOver: Weights throws away; write state: Weights, or carryOver: WeightsAndOptimizer"),
        ),
        _ => {}
    }
}

fn check_batch(stage_field: &str, stage: &Stage, violations: &mut Violations) {
    let field = format!("{stage_field}.batch");
    let batch = &stage.batch;
    if batch.sequences == 0 {
        violations.add(format!("{field}.sequences"), "0 sequences make no step; write 1 or more");
    } else if batch.micro_batch == 0 {
        violations.add(format!("{field}.microBatch"), "0 sequences make no pass; write 1 or more");
    } else if batch.micro_batch > batch.sequences {
        let message = format!(
            "{} is more than the {} sequences of a step; write at most that",
            batch.micro_batch, batch.sequences
        );
        violations.add(format!("{field}.microBatch"), message);
    }
}

fn check_optimizer(field: &str, optimizer: &Optimizer, violations: &mut Violations) {
    let mut check = |name: &str, value: &Decimal, is_right: bool, remedy: &str| {
        violations.add_if(!is_right, format!("{field}.{name}"), format!("{value} is out of range; write {remedy}"));
    };
    let value = |decimal: &Decimal| decimal.value();
    check(
        "learningRate",
        &optimizer.learning_rate,
        value(&optimizer.learning_rate) > 0.0,
        "more than 0, such as \"1e-4\"",
    );
    for (index, beta) in optimizer.betas.iter().enumerate() {
        check(&format!("betas[{index}]"), beta, (0.0..1.0).contains(&value(beta)), "0 or more and less than 1");
    }
    check("epsilon", &optimizer.epsilon, value(&optimizer.epsilon) > 0.0, "more than 0, such as \"1e-8\"");
    check("weightDecay", &optimizer.weight_decay, value(&optimizer.weight_decay) >= 0.0, "0 or more");
    check("clipNorm", &optimizer.clip_norm, value(&optimizer.clip_norm) >= 0.0, "0 (no clipping) or more");
    for (index, group) in optimizer.no_decay.iter().enumerate() {
        violations.add_if(
            optimizer.no_decay[..index].contains(group),
            format!("{field}.noDecay[{index}]"),
            format!("{group:?} is there already; remove one"),
        );
    }
}

fn check_schedule(field: &str, schedule: &Schedule, budget: &Budget, violations: &mut Violations) {
    violations.add_if(
        !(0.0..=1.0).contains(&schedule.minimum_ratio.value()),
        format!("{field}.minimumRatio"),
        format!("{} is not a part of the peak; write 0 to 1", schedule.minimum_ratio),
    );
    let decays_last = schedule.kind == ScheduleKind::WarmupStableDecay;
    match schedule.decay_steps {
        None if decays_last => {
            violations.add(
                format!("{field}.decaySteps"),
                "required with kind WarmupStableDecay, but missing; write how many of the last steps decay",
            );
        }
        Some(_) if !decays_last => {
            let message =
                format!("means nothing with kind {:?}; remove it, or write kind: WarmupStableDecay", schedule.kind);
            violations.add(format!("{field}.decaySteps"), message);
        }
        Some(0) => {
            violations.add(format!("{field}.decaySteps"), "0 steps do not decay; write 1 or more, or kind: Constant")
        }
        Some(decay) => {
            if let Some(steps) = budget.steps {
                violations.add_if(
                    decay > steps,
                    format!("{field}.decaySteps"),
                    format!("{decay} is more than the stage's {steps} steps; write at most that"),
                );
            }
        }
        None => {}
    }
    violations.add_if(
        schedule.decay_shape.is_some() && !decays_last,
        format!("{field}.decayShape"),
        format!("means nothing with kind {:?}; remove it, or write kind: WarmupStableDecay", schedule.kind),
    );
}

fn check_spikes(field: &str, spikes: &Spikes, violations: &mut Violations) {
    violations.add_if(
        spikes.loss_sigma.value() <= 0.0,
        format!("{field}.lossSigma"),
        format!("{} is out of range; write more than 0, such as \"6\"", spikes.loss_sigma),
    );
    violations.add_if(
        spikes.window < 2,
        format!("{field}.window"),
        format!("{} losses have no deviation; write 2 or more", spikes.window),
    );
}
