//! The page of small made-up runs.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::render;

fn mk_metrics(folder: &Path, stage: &str, steps: std::ops::RangeInclusive<u64>) {
    let line = |step: u64| {
        json!({"step": step, "stage": stage, "bucket": 0, "tokens": 2000, "targets": 1900, "loss": 5.0, "gradNorm": 1.0,
            "learningRate": 1e-4, "tokensPerSecond": 8000.0, "seconds": 0.25, "clipped": step == 2, "skipped": false,
            "dataSeconds": 0.01, "forwardSeconds": 0.07, "backwardSeconds": 0.14, "optimizerSeconds": 0.02,
            "flopsPerToken": 1e6, "mfu": if step == 1 { None } else { Some(0.5) }})
    };
    let text: String = steps.map(|step| format!("{}\n", line(step))).collect();
    fs::write(folder.join("metrics.jsonl"), text).unwrap();
}

fn mk_plan(name: &str) -> Value {
    let bin = json!({"dataset": name, "documents": 10, "documentTokens": 1000, "promptTokens": 0, "targetTokens": 990,
        "split": 4, "pieces": 14, "positions": 990});
    let totals = json!({"sequences": 10, "slots": 1000, "padding": 10, "fill": 0.99, "documents": 10,
        "documentTokens": 1000, "promptTokens": 0, "targetTokens": 990, "split": 4, "dropped": 0});
    let mut stage = totals.clone();
    stage["stage"] = json!("one");
    stage["datasets"] = json!([bin]);
    let amount = |documents: u64, tokens: u64| json!({"documents": documents, "tokens": tokens});
    json!({"digest": "abc", "tokenizer": "def", "sequenceLength": 100, "packing": "BestFit", "attention": "Document",
        "seed": 1, "heldOut": [],
        "stages": [{"name": "one", "steps": 5, "batchSequences": 2, "buckets": [{"file": "x", "sequences": 10, "slots": 1000,
            "padding": 10, "fill": 0.99, "documentTokens": 1000, "targetTokens": 990, "datasets": [bin]}]}],
        "datasets": [{"name": name, "language": "zh", "uri": "file://x", "format": "Jsonl", "files": [], "tokenized": "t"}],
        "certificate": {"total": totals, "stages": [stage], "datasets": [{"dataset": name, "read": amount(12, 1300),
            "heldOut": amount(1, 100), "used": amount(5, 500), "unused": amount(6, 700), "dropped": amount(0, 0),
            "trained": amount(10, 1000), "repeated": {"2": 5}}]}})
}

/// The data inside a page, read as a browser would.
fn data_of(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let (json, _) = rest.split_once("</script>").unwrap();
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_run_that_has_only_metrics_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    mk_metrics(folder.path(), "one", 1..=3);
    let page = render(folder.path()).unwrap();
    let data = data_of(&page);
    assert_eq!(data["state"], "Unfinished");
    assert_eq!(data["steps"], 3);
    assert_eq!(data["tokens"], 6000);
    assert_eq!(data["clippedSteps"], 1);
    let time = &data["stepTime"];
    let close = |name: &str, expected: f64| assert!((time[name].as_f64().unwrap() - expected).abs() < 1e-9, "{time}");
    close("backwardSeconds", 0.42);
    close("otherSeconds", 0.03);
    close("mfu", 0.5);
    assert_eq!(data["plannedSteps"], Value::Null);
    assert_eq!(data["stages"][0]["lastStep"], 3);
    assert!(page.starts_with("<!doctype html>") && !page.contains("{{"));
}

#[test]
fn a_page_asks_nothing_of_the_network() {
    let folder = tempfile::tempdir().unwrap();
    mk_metrics(folder.path(), "one", 1..=3);
    let page = render(folder.path()).unwrap();
    for reference in ["src=", "url(", "@import", "fetch(", "<link"] {
        assert!(!page.contains(reference), "{reference}");
    }
    let addresses: Vec<&str> = page.matches("http").collect();
    assert_eq!(addresses.len(), 1, "only the name of SVG's namespace");
}

#[test]
fn the_plan_gives_stages_buckets_and_epochs() {
    let folder = tempfile::tempdir().unwrap();
    mk_metrics(folder.path(), "one", 1..=3);
    fs::write(folder.path().join("plan.json"), mk_plan("zh-web").to_string()).unwrap();
    let telemetry =
        json!({"newTokens": null, "perDataset": [{"dataset": "zh-web", "stage": "one", "loss": 3.5, "targets": 990}]});
    fs::write(folder.path().join("telemetry.json"), telemetry.to_string()).unwrap();
    let data = data_of(&render(folder.path()).unwrap());
    assert_eq!(data["plannedSteps"], 5);
    assert_eq!(data["stages"][0]["buckets"][0]["lastStep"], 5);
    assert_eq!(data["stages"][0]["buckets"][0]["shares"][0]["tokens"], 1000);
    assert_eq!(data["datasets"][0]["epochs"], 1000.0 / 1200.0);
    assert_eq!(data["datasets"][0]["stages"][0]["loss"], 3.5);
    assert_eq!(data["certificate"]["datasets"][0]["split"], 4);
    assert_eq!(data["certificate"]["datasets"][0]["repeated"]["2"], 5);
}

#[test]
fn the_model_is_named_from_the_run_folder() {
    let folder = tempfile::tempdir().unwrap();
    mk_metrics(folder.path(), "one", 1..=1);
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    let path = folder.path().join("model/../model");
    let summary = json!({"job": "a", "state": "Succeeded", "model": {"path": path, "digest": "sha256:1"}});
    fs::write(folder.path().join("summary.json"), summary.to_string()).unwrap();
    let page = render(folder.path()).unwrap();
    assert_eq!(data_of(&page)["summary"]["model"]["path"], "model");
}

#[test]
fn names_cannot_end_the_script_or_the_title() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = "</script><script>alert(1)</script><!-- {{charts}} & \u{2028}";
    mk_metrics(folder.path(), hostile, 1..=2);
    fs::write(folder.path().join("plan.json"), mk_plan(hostile).to_string()).unwrap();
    let summary = json!({"job": hostile, "state": "Succeeded", "steps": 2});
    fs::write(folder.path().join("summary.json"), summary.to_string()).unwrap();
    let page = render(folder.path()).unwrap();
    assert!(!page.contains("<script>alert"));
    assert!(page.contains("<title>&lt;/script&gt;"));
    let data = data_of(&page);
    assert_eq!(data["job"], hostile);
    assert_eq!(data["curve"]["stage"][0], hostile);
    assert_eq!(page.matches("class Course").count(), 1, "the charts stand once");
}

#[test]
fn a_step_whose_line_is_not_finished_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    mk_metrics(folder.path(), "one", 1..=3);
    let path = folder.path().join("metrics.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{{\"step\": 4, \"sta")).unwrap();
    assert_eq!(data_of(&render(folder.path()).unwrap())["steps"], 3);
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = format!("{:#}", render(folder.path()).unwrap_err());
    assert!(message.contains("metrics.jsonl"), "{message}");
    mk_metrics(folder.path(), "one", 1..=1);
    fs::write(folder.path().join("evaluations.jsonl"), "{}\n").unwrap();
    let message = format!("{:#}", render(folder.path()).unwrap_err());
    assert!(message.contains("evaluations.jsonl, line 1"), "{message}");
}
