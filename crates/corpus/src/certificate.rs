//! The packing certificate: what happened to every document and token. It adds up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::{BinPlan, StagePlan};

/// What happened to every document and token of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Dataset by dataset, over the whole job.
    pub datasets: Vec<DatasetCertificate>,
    /// Stage by stage, over all its buckets; a bucket's own figures are in its plan.
    pub stages: Vec<StageCertificate>,
    /// Over all stages.
    pub total: PackingTotals,
}

/// What happened to a dataset's documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetCertificate {
    /// Its name.
    pub dataset: String,
    /// All its records: `held_out` + `used` + `unused` + `dropped`.
    pub read: Amount,
    /// What is never trained on.
    pub held_out: Amount,
    /// What is trained on at least once.
    pub used: Amount,
    /// What could be trained on, but the budget does not reach it.
    pub unused: Amount,
    /// What is left of `read` when all others are taken away: none.
    pub dropped: Amount,
    /// What is trained on, each time counted.
    pub trained: Amount,
    /// How many documents are trained on once, twice, and so on: times and documents.
    pub repeated: BTreeMap<u32, u64>,
}

/// Documents and their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// Documents.
    pub documents: u64,
    /// Their tokens: BOS, prompts, texts and EOS.
    pub tokens: u64,
}

/// What a stage's sequences hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageCertificate {
    /// The stage's name.
    pub stage: String,
    /// Over all its buckets.
    #[serde(flatten)]
    pub total: PackingTotals,
    /// What each dataset of the mixture gives to it.
    pub datasets: Vec<BinPlan>,
}

/// What sequences hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackingTotals {
    /// Sequences.
    pub sequences: u64,
    /// Input positions: `document_tokens` - `documents` + `padding`.
    pub slots: u64,
    /// Input positions that hold nothing.
    pub padding: u64,
    /// The part of the slots that holds something.
    pub fill: f64,
    /// Documents, each time counted.
    pub documents: u64,
    /// Document tokens: `documents` + `prompt_tokens` + `target_tokens`.
    pub document_tokens: u64,
    /// Tokens wholly inside prompts.
    pub prompt_tokens: u64,
    /// Tokens that the loss is taken over.
    pub target_tokens: u64,
    /// Documents that lie in more than one piece.
    pub split: u64,
    /// Document tokens that were taken from the datasets and are in no sequence: none.
    pub dropped: u64,
}

impl Certificate {
    /// Adds up what the stages' buckets hold. `taken` are the document tokens that each stage took from the datasets.
    pub(crate) fn new(stages: &[StagePlan], taken: &[u64], datasets: Vec<DatasetCertificate>) -> Self {
        let mut certificate = Self { datasets, ..Self::default() };
        for (stage, taken) in stages.iter().zip(taken) {
            let mut sums = StageCertificate { stage: stage.name.clone(), ..StageCertificate::default() };
            for bucket in &stage.buckets {
                sums.total.sequences += bucket.sequences;
                sums.total.slots += bucket.slots;
                sums.total.padding += bucket.padding;
                for bin in &bucket.datasets {
                    sums.total.add_bin(bin);
                    match sums.datasets.iter_mut().find(|sum| sum.dataset == bin.dataset) {
                        Some(sum) => sum.add(bin),
                        None => sums.datasets.push(bin.clone()),
                    }
                }
            }
            sums.total.fill = fill(sums.total.slots, sums.total.padding);
            sums.total.dropped = taken.saturating_sub(sums.total.document_tokens);
            certificate.total.add(&sums.total);
            certificate.stages.push(sums);
        }
        certificate.total.fill = fill(certificate.total.slots, certificate.total.padding);
        certificate
    }
}

impl PackingTotals {
    fn add_bin(&mut self, bin: &BinPlan) {
        self.documents += bin.documents;
        self.document_tokens += bin.document_tokens;
        self.prompt_tokens += bin.prompt_tokens;
        self.target_tokens += bin.target_tokens;
        self.split += bin.split;
    }

    fn add(&mut self, other: &Self) {
        self.sequences += other.sequences;
        self.slots += other.slots;
        self.padding += other.padding;
        self.documents += other.documents;
        self.document_tokens += other.document_tokens;
        self.prompt_tokens += other.prompt_tokens;
        self.target_tokens += other.target_tokens;
        self.split += other.split;
        self.dropped += other.dropped;
    }
}

impl DatasetCertificate {
    /// Counts as dropped what is accounted for nowhere else.
    pub(crate) fn balance(mut self) -> Self {
        let rest = |all: u64, parts: [u64; 3]| all.saturating_sub(parts.iter().sum());
        let parts = [self.held_out, self.used, self.unused];
        self.dropped.documents = rest(self.read.documents, parts.map(|part| part.documents));
        self.dropped.tokens = rest(self.read.tokens, parts.map(|part| part.tokens));
        self
    }
}

impl BinPlan {
    fn add(&mut self, other: &Self) {
        self.documents += other.documents;
        self.document_tokens += other.document_tokens;
        self.prompt_tokens += other.prompt_tokens;
        self.target_tokens += other.target_tokens;
        self.split += other.split;
        self.pieces += other.pieces;
        self.positions += other.positions;
    }
}

/// The part of the slots that holds something; 1 where there are none.
pub(crate) fn fill(slots: u64, padding: u64) -> f64 {
    if slots == 0 { 1.0 } else { (slots - padding) as f64 / slots as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::BucketPlan;

    #[test]
    fn what_is_nowhere_is_dropped() {
        let amount = |documents| Amount { documents, tokens: 10 * documents };
        let [read, held_out, used, unused] = [10, 1, 5, 2].map(amount);
        let dataset = DatasetCertificate { read, held_out, used, unused, ..DatasetCertificate::default() }.balance();
        assert_eq!(dataset.dropped, amount(2));

        let bin = BinPlan { documents: 2, document_tokens: 90, ..BinPlan::default() };
        let bucket = BucketPlan {
            file: String::new(),
            sequences: 1,
            slots: 100,
            padding: 12,
            fill: 0.88,
            document_tokens: 90,
            target_tokens: 88,
            datasets: vec![bin],
        };
        let stage = StagePlan { name: "one".to_owned(), steps: 1, batch_sequences: 1, buckets: vec![bucket] };
        let certificate = Certificate::new(&[stage.clone(), stage], &[90, 100], vec![dataset]);
        let dropped = certificate.stages.iter().map(|stage| stage.total.dropped).collect::<Vec<_>>();
        assert_eq!((dropped, certificate.total.dropped), (vec![0, 10], 10));
    }
}
