//! What a person sees of a run while it goes on: a progress bar on a terminal, plain lines elsewhere. All on standard
//! error.

mod bar;
mod lines;
mod phrases;

use std::io::IsTerminal;
use std::time::Duration;

use palimpsest_coordinator::State;
use palimpsest_proto::control::report;

use self::bar::Bar;
use self::lines::Lines;

/// Where a run is shown.
#[derive(Debug)]
pub(super) enum Display {
    /// On a terminal.
    Bar(Bar),
    /// Anywhere else.
    Lines(Lines),
}

impl Display {
    /// What suits standard error.
    pub(super) fn new() -> Self {
        if std::io::stderr().is_terminal() { Self::Bar(Bar::new()) } else { Self::Lines(Lines::new()) }
    }

    /// Shows what the rank told.
    pub(super) fn show_report(&mut self, report: &report::Report) {
        match self {
            Self::Bar(bar) => bar.show_report(report),
            Self::Lines(lines) => lines.show_report(report),
        }
    }

    /// Shows that the run stands elsewhere, `now` after it began.
    pub(super) fn show_state(&mut self, state: &State, now: Duration) {
        let line = match state {
            State::BackingOff { until, .. } => {
                let seconds = until.saturating_sub(now).as_secs_f64().ceil();
                format!("the next attempt begins in {seconds} s")
            }
            State::Draining { .. } => "stopping after a checkpoint; once more to stop at once".to_owned(),
            State::Aborting { .. } => "stopping".to_owned(),
            _ => return,
        };
        self.say(&line);
    }

    /// Shows a warning.
    pub(super) fn warn(&mut self, message: &str) {
        self.say(&format!("warning: {message}"));
    }

    /// Shows a line of the worker's log.
    pub(super) fn log(&mut self, line: &str) {
        self.say(line);
    }

    /// Takes the bar away.
    pub(super) fn finish(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish();
        }
    }

    /// Shows a line and goes on.
    pub(super) fn say(&mut self, line: &str) {
        match self {
            Self::Bar(bar) => bar.say(line),
            Self::Lines(_) => eprintln!("{line}"),
        }
    }
}
