//! Budgets in tokens, steps and epochs; repeats; reuse; bins; prompts without room.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::HashMap;

use common::{BYTES, Bench};
use palimpsest_corpus::{EncodedDocument, Inspector, Plan};
use serde_json::{Value, json};

/// Two datasets of documents of 12 and 32 ids on average.
fn mk_bench() -> Bench {
    let mut bench = Bench::new();
    for (name, count, size) in [("short", 300, 10), ("long", 100, 30)] {
        let texts: Vec<String> = (0..count).map(|number| "x".repeat(size / 2 + number * 7 % size)).collect();
        let documents: Vec<(&str, &str)> = texts.iter().map(|text| ("", text.as_str())).collect();
        bench.add_documents(name, &documents, "0");
    }
    bench
}

fn stage(name: &str, budget: Value) -> Value {
    let weight = |weight: u64| if budget.get("epochs").is_some() { Value::Null } else { json!(weight) };
    json!({
        "name": name, "buckets": 4, "budget": budget, "batch": {"sequences": 4, "microBatch": 2},
        "mixture": [{"dataset": "short", "weight": weight(3)}, {"dataset": "long", "weight": weight(1)}],
    })
}

fn with(mut stage: Value, field: &str, value: impl Into<Value>) -> Value {
    stage[field] = value.into();
    stage
}

fn prepare(bench: &Bench, stages: Value) -> Plan {
    bench.prepare(json!({"sequenceLength": 48}), stages, 3).unwrap()
}

fn refusal(bench: &Bench, stages: Value) -> String {
    bench.prepare(json!({"sequenceLength": 48}), stages, 3).unwrap_err().to_string()
}

/// The uses of each document of each stage.
fn uses(plan: &Plan, stage: usize) -> HashMap<(u32, u64), u32> {
    let reader = plan.reader(stage).unwrap();
    let mut uses = HashMap::new();
    for index in 0..reader.sequences() {
        for origin in reader.sequence(index).unwrap().origins().filter(|origin| origin.offset == 0) {
            *uses.entry((origin.dataset, origin.document)).or_insert(0) += 1;
        }
    }
    uses
}

#[test]
fn tokens_are_shared_by_weight_and_cut_at_documents() {
    let plan = prepare(&mk_bench(), json!([stage("one", json!({"tokens": 2000}))]));
    let [short, long] = &plan.certificate.stages[0].datasets[..] else { panic!("two datasets") };
    assert!(short.document_tokens.abs_diff(1500) <= 8, "{short:?}");
    assert!(long.document_tokens.abs_diff(500) <= 24, "{long:?}");
    // Bins are as near to a quarter as documents allow.
    for bucket in &plan.stages[0].buckets {
        assert!(bucket.datasets[0].document_tokens.abs_diff(short.document_tokens / 4) <= 16, "{bucket:?}");
        assert!(bucket.datasets[1].document_tokens.abs_diff(long.document_tokens / 4) <= 48, "{bucket:?}");
    }
}

#[test]
fn steps_are_exact() {
    let bench = mk_bench();
    for packing in ["BestFit", "Splice"] {
        for steps in [1, 2, 3, 7, 20, 41] {
            for sequences in [1, 3, 8] {
                let stage = with(stage("one", json!({"steps": steps})), "maxRepeats", 100);
                // Each bucket has a sequence at least.
                let stage = with(stage, "buckets", if steps * sequences < 8 { 1 } else { 4 });
                let stage = with(stage, "batch", json!({"sequences": sequences, "microBatch": 1}));
                let plan = bench.prepare(json!({"sequenceLength": 48, "packing": packing}), json!([stage]), 3).unwrap();
                let found = plan.stages[0].sequences();
                assert_eq!(plan.stages[0].steps, steps, "{packing} {sequences}: {found} sequences");
                assert!(found + 2 >= steps * sequences, "{packing} {steps} x {sequences}: {found} sequences");
            }
        }
    }
}

