//! What the log of a pod says of a rank's events: a line at each turn, and one every half minute while steps are taken.

use std::time::{Duration, Instant};

use crate::protocol::{RankEvent, RankOutcome, RankPhase, RankProgress};

/// The longest silence while steps are taken.
const INTERVAL: Duration = Duration::from_secs(30);

/// What was said of a rank last.
#[derive(Debug, Default)]
pub(super) struct Log {
    phase: Option<RankPhase>,
    /// The stage and the bucket of the last step that was told of, and when that was.
    told: Option<(u32, u32, Instant)>,
}

impl Log {
    /// Says what is worth it.
    pub(super) fn tell(&mut self, event: &RankEvent) {
        match event {
            RankEvent::Warning { message } => tracing::warn!("{message}"),
            RankEvent::Failed { reason, message, .. } => tracing::error!(reason, "{message}"),
            _ => {
                if let Some(line) = self.line(event, Instant::now()) {
                    tracing::info!("{line}");
                }
            }
        }
    }

    fn line(&mut self, event: &RankEvent, now: Instant) -> Option<String> {
        match event {
            RankEvent::Phase { phase, message, .. } => {
                let is_new = self.phase.replace(*phase) != Some(*phase);
                // Stages of training are one phase.
                (is_new || *phase == RankPhase::Training).then(|| message.clone())
            }
            RankEvent::Planned { steps, tokens, .. } => Some(format!("the plan has {steps} steps and {tokens} tokens")),
            RankEvent::Progress(progress) => self.progress(progress, now),
            RankEvent::CheckpointCommitted { step } => Some(format!("checkpoint of step {step}")),
            RankEvent::Evaluated(evaluated) => Some(format!(
                "{} has {:.4} bits per byte after step {}",
                evaluated.name, evaluated.bits_per_byte, evaluated.step
            )),
            RankEvent::Resolved { precision } => Some(format!("computing in {precision}")),
            RankEvent::Finished { outcome, step, .. } => Some(match outcome {
                RankOutcome::Succeeded => format!("finished with step {step}; the output is published"),
                RankOutcome::Stopped => format!("stopped after step {step}, with a checkpoint"),
                RankOutcome::AlreadyFinished => "the output of this job was there already".to_owned(),
            }),
            RankEvent::Notice { message } => Some(message.clone()),
            // Told where this is called.
            RankEvent::Alive | RankEvent::Warning { .. } | RankEvent::Failed { .. } => None,
        }
    }

    fn progress(&mut self, progress: &RankProgress, now: Instant) -> Option<String> {
        let (stage, bucket) = (progress.stage_index, progress.bucket);
        let is_known =
            self.told.is_some_and(|(of, at, time)| (of, at) == (stage, bucket) && now.duration_since(time) < INTERVAL);
        if is_known && progress.step != progress.steps {
            return None;
        }
        self.told = Some((stage, bucket, now));
        let loss = progress.loss.map_or_else(|| "no number".to_owned(), |loss| format!("{loss:.4}"));
        Some(format!(
            "step {}/{}, stage {}, bucket {}/{}, loss {loss}, {:.0} tokens/s",
            progress.step,
            progress.steps,
            progress.stage,
            bucket + 1,
            progress.buckets,
            progress.tokens_per_second
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_once_and_steps_every_half_minute() {
        let began = Instant::now();
        let mut log = Log::default();
        let mut check = |event: &RankEvent, seconds: u64, line: Option<&str>| {
            assert_eq!(log.line(event, began + Duration::from_secs(seconds)).as_deref(), line, "{event:?}");
        };
        let preparing = RankEvent::Phase {
            phase: RankPhase::Preparing,
            fraction: Some(0.5),
            message: "packing the data".to_owned(),
        };
        check(&preparing, 0, Some("packing the data"));
        check(&preparing, 1, None);
        check(&RankEvent::Alive, 1, None);
        check(&step(1, 0), 1, Some("step 1/9, stage text, bucket 1/2, loss 2.5000, 1000 tokens/s"));
        check(&step(2, 0), 30, None);
        check(&step(3, 1), 30, Some("step 3/9, stage text, bucket 2/2, loss 2.5000, 1000 tokens/s"));
        check(&step(4, 1), 60, Some("step 4/9, stage text, bucket 2/2, loss 2.5000, 1000 tokens/s"));
        check(&step(9, 1), 61, Some("step 9/9, stage text, bucket 2/2, loss 2.5000, 1000 tokens/s"));
        check(&RankEvent::CheckpointCommitted { step: 9 }, 62, Some("checkpoint of step 9"));
        let finished = RankEvent::Finished { outcome: RankOutcome::Succeeded, step: 9, digest: None };
        check(&finished, 63, Some("finished with step 9; the output is published"));
    }

    fn step(step: u64, bucket: u32) -> RankEvent {
        let progress = serde_json::json!({"progress": {
            "step": step, "steps": 9, "stage": "text", "stageIndex": 0, "stages": 1, "bucket": bucket, "buckets": 2,
            "loss": 2.5, "learningRate": 0.1, "tokens": 100, "tokensPerSecond": 1000.0, "remainingSeconds": 1.0,
            "record": {
                "step": step, "stage": "text", "bucket": bucket, "tokens": 100, "targets": 100, "slots": 100, "loss": 2.5,
                "gradNorm": 1.0, "learningRate": 0.1, "tokensPerSecond": 1000.0, "seconds": 0.1, "clipped": false, "skipped": false,
            },
        }});
        serde_json::from_value(progress).unwrap()
    }
}
