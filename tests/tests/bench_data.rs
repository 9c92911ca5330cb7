//! `palimpsest bench data`, as a person drives it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use palimpsest_tests::{SMALL_JOB, read_json, repository, run, succeed, write_job};
use serde_json::Value;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The files below a folder that bear this name.
fn found(folder: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(found(&path, name));
        } else if path.file_name().is_some_and(|found| found == name) {
            files.push(path);
        }
    }
    files
}

fn sum(list: &Value, pointer: &str) -> u64 {
    list.as_array().unwrap().iter().map(|item| item.pointer(pointer).unwrap().as_u64().unwrap()).sum()
}

fn check(measured: &Value, certificate: &Value, bytes: u64) {
    assert_eq!(measured["documents"], sum(&certificate["datasets"], "/read/documents"), "{measured}");
    assert_eq!(measured["tokens"], sum(&certificate["datasets"], "/read/tokens"), "{measured}");
    assert_eq!(measured["sequences"], certificate["total"]["sequences"], "{measured}");
    assert_eq!(measured["bytes"], bytes, "{measured}");
    let number = |name: &str| measured[name].as_f64().unwrap();
    let parts = number("digestingSeconds") + number("tokenizingSeconds") + number("packingSeconds");
    assert!((parts - number("seconds")).abs() < 0.01, "{measured}");
    let rate = number("tokens") / number("seconds");
    assert!((rate / number("tokensPerSecond") - 1.0).abs() < 1e-6, "{measured}");
    assert!(number("peakMemory") > 1e6 && number("megabytesPerSecond") > 0.0, "{measured}");
}

#[test]
fn what_bench_data_counts_is_what_the_plan_holds() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let output = folder.path().join("out");
    succeed(&["data", "prepare", text(&job), "--output", text(&output)]);
    let plans = found(&output, "plan.json");
    let certificate = &read_json(plans.first().unwrap())["certificate"];
    let before = fs::read_dir(folder.path()).unwrap().count();

    let recipes = repository().join("examples/corpora/en/recipes.jsonl");
    let questions = folder.path().join("questions.jsonl");
    let bytes = |path: &Path| fs::metadata(path).unwrap().len();
    let json = succeed(&["bench", "data", "--job", text(&job), "--json", "--threads", "2"]).stdout;
    check(&serde_json::from_str(&json).unwrap(), certificate, bytes(&recipes) + bytes(&questions));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before, "nothing is left behind");

    // The same documents as files with the job's tokenizer: fewer are packed twice, but all are read.
    let tokenizer = found(&output, "tokenizer.model");
    let options = ["bench", "data", "--tokenizer", text(tokenizer.first().unwrap()), "--sequence-length", "64"];
    let files = [text(&recipes), text(&questions)];
    let json = succeed(&[&options, ["--json"].as_slice(), &files].concat()).stdout;
    let measured: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(measured["tokens"], sum(&certificate["datasets"], "/read/tokens"), "{measured}");
    assert_eq!(measured["bytes"], bytes(&recipes) + bytes(&questions));
    let sentences = succeed(&[options.as_slice(), &files].concat()).stdout;
    assert!(sentences.contains(" MB/s") && sentences.contains(" resident at most"), "{sentences}");

    for (arguments, expected) in [
        (vec!["bench", "data"], "--job"),
        (vec!["bench", "data", text(&recipes)], "--tokenizer"),
        (vec!["bench", "data", "--job", text(&job), text(&recipes)], "--job"),
    ] {
        let ended = run(&arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{arguments:?}: {}", ended.stderr);
    }
    let help = succeed(&["bench", "--help"]).stdout;
    assert!(["train", "loss", "data"].iter().all(|name| help.contains(name)), "{help}");
    assert!(succeed(&["bench", "train", "--help"]).stdout.contains("--shape"));
}
