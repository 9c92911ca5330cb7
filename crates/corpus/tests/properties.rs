//! What is true of every plan: it adds up, every id is a target exactly once, and it depends on the job and its seed alone.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{BYTES, Bench};
use palimpsest_corpus::{IGNORED, Plan, TextEncoder};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A document: how many letters its prompt and its text have.
type Sizes = (usize, usize);

#[derive(Clone, Debug)]
struct Job {
    datasets: Vec<Vec<Sizes>>,
    hold_out: &'static str,
    sequence_length: u32,
    packing: &'static str,
    stages: Vec<StageShape>,
    seed: u64,
}

#[derive(Clone, Debug)]
struct StageShape {
    buckets: u32,
    weights: Vec<u64>,
    tokens: u64,
    batch: u32,
    restarts: bool,
}

fn jobs() -> impl Strategy<Value = Job> {
    let document = (prop_oneof![3 => Just(0usize), 1 => 1usize..8], prop_oneof![9 => 0usize..40, 1 => 40usize..400]);
    let dataset = prop::collection::vec(document, 3..60);
    let stage = (1u32..6, prop::collection::vec(1u64..9, 3), 1u64..1500, 1u32..5, any::<bool>());
    let stage = stage.prop_map(|(buckets, weights, tokens, batch, restarts)| StageShape {
        buckets,
        weights,
        tokens,
        batch,
        restarts,
    });
    (
        prop::collection::vec(dataset, 1..4),
        prop_oneof![Just("0"), Just("0.2")],
        10u32..64,
        prop_oneof![Just("BestFit"), Just("Splice")],
        prop::collection::vec(stage, 1..3),
        any::<u64>(),
    )
        .prop_map(|(datasets, hold_out, sequence_length, packing, stages, seed)| Job {
            datasets,
            hold_out,
            sequence_length,
            packing,
            stages,
            seed,
        })
}

/// Letters that differ from document to document.
fn letters(count: usize, dataset: usize, document: usize) -> String {
    let mut state = (dataset * 10_007 + document) as u32;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (state >> 24) as u8 % 26)
        })
        .collect()
}

impl Job {
    fn bench(&self) -> Bench {
        let mut bench = Bench::new();
        for (index, sizes) in self.datasets.iter().enumerate() {
            let documents: Vec<(String, String)> = (0..)
                .zip(sizes)
                .map(|(number, (prompt, text))| (letters(*prompt, 100 + index, number), letters(*text, index, number)))
                .collect();
            let documents: Vec<(&str, &str)> =
                documents.iter().map(|(prompt, text)| (&prompt[..], &text[..])).collect();
            bench.add_documents(&format!("d{index}"), &documents, self.hold_out);
        }
        bench
    }

    fn data(&self) -> Value {
        json!({"sequenceLength": self.sequence_length, "packing": self.packing})
    }

    fn stages(&self) -> Value {
        let stages = self.stages.iter().enumerate().map(|(index, stage)| {
            let mixture: Vec<Value> = (0..self.datasets.len())
                .map(|dataset| json!({"dataset": format!("d{dataset}"), "weight": stage.weights[dataset]}))
                .collect();
            json!({
                "name": format!("s{index}"), "buckets": stage.buckets, "mixture": mixture,
                "budget": {"tokens": stage.tokens}, "maxRepeats": 1000,
                "reuse": if stage.restarts { "Restart" } else { "Continue" },
                "batch": {"sequences": stage.batch, "microBatch": 1},
            })
        });
        stages.collect()
    }
}

/// A document of the plan, found again from its pieces.
#[derive(Debug, Default)]
struct Found {
    /// By place in the document: the id there as input, and how often it is a target.
    inputs: BTreeMap<u32, u32>,
    targets: BTreeMap<u32, u32>,
    masked: BTreeMap<u32, u32>,
    pieces: Vec<(u32, u32)>,
}

/// All documents of a bucket; one that is there twice is found twice.
fn documents_of(plan: &Plan, stage: usize, bucket: u32) -> HashMap<(u32, u64), Found> {
    let reader = plan.reader(stage).unwrap();
    let mut found: HashMap<(u32, u64), Found> = HashMap::new();
    for index in 0..reader.sequences() {
        let sequence = reader.sequence(index).unwrap();
        if sequence.bucket != bucket {
            continue;
        }
        assert!(sequence.input_ids.len() <= plan.sequence_length as usize && !sequence.input_ids.is_empty());
        let mut start = 0;
        for (origin, positions) in sequence.origins().zip(sequence.segments) {
            let document = found.entry((origin.dataset, origin.document)).or_default();
            document.pieces.push((origin.offset, *positions));
            for position in 0..*positions {
                let (input, label) = (sequence.input_ids[start], sequence.labels[start]);
                *document.inputs.entry(origin.offset + position).or_insert(input) = input;
                let counts = if label == IGNORED { &mut document.masked } else { &mut document.targets };
                *counts.entry(origin.offset + position + 1).or_insert(0) += 1;
                if label != IGNORED {
                    document.inputs.insert(origin.offset + position + 1, label as u32);
                }
                start += 1;
            }
        }
    }
    found
}

