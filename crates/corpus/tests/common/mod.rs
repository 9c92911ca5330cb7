//! What the tests share: a tokenizer of bytes, datasets in a temporary folder, and a brief way to prepare them.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use palimpsest_api::{DataSpec, Dataset, Stage};
use palimpsest_corpus::{EncoderError, Plan, PrepareRequest, Result, TextEncoder, prepare};
use palimpsest_store::Mounts;
use serde_json::{Value, json};

/// An id a byte, after BOS (1) and EOS (2).
#[derive(Debug)]
pub struct Bytes {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
}

pub const BYTES: Bytes = Bytes { bos: Some(1), eos: Some(2) };

impl TextEncoder for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>, EncoderError> {
        Ok(text.bytes().map(|byte| u32::from(byte) + 3).collect())
    }

    fn encode_with_ends(&self, text: &str) -> Result<(Vec<u32>, Vec<u32>), EncoderError> {
        Ok((self.encode(text)?, (1..=text.len() as u32).collect()))
    }

    fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().filter(|id| **id >= 3).map(|id| (id - 3) as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn bos(&self) -> Option<u32> {
        self.bos
    }

    fn eos(&self) -> Option<u32> {
        self.eos
    }

    fn digest(&self) -> String {
        format!("bytes {:?} {:?}", self.bos, self.eos)
    }
}

/// A folder of datasets and the data prepared of them.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub datasets: Vec<Dataset>,
    pub threads: usize,
    pub evaluated: Vec<String>,
}

impl Bench {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), datasets: Vec::new(), threads: 2, evaluated: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Writes a JSONL dataset of (prompt, text) and adds it.
    pub fn add_documents(&mut self, name: &str, documents: &[(&str, &str)], hold_out: &str) {
        let lines: String = documents
            .iter()
            .map(|(prompt, text)| json!({"source": prompt, "target": text, "category": name}).to_string() + "\n")
            .collect();
        let file = format!("{name}.jsonl");
        self.write(&file, lines);
        self.add(json!({"name": name, "uri": format!("file://{file}"), "holdOut": {"fraction": hold_out}}));
    }

    pub fn add(&mut self, dataset: Value) {
        self.datasets.push(serde_json::from_value(dataset).unwrap());
    }

    pub fn mounts(&self) -> Mounts {
        Mounts { base: self.folder.path().to_owned(), mounts: BTreeMap::new() }
    }

    pub fn data(&self, options: Value) -> DataSpec {
        let mut data = options;
        data["datasets"] = serde_json::to_value(&self.datasets).unwrap();
        serde_json::from_value(data).unwrap()
    }

    pub fn prepare(&self, data: Value, stages: Value, seed: u64) -> Result<Plan> {
        self.prepare_in(&self.path("prepared"), &BYTES, data, stages, seed)
    }

    pub fn prepare_in(
        &self,
        folder: &Path,
        tokenizer: &dyn TextEncoder,
        data: Value,
        stages: Value,
        seed: u64,
    ) -> Result<Plan> {
        let data = self.data(data);
        let stages: Vec<Stage> = serde_json::from_value(stages).unwrap();
        let mounts = self.mounts();
        let request = PrepareRequest {
            data: &data,
            stages: &stages,
            seed,
            tokenizer,
            mounts: &mounts,
            folder,
            evaluated: &self.evaluated,
            threads: self.threads,
        };
        prepare(&request, &mut |_| {}, &AtomicBool::new(false))
    }

    /// Prepares a stage of one epoch of all datasets and gives the error.
    pub fn error(&self) -> String {
        let result = self.prepare(json!({"sequenceLength": 64}), json!([self.stage_of_all()]), 1);
        result.unwrap_err().to_string().replace(&format!("{}/", self.folder.path().display()), "")
    }

    pub fn stage_of_all(&self) -> Value {
        let mixture: Vec<Value> = self.datasets.iter().map(|dataset| json!({"dataset": dataset.name})).collect();
        json!({"name": "all", "buckets": 2, "mixture": mixture, "budget": {"epochs": 1}, "batch": {"sequences": 2, "microBatch": 1}})
    }

    /// The texts of all documents that a plan of [`Self::stage_of_all`] trains on, in the order of the dataset.
    pub fn documents(&self) -> Vec<String> {
        let plan = self.prepare(json!({"sequenceLength": 4096}), json!([self.stage_of_all()]), 1).unwrap();
        let reader = plan.reader(0).unwrap();
        let mut documents = BTreeMap::new();
        for index in 0..reader.sequences() {
            let sequence = reader.sequence(index).unwrap();
            let mut start = 0;
            for (origin, positions) in sequence.origins().zip(sequence.segments) {
                let text = BYTES.decode(&sequence.input_ids[start..start + *positions as usize]);
                documents.insert((origin.dataset, origin.document), text);
                start += *positions as usize;
            }
        }
        documents.into_values().collect()
    }
}
