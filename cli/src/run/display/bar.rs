//! A progress bar, with lasting lines above it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use palimpsest_proto::control::{Phase, Progress, phase, report};

use super::phrases;
use crate::words;

const SPINNING: &str = "{spinner} {msg}";
const FILLING: &str = "{msg} {wide_bar} {percent:>3} %";
const TRAINING: &str = "{prefix} {wide_bar} {pos}/{len}  {msg}";

/// How finely a fraction is drawn.
const PARTS: u64 = 1000;

/// A bar on standard error.
#[derive(Debug)]
pub(in crate::run) struct Bar {
    bar: ProgressBar,
    template: &'static str,
}

impl Bar {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
            .with_style(style_of(SPINNING))
            .with_message("starting");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, template: SPINNING }
    }

    pub(super) fn show_report(&mut self, report: &report::Report) {
        match report {
            report::Report::Phase(phase) => self.phase(phase),
            report::Report::Planned(planned) => self.say(&phrases::plan(planned)),
            report::Report::Progress(progress) => self.progress(progress),
            report::Report::Evaluation(evaluation) => self.say(&phrases::evaluation(evaluation)),
            report::Report::Notice(notice) => self.say(&notice.message),
            report::Report::Warning(warning) => self.say(&format!("warning: {}", warning.message)),
            report::Report::Alive(_)
            | report::Report::Leaving(_)
            | report::Report::CheckpointCommitted(_)
            | report::Report::Hello(_)
            | report::Report::Resolved(_)
            | report::Report::Finished(_)
            | report::Report::Failure(_) => {}
        }
    }

    fn phase(&mut self, phase: &Phase) {
        // The first step draws the bar of the training.
        if phase.kind() == phase::Kind::Training {
            return;
        }
        self.bar.set_message(phase.message.clone());
        match phase.fraction {
            Some(fraction) => {
                self.bar.set_length(PARTS);
                self.bar.set_position((fraction.clamp(0.0, 1.0) * PARTS as f64) as u64);
                self.draw_as(FILLING);
            }
            None => self.draw_as(SPINNING),
        }
    }

    fn progress(&mut self, progress: &Progress) {
        self.bar.set_prefix(format!("{} bucket {}/{}", progress.stage, progress.bucket + 1, progress.buckets));
        self.bar.set_message(format!(
            "loss {}  {} tokens/s  {} left",
            phrases::loss(progress.loss),
            words::count(progress.tokens_per_second.round() as u64),
            words::time(progress.remaining_seconds)
        ));
        self.bar.set_length(progress.steps);
        self.bar.set_position(progress.step);
        self.draw_as(TRAINING);
    }

    fn draw_as(&mut self, template: &'static str) {
        if self.template != template {
            self.template = template;
            self.bar.set_style(style_of(template));
        }
    }

    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style_of(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("━╸─")
}
