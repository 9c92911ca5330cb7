//! Preparation in this process, for what trains nothing.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use palimpsest_prepare::{PreparedJob, Progress, prepare_job};

use crate::job::Job;
use crate::run::STOPPED;

/// The longest silence where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// Prepares a job's tokenizer and data, or finds them; `None` if Ctrl-C called it off.
pub(crate) fn prepare(job: &Job, threads: u32) -> Result<Option<PreparedJob>> {
    cancellable(|progress, cancelled| {
        prepare_job(&job.job, &job.mounts, &job.folder, threads as usize, progress, cancelled)
    })
}

/// Does what preparation consists of and shows how far it is; `None` if Ctrl-C called it off.
pub(crate) fn cancellable<T: Send>(
    work: impl FnOnce(&mut dyn FnMut(Progress), &AtomicBool) -> palimpsest_prepare::Result<T> + Send,
) -> Result<Option<T>> {
    let cancelled = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let done = std::thread::scope(|scope| {
        let (done, finished) = tokio::sync::oneshot::channel();
        let cancelled = &cancelled;
        let working = scope.spawn(move || {
            let mut shown = Shown::new();
            let result = work(&mut |progress| shown.show(&progress), cancelled);
            shown.bar.finish_and_clear();
            let _ = done.send(());
            result
        });
        runtime.block_on(async {
            let mut finished = finished;
            tokio::select! {
                _ = &mut finished => return,
                _ = tokio::signal::ctrl_c() => cancelled.store(true, Ordering::Relaxed),
            }
            tokio::select! {
                _ = &mut finished => {}
                // What is under way does not look up; nothing is lost by leaving it.
                _ = tokio::signal::ctrl_c() => std::process::exit(i32::from(STOPPED)),
            }
        });
        working.join()
    });
    match done {
        Ok(Err(_)) if cancelled.load(Ordering::Relaxed) => Ok(None),
        Ok(result) => Ok(Some(result?)),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

struct Shown {
    bar: ProgressBar,
    is_terminal: bool,
    last: Option<Instant>,
}

impl Shown {
    fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, is_terminal, last: None }
    }

    fn show(&mut self, progress: &Progress) {
        let line = match progress.fraction {
            Some(fraction) => format!("{} ({:.0} %)", progress.message, 100.0 * fraction),
            None => progress.message.clone(),
        };
        if self.is_terminal {
            self.bar.set_message(line);
        } else if self.last.is_none_or(|last| last.elapsed() >= INTERVAL) {
            eprintln!("{line}");
            self.last = Some(Instant::now());
        }
    }
}
