//! Plain lines: one at each transition, and one every ten seconds.

use std::time::{Duration, Instant};

use palimpsest_proto::control::{Phase, Progress, phase, report};

use super::phrases;
use crate::words;

/// The longest silence while something goes on.
const INTERVAL: Duration = Duration::from_secs(10);

/// Plain lines on standard error.
#[derive(Debug)]
pub(in crate::run) struct Lines {
    last: Instant,
    phase: Option<i32>,
    place: Option<(u32, u32)>,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { last: Instant::now(), phase: None, place: None }
    }

    pub(super) fn show_report(&mut self, report: &report::Report) {
        let line = match report {
            report::Report::Phase(phase) => self.phase(phase),
            report::Report::Planned(planned) => Some(phrases::plan(planned)),
            report::Report::Progress(progress) => self.progress(progress),
            report::Report::Evaluation(evaluation) => Some(phrases::evaluation(evaluation)),
            report::Report::Notice(notice) => Some(notice.message.clone()),
            report::Report::Warning(warning) => Some(format!("warning: {}", warning.message)),
            report::Report::Alive(_)
            | report::Report::Leaving(_)
            | report::Report::CheckpointCommitted(_)
            | report::Report::Hello(_)
            | report::Report::Resolved(_)
            | report::Report::Finished(_)
            | report::Report::Failure(_) => None,
        };
        if let Some(line) = line {
            eprintln!("{line}");
            self.last = Instant::now();
        }
    }

    fn phase(&mut self, phase: &Phase) -> Option<String> {
        let is_new = self.phase.replace(phase.kind) != Some(phase.kind);
        if phase.kind() == phase::Kind::Training {
            // After a restart the same stage begins once more.
            self.place = None;
        }
        if !is_new && self.last.elapsed() < INTERVAL {
            return None;
        }
        Some(match phase.fraction {
            Some(fraction) => format!("{} ({:.0} %)", phase.message, 100.0 * fraction),
            None => phase.message.clone(),
        })
    }

    fn progress(&mut self, progress: &Progress) -> Option<String> {
        let is_new = self.place.replace((progress.stage_index, progress.bucket))
            != Some((progress.stage_index, progress.bucket));
        if !is_new && self.last.elapsed() < INTERVAL && progress.step != progress.steps {
            return None;
        }
        Some(format!(
            "step {}/{}, {}, loss {}, {} tokens/s, {} left",
            progress.step,
            progress.steps,
            phrases::place(progress),
            phrases::loss(progress.loss),
            words::count(progress.tokens_per_second.round() as u64),
            words::time(progress.remaining_seconds)
        ))
    }
}
