//! The demo on a shorter budget: Chinese is learned, English is kept, and without replay it is forgotten.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use palimpsest_tests::{read_json, read_json_lines, repository, succeed};
use serde_json::Value;

/// Bits per byte over all held-out text of a language, of the rows that `is_wanted`.
fn bits_per_byte(run: &Path, language: &str, is_wanted: impl Fn(&Value) -> bool) -> f64 {
    let rows = read_json_lines(&run.join("evaluations.jsonl"));
    let wanted = rows.iter().filter(|row| row["language"] == language && is_wanted(row));
    let (bits, bytes) = wanted.fold((0.0, 0.0), |(bits, bytes), row| {
        let size = row["bytes"].as_f64().unwrap();
        (bits + row["bitsPerByte"].as_f64().unwrap() * size, bytes + size)
    });
    assert!(bytes > 0.0, "nothing was measured in {language}");
    bits / bytes
}

/// The share by which a language's bits per byte rose from before the first step to the end.
fn rise(run: &Path, language: &str) -> f64 {
    let last = read_json(&run.join("summary.json"))["steps"].clone();
    let start = bits_per_byte(run, language, |row| row["when"] == "JobStart");
    bits_per_byte(run, language, |row| row["step"] == last) / start - 1.0
}

#[test]
fn the_demo_shows_its_point() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let run = |example: &str, base: Option<&Path>, budgets: &[u64]| {
        let job = repository().join(format!("examples/{example}.yaml"));
        let output = path(example);
        let mut arguments =
            vec!["run".to_owned(), job.display().to_string(), "--output".to_owned(), output.display().to_string()];
        let mut set = |value: String| arguments.extend(["--set".to_owned(), value]);
        for (stage, budget) in budgets.iter().enumerate() {
            set(format!("spec.stages[{stage}].budget.tokens={budget}"));
        }
        if let Some(base) = base {
            set(format!("spec.model.uri=file://{}", base.display()));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        succeed(&arguments);
        output
    };
    let base = run("english-base", None, &[300_000]).join("model");
    // Each with one thread.
    let (taught, control) = std::thread::scope(|scope| {
        let control = scope.spawn(|| run("no-replay", Some(&base), &[250_000]));
        (run("chinese-extension", Some(&base), &[250_000, 60_000]), control.join().unwrap())
    });

    let (chinese, english) = (rise(&taught, "zh"), rise(&taught, "en"));
    let forgotten = rise(&control, "en");
    eprintln!("Chinese {chinese:+.3}, English {english:+.3}, English without replay {forgotten:+.3}");
    assert!(chinese <= -0.25, "Chinese: {chinese}");
    assert!(english <= 0.05, "English: {english}");
    assert!(forgotten >= english + 0.05 && forgotten >= 0.05, "English without replay: {forgotten}, with: {english}");

    let report = std::fs::read_to_string(taught.join("report.html")).unwrap();
    assert!(report.contains("knowledge-injection") && !report.contains("src=\"http"));
}
