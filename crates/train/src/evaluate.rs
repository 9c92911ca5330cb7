//! The job's own measurements: bits per byte of held-out documents.

use palimpsest_api::{Evaluation, TrainingJob, When};
use palimpsest_corpus::Plan;
use palimpsest_eval::{Document, Options, Score, bits_per_byte};
use palimpsest_model::{Decoder, ForwardOptions};
use palimpsest_vocab::Tokenizer;

use crate::control::{Event, Phase};
use crate::error::Result;
use crate::records::{EvaluationRecord, Moment, RecordFile};

/// What measurements need besides the model.
pub(crate) struct Evaluator<'a> {
    pub(crate) job: &'a TrainingJob,
    pub(crate) plan: &'a Plan,
    pub(crate) forward: ForwardOptions,
    pub(crate) first_new_id: Option<u32>,
    pub(crate) records: RecordFile<EvaluationRecord>,
}

/// Whether an evaluation is due.
pub(crate) fn is_due(evaluation: &Evaluation, moment: Moment, step: u64) -> bool {
    match moment {
        Moment::Base | Moment::JobStart => evaluation.when.contains(&When::JobStart),
        Moment::StageEnd => evaluation.when.contains(&When::StageEnd),
        Moment::JobEnd => evaluation.when.contains(&When::JobEnd),
        Moment::Interval => evaluation.interval_steps.is_some_and(|interval| step.is_multiple_of(interval)),
    }
}

impl Evaluator<'_> {
    /// Measures all that is due at a moment and not recorded yet.
    pub(crate) fn measure(
        &mut self,
        model: &Decoder,
        moment: Moment,
        step: u64,
        stage: Option<&str>,
        report: &mut dyn FnMut(Event),
    ) -> Result<()> {
        self.measure_with(model, None, moment, step, stage, report)
    }

    /// Measures the model as it came, with its own tokenizer.
    pub(crate) fn measure_base(
        &mut self,
        model: &Decoder,
        tokenizer: &Tokenizer,
        report: &mut dyn FnMut(Event),
    ) -> Result<()> {
        self.measure_with(model, Some(tokenizer), Moment::Base, 0, None, report)
    }

    fn measure_with(
        &mut self,
        model: &Decoder,
        tokenizer: Option<&Tokenizer>,
        moment: Moment,
        step: u64,
        stage: Option<&str>,
        report: &mut dyn FnMut(Event),
    ) -> Result<()> {
        // Asked after every step: the file is read only where something is due.
        let due: Vec<&Evaluation> =
            self.job.spec.evaluation.iter().filter(|evaluation| is_due(evaluation, moment, step)).collect();
        if due.is_empty() {
            return Ok(());
        }
        let recorded = self.records.records()?;
        for evaluation in due {
            let Some(bits) = &evaluation.bits_per_byte else { continue };
            let is_recorded = recorded.iter().any(|record| {
                record.name == evaluation.name
                    && record.when == moment
                    && record.step == step
                    && record.stage.as_deref() == stage
            });
            if is_recorded {
                continue;
            }
            let message = format!("measuring bits per byte of {}", evaluation.name);
            report(Event::Phase { phase: Phase::Evaluating, fraction: None, message });
            let dataset = self.job.spec.data.datasets.iter().find(|dataset| dataset.name == bits.dataset);
            let record = EvaluationRecord {
                step,
                stage: stage.map(str::to_owned),
                when: moment,
                name: evaluation.name.clone(),
                dataset: bits.dataset.clone(),
                language: dataset.and_then(|dataset| dataset.language.clone()),
                score: self.score(model, tokenizer, &bits.dataset)?,
            };
            self.records.append(&record)?;
            report(Event::Evaluated(record));
        }
        Ok(())
    }

    /// Bits per byte of a dataset's held-out documents; with a tokenizer, of their text in its ids.
    fn score(&self, model: &Decoder, tokenizer: Option<&Tokenizer>, dataset: &str) -> Result<Score> {
        let held_out = self.plan.held_out(dataset)?;
        let options = Options {
            window: self.job.spec.data.sequence_length as usize,
            rows: 8,
            first_new_id: self.first_new_id.filter(|_| tokenizer.is_none()),
            forward: self.forward.clone(),
        };
        let documents = held_out.documents().map(|document| -> Result<Document> {
            let encoded = match tokenizer {
                Some(tokenizer) => document.encode_with(tokenizer)?,
                None => document,
            };
            Ok(Document { ids: encoded.ids, unmeasured: encoded.prompt_ids, text_bytes: encoded.text_bytes })
        });
        bits_per_byte(model, documents, &options)
    }
}
