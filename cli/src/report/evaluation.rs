//! What the model knew of held-out text at each moment of the job.

use serde::Serialize;

use super::files::Evaluation;

/// Bits per byte and loss of every measured dataset at every moment.
#[derive(Debug, Default, Serialize)]
pub(super) struct Evaluations {
    /// In order.
    moments: Vec<Moment>,
    rows: Vec<Row>,
}

/// When measurements were taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Moment {
    step: u64,
    when: String,
    stage: Option<String>,
}

/// A dataset's measurements; `None` where none was taken at a moment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    dataset: String,
    language: Option<String>,
    bytes: u64,
    documents: u64,
    bits_per_byte: Vec<Option<f64>>,
    loss: Vec<Option<f64>>,
    #[serde(skip)]
    tokens: Vec<u64>,
}

/// How held-out text of a language fared over the job: all its datasets together, by their bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LanguageChange {
    pub(super) language: String,
    /// Bits per byte at each moment; `None` where a dataset was not measured.
    pub(super) bits_per_byte: Vec<Option<f64>>,
    /// Nats per token at each moment, its datasets weighted by their tokens.
    pub(super) loss: Vec<Option<f64>>,
    /// The first of its bits per byte.
    pub(super) before: f64,
    /// That before the first step, once the vocabulary was extended; `None` where it was not.
    extended: Option<f64>,
    /// The last of its bits per byte.
    pub(super) after: f64,
    /// `after / before - 1`; `None` with a single measurement.
    pub(super) change: Option<f64>,
}

impl Evaluations {
    /// Orders measurements by dataset and moment.
    pub(super) fn new(records: &[Evaluation]) -> Self {
        let mut evaluations = Self::default();
        for record in records {
            let moment = Moment { step: record.step, when: record.when.clone(), stage: record.stage.clone() };
            if !evaluations.moments.contains(&moment) {
                evaluations.moments.push(moment);
            }
        }
        let count = evaluations.moments.len();
        for record in records {
            let place = |moment: &Moment| {
                (moment.step, &moment.when, &moment.stage) == (record.step, &record.when, &record.stage)
            };
            let Some(place) = evaluations.moments.iter().position(place) else { continue };
            let known = evaluations.rows.iter().position(|row| row.name == record.name);
            let index = known.unwrap_or_else(|| {
                evaluations.rows.push(Row::new(record, count));
                evaluations.rows.len() - 1
            });
            evaluations.rows[index].bits_per_byte[place] = Some(record.bits_per_byte);
            evaluations.rows[index].loss[place] = Some(record.loss);
            evaluations.rows[index].tokens[place] = record.tokens;
        }
        evaluations
    }

    /// The languages, the one that was learned most first.
    pub(super) fn languages(&self) -> Vec<LanguageChange> {
        let mut names: Vec<&str> = self.rows.iter().filter_map(|row| row.language.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        let mut languages: Vec<LanguageChange> = names.into_iter().filter_map(|name| self.language(name)).collect();
        languages.sort_by(|left, right| left.change.unwrap_or(0.0).total_cmp(&right.change.unwrap_or(0.0)));
        languages
    }

    fn language(&self, language: &str) -> Option<LanguageChange> {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.language.as_deref() == Some(language)).collect();
        let bits_at = |moment: usize| mean(rows.iter().map(|row| Some((row.bits_per_byte[moment]?, row.bytes))));
        let loss_at = |moment: usize| mean(rows.iter().map(|row| Some((row.loss[moment]?, row.tokens[moment]))));
        let bits_per_byte: Vec<Option<f64>> = (0..self.moments.len()).map(bits_at).collect();
        let loss = (0..self.moments.len()).map(loss_at).collect();
        let before = bits_per_byte.iter().find_map(|bits| *bits)?;
        let has_base = self.moments.iter().any(|moment| moment.when == "Base");
        let start = self.moments.iter().position(|moment| moment.when == "JobStart").filter(|_| has_base);
        let extended = start.and_then(|start| bits_per_byte[start]);
        let after = bits_per_byte.iter().rev().find_map(|bits| *bits)?;
        let measured = bits_per_byte.iter().flatten().count();
        let change = (measured > 1).then(|| after / before - 1.0);
        Some(LanguageChange { language: language.to_owned(), bits_per_byte, loss, before, extended, after, change })
    }
}

/// The mean of values by their weights; none where a value is missing.
fn mean(values: impl Iterator<Item = Option<(f64, u64)>>) -> Option<f64> {
    let values = values.collect::<Option<Vec<_>>>()?;
    let weight: u64 = values.iter().map(|(_, weight)| weight).sum();
    let sum: f64 = values.iter().map(|(value, weight)| value * *weight as f64).sum();
    (weight > 0).then(|| sum / weight as f64)
}

impl Row {
    fn new(record: &Evaluation, moments: usize) -> Self {
        Self {
            name: record.name.clone(),
            dataset: record.dataset.clone(),
            language: record.language.clone(),
            bytes: record.bytes,
            documents: record.documents,
            bits_per_byte: vec![None; moments],
            loss: vec![None; moments],
            tokens: vec![0; moments],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_evaluation(when: &str, step: u64, name: &str, language: &str, bits_per_byte: f64, bytes: u64) -> Evaluation {
        Evaluation {
            step,
            stage: (step > 0).then(|| "one".to_owned()),
            when: when.to_owned(),
            name: name.to_owned(),
            dataset: name.to_owned(),
            language: Some(language.to_owned()),
            bits_per_byte,
            loss: 1.0,
            tokens: 1,
            bytes,
            documents: 1,
        }
    }

    #[test]
    fn a_language_is_its_datasets_by_their_bytes() {
        let evaluations = Evaluations::new(&[
            mk_evaluation("JobStart", 0, "a", "zh", 4.0, 100),
            mk_evaluation("JobStart", 0, "b", "zh", 2.0, 300),
            mk_evaluation("JobStart", 0, "c", "en", 2.0, 10),
            mk_evaluation("StageEnd", 9, "a", "zh", 2.0, 100),
            mk_evaluation("StageEnd", 9, "b", "zh", 1.0, 300),
            mk_evaluation("StageEnd", 9, "c", "en", 2.1, 10),
        ]);
        let languages = evaluations.languages();
        assert_eq!(languages[0].language, "zh");
        assert_eq!(languages[0].bits_per_byte, [Some(2.5), Some(1.25)]);
        assert_eq!(languages[0].loss, [Some(1.0), Some(1.0)]);
        assert_eq!(languages[0].change, Some(-0.5));
        assert_eq!(languages[1].language, "en");
        assert!((languages[1].change.unwrap() - 0.05).abs() < 1e-12);
    }

    #[test]
    fn a_moment_that_lacks_a_dataset_says_nothing_of_its_language() {
        let evaluations = Evaluations::new(&[
            mk_evaluation("JobStart", 0, "a", "zh", 4.0, 100),
            mk_evaluation("JobStart", 0, "b", "zh", 2.0, 300),
            mk_evaluation("StageEnd", 9, "a", "zh", 2.0, 100),
        ]);
        let languages = evaluations.languages();
        assert_eq!(languages[0].bits_per_byte, [Some(2.5), None]);
        assert_eq!(languages[0].change, None);
    }
}
