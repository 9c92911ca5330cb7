//! The end of a job: what is known of the new tokens, the summary, and the model.

use palimpsest_prepare::check_output;

use crate::control::{Event, Phase};
use crate::error::{Error, Result};
use crate::job::write_json;
use crate::publish::{self, OutputManifest};
use crate::summary::{ModelSummary, Summary};
use crate::telemetry::{NewTokens, Telemetry, count_targets};
use crate::trainer::{Trainer, seconds_since_1970};

impl Trainer<'_> {
    /// Writes the telemetry and the summary, then lets the model appear: whoever finds the model finds these too. Gives the
    /// digest of its manifest.
    pub(crate) fn publish(&mut self, report: &mut dyn FnMut(Event)) -> Result<String> {
        self.fence.check()?;
        report(Event::Phase { phase: Phase::Exporting, fraction: None, message: "writing the model".to_owned() });
        let job = &self.context.job;
        let folder = &self.context.folder;
        let output = folder.model();
        let evaluations = self.evaluator.records.records()?;
        let new_tokens = match &self.prepared.extension {
            None => None,
            Some(extension) => {
                let targets = count_targets(&self.readers, extension.first_new_id, extension.sources.len())?;
                Some(NewTokens::new(&targets, &self.state.rows, &evaluations))
            }
        };
        self.write_telemetry(new_tokens)?;
        let manifest = OutputManifest {
            name: job.metadata.name.clone(),
            job: self.digest.clone(),
            steps: self.state.step,
            files: Default::default(),
        };
        let staged = publish::stage(
            &output,
            self.fence.attempt(),
            &self.model,
            &self.prepared.tokenizer,
            job.spec.output.dtype,
            manifest,
        )?;
        for warning in &staged.warnings {
            report(Event::Warning(warning.clone()));
            self.state.warnings.push(warning.clone());
        }
        let totals = self.state.totals;
        let steps = self.metrics.records()?;
        self.attempts.end(seconds_since_1970(), self.stall)?;
        let summary = Summary {
            job: &job.metadata.name,
            digest: &self.digest,
            plan_digest: &self.prepared.plan.digest,
            state: "Succeeded",
            steps: self.state.step,
            tokens: totals.tokens,
            target_tokens: totals.targets,
            slots: totals.slots,
            seconds: totals.seconds,
            goodput: self.attempts.goodput(&steps),
            resident_bytes: steps.iter().filter_map(|step| step.resident_bytes).max(),
            device_bytes: steps.iter().filter_map(|step| step.device_bytes).max(),
            precision: &self.fingerprint.precision,
            device: &self.fingerprint.device,
            threads: self.context.threads,
            model: ModelSummary {
                path: output.clone(),
                digest: staged.digest.clone(),
                parameters: self.model.parameters().iter().map(|parameter| parameter.tensor.numel() as u64).sum(),
            },
            tokenizer: serde_json::to_value(&self.prepared.measurements)
                .map_err(|error| Error::User(format!("summary.json: {error}")))?,
            stages: &self.stages,
            evaluations,
            clipped_fraction: totals.clipped as f64 / self.state.step.max(1) as f64,
            skipped_steps: totals.skipped,
            fingerprint: &self.fingerprint,
            warnings: &self.state.warnings,
        };
        write_json(&self.fence, &folder.summary(), &summary)?;
        // Looked at once more: somebody else's model may have come meanwhile.
        check_output(&output, &self.digest, job.spec.output.on_existing)?;
        let digest = staged.digest.clone();
        publish::publish(staged, &output, job.spec.output.on_existing, &self.fence)?;
        Ok(digest)
    }

    /// Writes `telemetry.json`; how the new tokens fare is counted at the end.
    pub(crate) fn write_telemetry(&self, new_tokens: Option<NewTokens>) -> Result<()> {
        let datasets = &self.prepared.plan.datasets;
        let names: Vec<&str> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        let stages: Vec<&str> = self.stages.iter().map(|stage| stage.name.as_str()).collect();
        let telemetry = Telemetry::new(new_tokens, &stages, &names, &self.state.losses);
        write_json(&self.fence, &self.context.folder.telemetry(), &telemetry)
    }
}
