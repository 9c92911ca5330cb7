//! `attempts.jsonl`: when each attempt at a job began and ended, and how much of its work was lost. What `metrics.jsonl`
//! forgets when it is cut back is kept here.

use std::path::{Path, PathBuf};

use palimpsest_store::Fence;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::records::{self, StepRecord};

/// A line of `attempts.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attempt {
    /// The fencing number.
    attempt: u64,
    /// When its rank began, in seconds since 1970.
    began: f64,
    /// When it ended; where it crashed, when its last step did. `null` while it goes on.
    ended: Option<f64>,
    /// The steps that were there when it began.
    from_step: u64,
    /// How many steps were taken, but had to be taken again by the next attempt.
    lost_steps: u64,
    /// The seconds of those.
    lost_seconds: f64,
    /// Seconds that it waited for checkpoints after its last step; those before are told with the steps.
    #[serde(default)]
    last_checkpoint_seconds: f64,
}

/// The attempts at a job, this one last.
#[derive(Debug)]
pub(crate) struct Attempts {
    fence: Fence,
    path: PathBuf,
    attempts: Vec<Attempt>,
}

/// The share of the wall time of all attempts in which steps were taken that were kept, and what the rest was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Goodput {
    share: f64,
    attempts: usize,
    wall_seconds: f64,
    kept_seconds: f64,
    lost_steps: u64,
    lost_seconds: f64,
    checkpoint_seconds: f64,
}

impl Attempts {
    /// Begins an attempt that goes on from `step`, now that `steps` are all that were ever written down.
    pub(crate) fn begin(
        fence: &Fence,
        path: &Path,
        attempt: u64,
        began: f64,
        step: u64,
        steps: &[StepRecord],
    ) -> Result<Self> {
        let mut attempts: Vec<Attempt> = records::read(path)?;
        if let Some(before) = attempts.last_mut() {
            let lost = steps.iter().filter(|record| record.step > step);
            before.lost_steps += lost.clone().count() as u64;
            before.lost_seconds += lost.map(|record| record.seconds).sum::<f64>();
            let last = steps.last().map_or(0.0, |record| record.time);
            before.ended = before.ended.or(Some(last.max(before.began)));
        }
        attempts.push(Attempt {
            attempt,
            began,
            ended: None,
            from_step: step,
            lost_steps: 0,
            lost_seconds: 0.0,
            last_checkpoint_seconds: 0.0,
        });
        let attempts = Self { fence: fence.clone(), path: path.to_owned(), attempts };
        attempts.write()?;
        Ok(attempts)
    }

    /// Ends this attempt, which has waited so many seconds for checkpoints since its last step.
    pub(crate) fn end(&mut self, now: f64, last_checkpoint_seconds: f64) -> Result<()> {
        if let Some(own) = self.attempts.last_mut() {
            own.ended = Some(now);
            own.last_checkpoint_seconds = last_checkpoint_seconds;
        }
        self.write()
    }

    /// What came of the time, once all attempts have ended and `steps` are those that were kept.
    pub(crate) fn goodput(&self, steps: &[StepRecord]) -> Goodput {
        let wall_seconds =
            self.attempts.iter().map(|attempt| attempt.ended.unwrap_or(attempt.began) - attempt.began).sum();
        let kept_seconds = steps.iter().map(|record| record.seconds).sum();
        Goodput {
            share: if wall_seconds > 0.0 { kept_seconds / wall_seconds } else { 0.0 },
            attempts: self.attempts.len(),
            wall_seconds,
            kept_seconds,
            lost_steps: self.attempts.iter().map(|attempt| attempt.lost_steps).sum(),
            lost_seconds: self.attempts.iter().map(|attempt| attempt.lost_seconds).sum(),
            checkpoint_seconds: steps.iter().map(|record| record.checkpoint_seconds).sum::<f64>()
                + self.attempts.iter().map(|attempt| attempt.last_checkpoint_seconds).sum::<f64>(),
        }
    }

    fn write(&self) -> Result<()> {
        let mut text = Vec::new();
        for attempt in &self.attempts {
            records::write_line(&mut text, attempt)
                .map_err(|source| palimpsest_store::Error::io("write", &self.path, source))?;
        }
        Ok(self.fence.replace(&self.path, &text)?)
    }
}