fn check_plan(job: &Job, bench: &Bench, plan: &Plan) -> Result<(), TestCaseError> {
    check_certificate(plan)?;
    let mut originals: Vec<Vec<(String, String)>> = Vec::new();
    for dataset in &plan.datasets {
        let content = std::fs::read_to_string(bench.path(dataset.uri.trim_start_matches("file://"))).unwrap();
        let held: Vec<(String, String)> = plan
            .held_out(&dataset.name)
            .unwrap()
            .documents()
            .map(|document| (document.prompt, document.text))
            .collect();
        let all = content.lines().map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            (record["source"].as_str().unwrap().to_owned(), record["target"].as_str().unwrap().to_owned())
        });
        originals.push(all.filter(|document| !held.iter().any(|held| held.1 == document.1)).collect());
    }
    for (stage, stage_plan) in plan.stages.iter().enumerate() {
        prop_assert_eq!(stage_plan.steps, stage_plan.sequences().div_ceil(u64::from(job.stages[stage].batch)));
        for bucket in 0..stage_plan.buckets.len() {
            let found = documents_of(plan, stage, bucket as u32);
            let mut uses = BTreeMap::new();
            for ((dataset, document), found) in found {
                let (prompt, text) = &originals[dataset as usize][document as usize];
                let mut ids = vec![1];
                ids.extend(BYTES.encode(&format!("{prompt}{text}")).unwrap());
                ids.push(2);
                let masked = 1 + prompt.len() as u32;
                let times = found.targets[&(ids.len() as u32 - 1)];
                *uses.entry(dataset).or_insert(0) += u64::from(times);
                for place in 1..ids.len() as u32 {
                    let (target, ignored) = (found.targets.get(&place), found.masked.get(&place));
                    let expected = if place < masked { (None, Some(&times)) } else { (Some(&times), None) };
                    prop_assert_eq!((target, ignored), expected, "place {} of {:?}", place, found);
                }
                let inputs: Vec<u32> = found.inputs.into_values().collect();
                prop_assert_eq!(&inputs[masked as usize..], &ids[masked as usize..]);
                let fits = ids.len() as u32 - 1 <= job.sequence_length;
                if fits && job.packing == "BestFit" {
                    prop_assert_eq!(found.pieces.len() as u32, times, "best-fit never splits what fits");
                }
            }
            for bin in &stage_plan.buckets[bucket].datasets {
                let index = plan.datasets.iter().position(|dataset| dataset.name == bin.dataset).unwrap() as u32;
                prop_assert_eq!(uses.get(&index).copied().unwrap_or(0), bin.documents);
            }
        }
    }
    Ok(())
}

