//! What of a job can change its result: a digest of that, and the fields in which two jobs differ there.

use serde_json::Value;

use crate::decimal::Decimal;
use crate::training_job::TrainingJob;

/// What cannot change the result: how long, where and by whom the job is run, where its files are kept, and who reads
/// them. Everything else counts, and so does a field that is added later.
const NO_RESULT: [&str; 16] = [
    "metadata.namespace",
    "metadata.labels",
    "metadata.annotations",
    "spec.suspend",
    "spec.data.prepared",
    "spec.checkpoint.uri",
    "spec.checkpoint.intervalSteps",
    "spec.checkpoint.intervalSeconds",
    "spec.checkpoint.keep",
    "spec.checkpoint.terminationSeconds",
    "spec.output.uri",
    "spec.output.onExisting",
    "spec.stores",
    "spec.workers",
    "spec.runPolicy",
    "spec.managedBy",
];

/// Numbers that are written as text: `"1e-4"` and `"0.0001"` are the same job.
const DECIMALS: [&str; 8] =
    ["fraction", "learningRate", "betas", "epsilon", "weightDecay", "clipNorm", "minimumRatio", "lossSigma"];

/// A digest of everything in `job` that can change the result.
pub fn result_digest(job: &TrainingJob) -> String {
    let mut canonical = String::new();
    write_sorted(&decisive(job), &mut canonical);
    format!("blake3:{}", blake3::hash(canonical.as_bytes()).to_hex())
}

/// The paths in which two jobs differ and that can change the result; none exactly where the digests are equal.
pub fn differing_fields(old: &TrainingJob, new: &TrainingJob) -> Vec<String> {
    let mut fields = Vec::new();
    compare("", Some(&decisive(old)), Some(&decisive(new)), &mut fields);
    fields
}

fn decisive(job: &TrainingJob) -> Value {
    // The types are plain data with text keys, which JSON always can express.
    let mut value = serde_json::to_value(job).unwrap_or_default();
    for path in NO_RESULT {
        remove(&mut value, path);
    }
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        for (name, part) in spec {
            // `architecture` is Hugging Face's own object.
            if name != "model" {
                normalize_decimals(part, false);
            }
        }
    }
    value
}

fn remove(value: &mut Value, path: &str) {
    match path.split_once('.') {
        Some((first, rest)) => {
            if let Some(value) = value.get_mut(first) {
                remove(value, rest);
            }
        }
        None => {
            if let Some(object) = value.as_object_mut() {
                object.shift_remove(path);
            }
        }
    }
}

fn normalize_decimals(value: &mut Value, is_decimal: bool) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                normalize_decimals(field, DECIMALS.contains(&name.as_str()));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| normalize_decimals(item, is_decimal)),
        Value::String(text) if is_decimal => {
            if let Ok(decimal) = Decimal::parse(text) {
                // -0 is 0.
                *text = format!("{:e}", decimal.value() + 0.0);
            }
        }
        _ => {}
    }
}

/// JSON with the fields in alphabetical order: the order in a file means nothing.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            out.push('{');
            for name in names {
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_sorted(&fields[name], out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_sorted(item, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, fields: &mut Vec<String>) {
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|name| !old.contains_key(*name));
            for name in old.keys().chain(added) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(&path, old.get(name), new.get(name), fields);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                compare(&format!("{path}[{index}]"), old.get(index), new.get(index), fields);
            }
        }
        (old, new) if old == new => {}
        _ => fields.push(path.to_owned()),
    }
}
