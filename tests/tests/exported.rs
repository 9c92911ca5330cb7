//! What a run leaves is an ordinary Hugging Face folder: transformers measures and continues with it as we do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use palimpsest_tests::{SMALL_JOB, parity_python, repository, succeed, write_job};
use serde_json::Value;

#[test]
fn transformers_measures_and_generates_the_same() {
    compare(SMALL_JOB, "Mix the flour with");
}

#[test]
fn transformers_measures_and_generates_the_same_with_an_extended_vocabulary() {
    let yaml = SMALL_JOB
        .replace("  data:\n", "    extension: {vocabularySize: 800, learnFrom: [chinese]}\n  data:\n")
        .replace(
            "  stages:\n",
            "      - {name: chinese, uri: \"file://CORPORA/zh/recipes.jsonl\", language: zh}\n  stages:\n",
        )
        .replace("[{dataset: recipes, weight: 3},", "[{dataset: recipes, weight: 3}, {dataset: chinese, weight: 3},");
    compare(&yaml, "将鸡蛋打入碗中，");
}

/// Compares ours and theirs on the model that a job leaves.
fn compare(yaml: &str, prompt: &str) {
    let Some(python) = parity_python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), yaml);
    let output = folder.path().join("out");
    succeed(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    let model = output.join("model");
    let text = folder.path().join("text.jsonl");
    let corpora = repository().join("examples/corpora");
    let lines: String = ["en/recipes.jsonl", "zh/recipes.jsonl"]
        .iter()
        .flat_map(|name| {
            let file = std::fs::read_to_string(corpora.join(name)).unwrap();
            file.lines().take(20).map(|line| format!("{line}\n")).collect::<Vec<_>>()
        })
        .collect();
    std::fs::write(&text, lines).unwrap();

    let theirs = Command::new(python)
        .arg(repository().join("tests/parity/exported.py"))
        .args([&model, &text])
        .arg(prompt)
        .output()
        .unwrap();
    assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
    let theirs: Value = serde_json::from_slice(&theirs.stdout).unwrap();

    let (model, text) = (model.to_str().unwrap(), text.to_str().unwrap());
    let ours = succeed(&["eval", "--model", model, "--bits-per-byte", text, "--json", "--threads", "1"]);
    let ours: Value = serde_json::from_str(&ours.stdout).unwrap();
    let (ours, expected) = (ours["score"]["bitsPerByte"].as_f64().unwrap(), theirs["bitsPerByte"].as_f64().unwrap());
    assert!((ours - expected).abs() < 1e-5 * expected, "{ours} {expected}");

    let generated = succeed(&[
        "generate",
        "--model",
        model,
        "--prompt",
        prompt,
        "--max-new-tokens",
        "24",
        "--greedy",
        "--threads",
        "1",
    ]);
    assert_eq!(generated.stdout.trim_end(), theirs["text"].as_str().unwrap().trim_end());
}

#[test]
fn a_checkpoint_is_exported_and_an_existing_folder_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let output = folder.path().join("out");
    succeed(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    let (checkpoints, exported) = (output.join("checkpoints"), folder.path().join("exported"));
    let arguments = ["export", "--checkpoint", checkpoints.to_str().unwrap(), "--output", exported.to_str().unwrap()];
    succeed(&arguments);
    let read = |path: &std::path::Path| std::fs::read(path.join("model.safetensors")).unwrap();
    assert_eq!(read(&exported), read(&output.join("model")));
    let again = palimpsest_tests::run(&arguments);
    assert_eq!(again.code, Some(2), "{again:?}");
}