/// Each equation that the certificate's fields promise.
fn check_certificate(plan: &Plan) -> Result<(), TestCaseError> {
    let certificate = &plan.certificate;
    let mut trained = (0, 0);
    for dataset in &certificate.datasets {
        let parts = [dataset.held_out, dataset.used, dataset.unused, dataset.dropped];
        prop_assert_eq!(dataset.read.documents, parts.iter().map(|part| part.documents).sum::<u64>());
        prop_assert_eq!(dataset.read.tokens, parts.iter().map(|part| part.tokens).sum::<u64>());
        prop_assert_eq!((dataset.dropped.documents, dataset.dropped.tokens), (0, 0));
        prop_assert_eq!(dataset.used.documents, dataset.repeated.values().sum::<u64>());
        let times = dataset.repeated.iter().map(|(times, documents)| u64::from(*times) * documents);
        prop_assert_eq!(dataset.trained.documents, times.sum::<u64>());
        trained = (trained.0 + dataset.trained.documents, trained.1 + dataset.trained.tokens);
        let of_stages = certificate.stages.iter().flat_map(|stage| &stage.datasets);
        let of_stages = of_stages.filter(|bin| bin.dataset == dataset.dataset);
        prop_assert_eq!(of_stages.map(|bin| bin.document_tokens).sum::<u64>(), dataset.trained.tokens);
    }
    prop_assert_eq!((certificate.total.documents, certificate.total.document_tokens), trained);
    let totals = certificate.stages.iter().map(|stage| &stage.total).chain([&certificate.total]);
    for total in totals {
        prop_assert_eq!(total.document_tokens, total.documents + total.prompt_tokens + total.target_tokens);
        prop_assert_eq!(total.slots, total.document_tokens - total.documents + total.padding);
        prop_assert_eq!(total.slots, total.sequences * u64::from(plan.sequence_length));
        prop_assert_eq!(total.dropped, 0);
    }
    for (stage, stage_plan) in plan.stages.iter().enumerate() {
        let reader = plan.reader(stage).unwrap();
        prop_assert_eq!(reader.sequences() as u64, stage_plan.sequences());
        let sequences: Vec<_> = (0..reader.sequences()).map(|index| reader.sequence(index).unwrap()).collect();
        for (bucket, bucket_plan) in stage_plan.buckets.iter().enumerate() {
            let own: Vec<_> = sequences.iter().filter(|sequence| sequence.bucket == bucket as u32).collect();
            let targets = own.iter().flat_map(|sequence| sequence.labels).filter(|label| **label >= 0).count();
            let filled: u64 = own.iter().map(|sequence| sequence.input_ids.len() as u64).sum();
            let tokens: u64 = own.iter().map(|sequence| u64::from(sequence.document_tokens)).sum();
            prop_assert_eq!(own.len() as u64, bucket_plan.sequences);
            prop_assert_eq!(targets as u64, bucket_plan.target_tokens);
            prop_assert_eq!(filled, bucket_plan.slots - bucket_plan.padding);
            prop_assert_eq!(tokens, bucket_plan.document_tokens);
        }
        for bin in stage_plan.buckets.iter().flat_map(|bucket| &bucket.datasets) {
            prop_assert_eq!(bin.document_tokens, bin.documents + bin.prompt_tokens + bin.target_tokens);
            prop_assert_eq!(bin.positions, bin.document_tokens - bin.documents);
            prop_assert!(bin.pieces >= bin.documents && bin.split <= bin.documents);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_id_is_a_target_once_and_all_adds_up(job in jobs()) {
        let bench = job.bench();
        match bench.prepare(job.data(), job.stages(), job.seed) {
            Ok(plan) => check_plan(&job, &bench, &plan)?,
            Err(error) => {
                let message = error.to_string();
                prop_assert!(message.contains("held out") && job.hold_out != "0", "{}", message);
            }
        }
    }
}

fn mk_job() -> Job {
    let sizes = |count: usize, most: usize| (0..count).map(|number| (number % 3, 3 + number * 37 % most)).collect();
    Job {
        datasets: vec![sizes(200, 80), sizes(70, 300), sizes(30, 10)],
        hold_out: "0.1",
        sequence_length: 48,
        packing: "BestFit",
        stages: vec![
            StageShape { buckets: 3, weights: vec![5, 3, 1], tokens: 4000, batch: 4, restarts: false },
            StageShape { buckets: 2, weights: vec![1, 2, 1], tokens: 3000, batch: 3, restarts: false },
        ],
        seed: 11,
    }
}

/// Ids, labels, segments and bucket.
type TrainedSequence = (Vec<u32>, Vec<i32>, Vec<u32>, u32);

/// Everything that a trainer would see.
fn content(plan: &Plan) -> Vec<TrainedSequence> {
    let mut all = Vec::new();
    for stage in 0..plan.stages.len() {
        let reader = plan.reader(stage).unwrap();
        for index in 0..reader.sequences() {
            let sequence = reader.sequence(index).unwrap();
            all.push((
                sequence.input_ids.to_vec(),
                sequence.labels.to_vec(),
                sequence.segments.to_vec(),
                sequence.bucket,
            ));
        }
    }
    all
}

#[test]
fn data_depends_on_the_job_and_its_seed_alone() {
    let job = mk_job();
    let mut bench = job.bench();
    let prepare = |bench: &Bench, folder: &str, data, stages, seed| {
        bench.prepare_in(&bench.path(folder), &BYTES, data, stages, seed).unwrap()
    };
    let first = prepare(&bench, "one", job.data(), job.stages(), 11);
    bench.threads = 5;
    let second = prepare(&bench, "two", job.data(), job.stages(), 11);
    assert_eq!(content(&first), content(&second), "whatever the threads and the folder");
    assert_eq!(first.digest, second.digest);
    let other = prepare(&bench, "two", job.data(), job.stages(), 12);
    assert_ne!(content(&first), content(&other), "another seed, another order");

    // What does not concern the data does not change it, nor is it packed again.
    let mut stages = job.stages();
    stages[0]["optimizer"] = json!({"learningRate": "1e-2"});
    assert_eq!(prepare(&bench, "one", job.data(), stages, 11).digest, first.digest);

    // The first stage's data is not changed by what follows, nor by a dataset that it does not name.
    let mut stages = job.stages();
    stages.as_array_mut().unwrap().pop();
    let alone = prepare(&bench, "one", job.data(), stages, 11);
    let sequences = alone.reader(0).unwrap().sequences();
    assert_eq!(content(&alone), content(&first)[..sequences]);
}

#[test]
fn what_is_prepared_is_found_again() {
    let job = mk_job();
    let bench = job.bench();
    let plan = bench.prepare(job.data(), job.stages(), 11).unwrap();
    let stamps = |bench: &Bench| {
        let mut stamps = BTreeMap::new();
        let mut folders = vec![bench.path("prepared")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let metadata = std::fs::metadata(&path).unwrap();
                if metadata.is_dir() {
                    folders.push(path);
                } else {
                    stamps.insert(path, metadata.modified().unwrap());
                }
            }
        }
        stamps
    };
    let before = stamps(&bench);
    let again = bench.prepare(job.data(), job.stages(), 11).unwrap();
    assert_eq!(again, plan);
    assert_eq!(stamps(&bench), before, "no file is written");

    // What a writer that died has left is not taken for data: a folder appears when it is whole.
    let folder = before.keys().find(|path| path.ends_with("plan.json")).unwrap().parent().unwrap();
    std::fs::remove_file(folder.join("plan.json")).unwrap();
    let again = bench.prepare(job.data(), job.stages(), 11).unwrap();
    assert_eq!(again, plan);
    assert!(folder.join("plan.json").is_file());

    // Other content under the same name is other data.
    let mut content = std::fs::read_to_string(bench.path("d2.jsonl")).unwrap();
    content = content.replacen("\"target\":\"", "\"target\":\"z", 1);
    bench.write("d2.jsonl", content);
    assert_ne!(bench.prepare(job.data(), job.stages(), 11).unwrap().digest, plan.digest);
}

#[test]
fn damaged_files_are_named() {
    let job = mk_job();
    let bench = job.bench();
    let plan = bench.prepare(job.data(), job.stages(), 11).unwrap();
    let path = bench.path("prepared").join(&plan.stages[0].buckets[1].file);
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], &whole[..5], b""] {
        std::fs::write(&path, damaged).unwrap();
        let error = plan.reader(0).unwrap_err().to_string();
        assert!(error.contains("bucket-001.arrow"), "{error}");
        assert!(error.ends_with("remove its folder and prepare the data again"), "{error}");
    }
}

