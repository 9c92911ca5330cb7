//! The example corpora with a tokenizer of their own: nothing is lost and little is padding.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use common::Bench;
use palimpsest_corpus::all_texts;
use palimpsest_vocab::{LearnOptions, learn};
use serde_json::{Value, json};

#[test]
fn the_example_corpora_fill_their_sequences() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/corpora");
    let mut bench = Bench::new();
    let mut mixture = Vec::new();
    for folder in ["en", "zh", "qa"] {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(examples.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let name = format!("{folder}-{}", file.file_stem().unwrap().to_string_lossy().replace('_', "-"));
            bench.add(
                json!({"name": name, "uri": format!("file://{}", file.display()), "holdOut": {"fraction": "0.02"}}),
            );
            mixture.push(json!({"dataset": name}));
        }
    }
    let datasets = bench.data(json!({})).datasets;
    let mounts = bench.mounts();
    let texts = all_texts(&datasets, &mounts);
    let tokenizer = learn(texts, 8192, &LearnOptions::default(), &mut || true).unwrap();
    for sequence_length in [256, 1024, 2048] {
        let stage: Value = json!({
            "name": "all", "buckets": 4, "mixture": mixture, "budget": {"epochs": 1},
            "batch": {"sequences": 8, "microBatch": 8},
        });
        let folder = bench.path("prepared");
        let start = std::time::Instant::now();
        let data = json!({"sequenceLength": sequence_length});
        let plan = bench.prepare_in(&folder, &tokenizer, data, json!([stage]), 42).unwrap();
        let total = &plan.certificate.total;
        eprintln!("{sequence_length}: fill {:.5}, {total:?}, {:?}", total.fill, start.elapsed());
        assert!(total.fill >= 0.98, "{total:?}");
        for bucket in &plan.stages[0].buckets {
            assert!(bucket.fill >= 0.98, "{bucket:?}");
        }
        let read: u64 = plan.certificate.datasets.iter().map(|dataset| dataset.read.documents).sum();
        let held_out: u64 = plan.certificate.datasets.iter().map(|dataset| dataset.held_out.documents).sum();
        assert_eq!(read, total.documents + held_out);
    }
}