#[test]
fn steps_that_documents_cannot_make_are_refused() {
    let mut bench = Bench::new();
    let text = "x".repeat(48 * 10);
    bench.add_documents("long", &[("", &text), ("", &text)], "0");
    let stage = |steps: u64| {
        json!([{"name": "one", "buckets": 1, "mixture": [{"dataset": "long", "weight": 1}], "budget": {"steps": steps},
                "batch": {"sequences": 1, "microBatch": 1}, "maxRepeats": 9}])
    };
    assert_eq!(
        refusal(&bench, stage(3)),
        "spec.stages[0].budget.steps: whole documents cannot make exactly 3 steps of 1 sequences here; write at least \
         11, fewer buckets, or a budget in tokens"
    );
    assert_eq!(
        refusal(&bench, stage(15)),
        "spec.stages[0].budget.steps: whole documents cannot make exactly 15 steps of 1 sequences here; write 11 or 21, \
         fewer buckets, or a budget in tokens"
    );
    assert_eq!(prepare(&bench, stage(11)).steps(), 11);
}

#[test]
fn epochs_take_every_document_so_often() {
    let bench = mk_bench();
    let plan = prepare(&bench, json!([stage("one", json!({"tokens": 1000})), stage("two", json!({"epochs": 2}))]));
    let uses = uses(&plan, 1);
    assert_eq!(uses.len(), 400);
    assert!(uses.values().all(|uses| *uses == 2));
    assert_eq!(
        refusal(&bench, json!([stage("one", json!({"epochs": 3})), stage("two", json!({"epochs": 2}))])),
        "spec.stages[1].budget.epochs: 2 epochs need documents of \"short\" more often than maxRepeats allows, 4 times \
         over the whole job; write at most 1, or raise maxRepeats"
    );
}

#[test]
fn the_largest_budget_that_repeats_allow_is_named_and_right() {
    let bench = mk_bench();
    for unit in ["tokens", "steps"] {
        let stages = |budget: u64| {
            let first = stage("one", json!({"tokens": 1000}));
            json!([first, with(stage("two", json!({unit: budget})), "maxRepeats", 2)])
        };
        let message = refusal(&bench, stages(1_000_000));
        let (before, after) = message.split_once("write at most ").unwrap();
        assert!(before.contains(&format!("spec.stages[1].budget.{unit}")) && before.contains("\"short\""), "{message}");
        let most: u64 = after.split(',').next().unwrap().parse().unwrap();
        let plan = prepare(&bench, stages(most));
        let most_uses = plan.certificate.datasets.iter().flat_map(|dataset| dataset.repeated.keys()).max();
        assert_eq!(most_uses, Some(&2));
        assert_eq!(refusal(&bench, stages(most + 1)), message.replace("1000000", &(most + 1).to_string()));
    }
}

#[test]
fn a_stage_continues_or_restarts_streams() {
    let bench = mk_bench();
    let first = stage("one", json!({"tokens": 1000}));
    let continued = prepare(&bench, json!([first, stage("two", json!({"tokens": 1000}))]));
    let (one, two) = (uses(&continued, 0), uses(&continued, 1));
    assert!(one.keys().all(|document| !two.contains_key(document)), "nothing comes again before all has come");

    let second = with(stage("two", json!({"tokens": 1000})), "reuse", "Restart");
    let restarted = prepare(&bench, json!([first, second]));
    assert_eq!(uses(&restarted, 0), uses(&restarted, 1));
    let repeated = &restarted.certificate.datasets[0].repeated;
    assert_eq!(repeated.keys().collect::<Vec<_>>(), [&2]);
}

#[test]
fn a_prompt_that_leaves_no_room_is_refused() {
    let mut bench = Bench::new();
    let prompt = "p".repeat(48);
    bench.add_documents("qa", &[("", "first"), (&prompt[1..], "just fits"), ("", "third")], "0");
    let stages = json!([bench.stage_of_all()]);
    let plan = prepare(&bench, stages.clone());
    assert_eq!(plan.certificate.total.prompt_tokens, 47);
    let mut bench = Bench::new();
    bench.add_documents("qa", &[("", "first"), (&prompt, "too long"), ("", "third")], "0");
    let message = refusal(&bench, stages);
    assert!(
        message.ends_with(
            "qa.jsonl line 2: the prompt takes 48 tokens and a sequence has 48, so that no room is left for the text; \
             shorten the prompt or raise spec.data.sequenceLength"
        ),
        "{message}"
    );
}

