//! The example corpora with real tokenizers: nothing is lost and little is padding.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::PathBuf;

use common::Bench;
use palimpsest_vocab::Tokenizer;
use serde_json::{Value, json};

/// The folder of unpacked data, or none where the test is to be skipped.
fn data() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let folder = std::env::var_os("PALIMPSEST_DATA").map(PathBuf::from).unwrap_or(home.join(".cache/palimpsest/data"));
    if folder.join("corpus/zh/rust_book.jsonl").is_file() && folder.join("tokenizers").is_dir() {
        return Some(folder);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} holds no corpora", folder.display());
    eprintln!("skipped: {} holds no corpora; run scripts/test-data.sh", folder.display());
    None
}

#[test]
fn the_example_corpora_fill_their_sequences() {
    let Some(data) = data() else { return };
    let mut bench = Bench::new();
    let mut mixture = Vec::new();
    for folder in ["en", "zh", "qa"] {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(data.join("corpus").join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let name = format!("{folder}-{}", file.file_stem().unwrap().to_string_lossy().replace('_', "-"));
            bench.add(
                json!({"name": name, "uri": format!("file://{}", file.display()), "holdOut": {"fraction": "0.02"}}),
            );
            mixture.push(json!({"dataset": name}));
        }
    }
    let tokenizer = Tokenizer::open(&data.join("tokenizers/chinese-llama-2-7b")).unwrap();
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
