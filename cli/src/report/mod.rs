//! The report of a run: one HTML page that needs nothing but itself.
//!
//! ```text
//! metrics.jsonl, evaluations.jsonl, plan.json, telemetry.json, summary.json      the run folder
//!        │ files: what is there, parsed
//!        ▼
//! curve, evaluation, data                                                        what the page shows, computed
//!        │ page: serialised into page.html beside style.css and the scripts
//!        ▼
//! report.html
//! ```

mod curve;
mod data;
mod evaluation;
mod files;
mod page;
mod time;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use self::curve::Curve;
use self::data::{Certificate, DatasetFigures, StageFigures};
use self::evaluation::{Evaluations, LanguageChange};
use self::files::{RunFiles, Summary};
use self::time::StepTime;

/// The page that reports the run in `run_folder`, finished or not; only `metrics.jsonl` has to be there.
pub(crate) fn render(run_folder: &Path) -> anyhow::Result<String> {
    let files = RunFiles::read(run_folder)?;
    let report = Report::new(&files);
    page::render(&report)
}

/// All that the page's scripts get.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    job: &'a str,
    /// `Succeeded`, `Failed`, or `Unfinished` where there is no summary yet.
    state: &'a str,
    steps: u64,
    planned_steps: Option<u64>,
    tokens: u64,
    seconds: f64,
    tokens_per_second: f64,
    clipped_steps: u64,
    skipped_steps: u64,
    languages: Vec<LanguageChange>,
    step_time: Option<StepTime>,
    curve: Curve,
    evaluations: Evaluations,
    stages: Vec<StageFigures>,
    datasets: Vec<DatasetFigures>,
    certificate: Option<Certificate<'a>>,
    /// `telemetry.json`'s.
    new_tokens: Option<&'a Value>,
    summary: Option<&'a Summary>,
    plan_digest: Option<&'a str>,
}

impl<'a> Report<'a> {
    fn new(files: &'a RunFiles) -> Self {
        let metrics = &files.metrics;
        let tokens: u64 = metrics.iter().map(|step| step.tokens).sum();
        let seconds: f64 = metrics.iter().map(|step| step.seconds).sum();
        let stages = data::stages(files);
        let evaluations = Evaluations::new(&files.evaluations);
        Self {
            job: files.job(),
            state: files.summary.as_ref().map_or("Unfinished", |summary| &summary.state),
            steps: metrics.last().map_or(0, |step| step.step),
            planned_steps: files.plan.as_ref().map(|_| stages.iter().map(|stage| stage.steps).sum()),
            tokens,
            seconds,
            tokens_per_second: if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 },
            clipped_steps: metrics.iter().filter(|step| step.clipped).count() as u64,
            skipped_steps: metrics.iter().filter(|step| step.skipped).count() as u64,
            languages: evaluations.languages(),
            step_time: StepTime::new(metrics),
            curve: Curve::new(metrics),
            datasets: data::datasets(files),
            certificate: data::certificate(files),
            new_tokens: files.telemetry.as_ref().and_then(|telemetry| telemetry.get("newTokens")),
            plan_digest: files.plan.as_ref().map(|plan| plan.digest.as_str()),
            summary: files.summary.as_ref(),
            evaluations,
            stages,
        }
    }
}

#[cfg(test)]
mod tests;
