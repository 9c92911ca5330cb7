//! The table that a finished run ends with: what the training did to each language, and where everything lies.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use palimpsest_store::RunFolder;
use serde::Deserialize;

use crate::columns::table;
use crate::words;

/// A line of `evaluations.jsonl`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Evaluation {
    stage: Option<String>,
    when: String,
    name: String,
    language: Option<String>,
    bits_per_byte: f64,
    bytes: u64,
}

/// What is read of `summary.json`.
#[derive(Debug, Deserialize)]
struct Summary {
    #[serde(default)]
    tokenizer: Vec<Tokenizer>,
}

/// A row of the card's table.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tokenizer {
    name: String,
    language: Option<String>,
    vocabulary: u64,
    tokens_per_character: f64,
    bytes_per_token: f64,
}

/// The closing table of the run in `folder`.
pub(super) fn closing(folder: &RunFolder) -> Result<String> {
    let mut text = String::new();
    let evaluations = match fs::read_to_string(folder.evaluations()) {
        Ok(lines) => {
            read_evaluations(&lines).with_context(|| format!("cannot read {}", folder.evaluations().display()))?
        }
        Err(_) => Vec::new(),
    };
    if !evaluations.is_empty() {
        text.push_str(&format!("\nbits per byte of held-out text\n{}", bits_per_byte(&evaluations)));
    }
    let summary = folder.summary();
    if let Ok(bytes) = fs::read(&summary) {
        let summary: Summary =
            serde_json::from_slice(&bytes).with_context(|| format!("cannot read {}", summary.display()))?;
        if !summary.tokenizer.is_empty() {
            text.push_str(&format!("\ncompression\n{}", compression(&summary.tokenizer)));
        }
    }
    for (what, path) in [("report", folder.report()), ("model", folder.model())] {
        if path.exists() {
            text.push_str(&format!("{}{what:<7} {}\n", if what == "report" { "\n" } else { "" }, words::path(&path)));
        }
    }
    Ok(text)
}

fn read_evaluations(lines: &str) -> serde_json::Result<Vec<Evaluation>> {
    lines
        .lines()
        .map(serde_json::from_str)
        .filter(|row: &serde_json::Result<Evaluation>| row.as_ref().map_or(true, |row| row.when != "Interval"))
        .collect()
}

/// A row for each evaluation, then one for each language that has several; a column for each moment.
fn bits_per_byte(evaluations: &[Evaluation]) -> String {
    let mut moments: Vec<String> = Vec::new();
    // In the order of the file.
    let mut rows: Vec<(&str, Option<&str>)> = Vec::new();
    let mut values: BTreeMap<(&str, String), (f64, u64)> = BTreeMap::new();
    for evaluation in evaluations {
        let moment = moment_of(evaluation);
        if !moments.contains(&moment) {
            moments.push(moment.clone());
        }
        if !rows.iter().any(|(name, _)| *name == evaluation.name) {
            rows.push((&evaluation.name, evaluation.language.as_deref()));
        }
        values.insert((&evaluation.name, moment), (evaluation.bits_per_byte, evaluation.bytes));
    }
    let has_change = moments.len() > 1;
    let mut cells: Vec<Vec<String>> = Vec::new();
    for (name, language) in &rows {
        let of_moment = |moment: &String| values.get(&(*name, moment.clone())).map(|(bits, _)| *bits);
        cells.push(row(name, *language, moments.iter().map(of_moment).collect(), has_change));
    }
    let mut languages: Vec<&str> = rows.iter().filter_map(|(_, language)| *language).collect();
    languages.dedup();
    languages.sort_unstable();
    languages.dedup();
    for language in languages {
        let names: Vec<&str> =
            rows.iter().filter(|(_, other)| *other == Some(language)).map(|(name, _)| *name).collect();
        if names.len() < 2 {
            continue;
        }
        let of_moment = |moment: &String| {
            let all: Option<Vec<(f64, u64)>> =
                names.iter().map(|name| values.get(&(*name, moment.clone())).copied()).collect();
            let all = all?;
            let bits: f64 = all.iter().map(|(bits, bytes)| bits * *bytes as f64).sum();
            let bytes: u64 = all.iter().map(|(_, bytes)| bytes).sum();
            (bytes > 0).then(|| bits / bytes as f64)
        };
        cells.push(row("all", Some(language), moments.iter().map(of_moment).collect(), has_change));
    }
    let mut heading = vec!["text", "language"];
    heading.extend(moments.iter().map(String::as_str));
    if has_change {
        heading.push("change");
    }
    table(&heading, &cells, &["text", "language"])
}

fn moment_of(evaluation: &Evaluation) -> String {
    match (evaluation.when.as_str(), &evaluation.stage) {
        ("Base", _) => "base".to_owned(),
        ("JobStart", _) => "start".to_owned(),
        ("StageEnd", Some(stage)) => stage.clone(),
        _ => "end".to_owned(),
    }
}

fn row(name: &str, language: Option<&str>, values: Vec<Option<f64>>, has_change: bool) -> Vec<String> {
    let mut cells = vec![name.to_owned(), language.unwrap_or("-").to_owned()];
    cells.extend(values.iter().map(|value| value.map_or("-".to_owned(), |value| format!("{value:.4}"))));
    if has_change {
        let mut present = values.iter().flatten();
        let change = present.next().zip(present.next_back()).filter(|(first, _)| **first > 0.0);
        cells.push(change.map_or("-".to_owned(), |(first, last)| format!("{:+.1} %", 100.0 * (last / first - 1.0))));
    }
    cells
}

fn compression(rows: &[Tokenizer]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                row.language.clone().unwrap_or_else(|| "-".to_owned()),
                words::count(row.vocabulary),
                format!("{:.4}", row.tokens_per_character),
                format!("{:.3}", row.bytes_per_token),
            ]
        })
        .collect();
    table(
        &["tokenizer", "language", "vocabulary", "tokens/character", "bytes/token"],
        &cells,
        &["tokenizer", "language"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_added_up_by_bytes_and_intervals_left_out() {
        let lines = r#"{"step":0,"stage":null,"when":"JobStart","name":"a","language":"zh","bitsPerByte":4.0,"bytes":100}
{"step":0,"stage":null,"when":"JobStart","name":"b","language":"zh","bitsPerByte":2.0,"bytes":300}
{"step":5,"stage":"one","when":"Interval","name":"a","language":"zh","bitsPerByte":9.0,"bytes":100}
{"step":9,"stage":"one","when":"StageEnd","name":"a","language":"zh","bitsPerByte":3.0,"bytes":100}
{"step":9,"stage":"one","when":"StageEnd","name":"b","language":"zh","bitsPerByte":1.0,"bytes":300}
"#;
        let expected = "\
text  language   start     one   change
a     zh        4.0000  3.0000  -25.0 %
b     zh        2.0000  1.0000  -50.0 %
all   zh        2.5000  1.5000  -40.0 %
";
        assert_eq!(bits_per_byte(&read_evaluations(lines).unwrap()), expected);
    }
}