#[test]
fn held_out_documents_are_never_trained_on_and_can_be_read() {
    let mut bench = Bench::new();
    let texts: Vec<String> = (0..200).map(|number| format!("answer {number}")).collect();
    let documents: Vec<(&str, &str)> = texts.iter().map(|text| ("why? ", text.as_str())).collect();
    bench.add_documents("qa", &documents, "0.1");
    bench.add_documents("other", &documents, "0.2");
    bench.evaluated = vec!["qa".to_owned(), "other".to_owned()];
    let mut stage = bench.stage_of_all();
    stage["mixture"].as_array_mut().unwrap().pop();
    let plan = prepare(&bench, json!([stage.clone()]));
    let held_out: Vec<EncodedDocument> = plan.held_out("qa").unwrap().documents().collect();
    assert_eq!(held_out.len() as u64, plan.certificate.datasets[0].held_out.documents);
    let more: Vec<EncodedDocument> = plan.held_out("other").unwrap().documents().collect();
    assert!(more.len() > held_out.len() && held_out.iter().all(|document| more.contains(document)));
    let document = &held_out[0];
    assert_eq!((document.prompt.as_str(), document.prompt_ids), ("why? ", 6));
    assert_eq!(document.text_bytes, document.text.len() as u64);
    assert_eq!(document.ids.len(), 5 + document.text.len() + 2);
    assert_eq!(document.encode_with(&BYTES).unwrap(), *document);

    // An evaluation needs something to read, a mixture something to train on.
    bench.datasets[1] = bench.datasets[0].clone();
    bench.datasets[1].name = "none".to_owned();
    bench.datasets[1].hold_out = None;
    bench.evaluated[1] = "none".to_owned();
    assert_eq!(
        refusal(&bench, json!([stage])),
        "dataset \"none\": none of its 200 documents is held out, so that there is nothing to evaluate on; raise \
         holdOut.fraction"
    );
}

#[test]
fn the_inspector_says_where_a_sequence_came_from() {
    let mut bench = Bench::new();
    let texts: Vec<String> = (0..40).map(|number| format!("text {number} ") + &"z".repeat(number)).collect();
    let documents: Vec<(&str, &str)> = texts.iter().map(|text| ("q ", text.as_str())).collect();
    bench.add_documents("qa", &documents, "0");
    let plan = prepare(&bench, json!([bench.stage_of_all()]));
    let mut inspector = Inspector::new(&plan, &BYTES);
    let mut found = HashMap::new();
    for bucket in 0..2 {
        for index in inspector.bucket(0, bucket).unwrap() {
            let sequence = inspector.sequence(0, index).unwrap();
            let in_bucket = index - inspector.bucket(0, bucket).unwrap().start + 1;
            assert_eq!((sequence.sequence, sequence.sequence_in_bucket), (index + 1, in_bucket));
            assert_eq!((sequence.bucket, sequence.step), (bucket as u32 + 1, index as u64 / 2 + 1));
            let positions: u32 = sequence.pieces.iter().map(|piece| piece.positions).sum();
            assert_eq!(positions + sequence.padding, 48);
            for piece in sequence.pieces {
                assert_eq!(piece.place(), format!("file://qa.jsonl line {}", piece.record));
                assert_eq!(piece.category.as_deref(), Some("qa"));
                found.insert((piece.record, piece.offset), piece.text);
            }
        }
    }
    for (line, text) in (1..).zip(&texts) {
        let whole = format!("q {text}");
        let first = &found[&(line, 0)];
        assert!(whole.starts_with(first.as_str()));
        match found.get(&(line, 48)) {
            // The pieces share an id.
            Some(rest) => assert_eq!(format!("{}{rest}", &first[..47]), whole),
            None => assert_eq!(*first, whole),
        }
    }
    let error = inspector.bucket(0, 2).unwrap_err().to_string();
    assert_eq!(error, "there is no bucket 2 of stage 0: it has 2 buckets; stages and buckets count from 0");
}