#[test]
fn a_preparation_can_be_called_off_and_leaves_nothing_half_done() {
    let job = mk_job();
    let bench = job.bench();
    let data = bench.data(job.data());
    let stages: Vec<palimpsest_api::Stage> = serde_json::from_value(job.stages()).unwrap();
    let (mounts, folder) = (bench.mounts(), bench.path("prepared"));
    let request = palimpsest_corpus::PrepareRequest {
        data: &data,
        stages: &stages,
        seed: 11,
        tokenizer: &BYTES,
        mounts: &mounts,
        folder: &folder,
        evaluated: &[],
        threads: 2,
    };
    let mut calls = 0;
    for stop_at in 1.. {
        let cancelled = AtomicBool::new(false);
        let mut count = 0;
        let mut on_progress = |progress: palimpsest_corpus::Progress<'_>| {
            assert!(progress.done <= progress.total);
            count += 1;
            cancelled.store(count == stop_at, Ordering::Relaxed);
        };
        match palimpsest_corpus::prepare(&request, &mut on_progress, &cancelled) {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, palimpsest_corpus::Error::Cancelled), "{error}"),
        }
        calls += 1;
        for parent in ["prepared/tokenized", "prepared/plans"] {
            let Ok(entries) = std::fs::read_dir(bench.path(parent)) else { continue };
            for entry in entries {
                let folder = entry.unwrap().path();
                let is_whole = folder.join("manifest.json").is_file() || folder.join("plan.json").is_file();
                assert!(is_whole, "{}", folder.display());
            }
        }
    }
    assert!(calls > 5, "{calls}");
}

#[test]
fn two_preparations_at_once_agree() {
    let job = mk_job();
    let bench = job.bench();
    let plans: Vec<Plan> = std::thread::scope(|scope| {
        let prepare = || bench.prepare(job.data(), job.stages(), 11).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(prepare)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(plans.iter().all(|plan| *plan == plans[0]));
    assert_eq!(content(&plans[0]).len() as u64, plans[0].stages.iter().map(|stage| stage.sequences()).sum::<u64>());
}
