//! What the schema says and the types don't: how long lists and texts may be, and the fields of the pod template and of
//! the architecture, which are plain objects here.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::Violations;
use crate::crd::structural_schema;
use crate::training_job::TrainingJobSpec;
use crate::yaml::nearest;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| structural_schema::<TrainingJobSpec>(""));

pub(super) fn check(spec: &TrainingJobSpec, violations: &mut Violations) {
    // The types are plain data with text keys, which JSON always can express.
    check_value("spec", &SCHEMA, &serde_json::to_value(spec).unwrap_or_default(), violations);
}

fn check_value(field: &str, schema: &Value, value: &Value, violations: &mut Violations) {
    // A rule of its own may have said more about it.
    if violations.list.iter().any(|violation| violation.field == field) {
        return;
    }
    let is_anything = schema["x-kubernetes-int-or-string"] == true;
    match (schema["type"].as_str(), value) {
        // The API server takes null for absent.
        (_, Value::Null) => {}
        (_, Value::String(text)) if is_anything => violations.add_if(
            schema["pattern"].is_string() && !is_quantity(text),
            field,
            format!("\"{text}\" is no quantity; write one such as \"4Gi\" or 500m"),
        ),
        (_, Value::Number(number)) if is_anything => violations.add_if(
            !number.is_i64(),
            field,
            format!("{number} is not a whole number; write it in quotes: \"{number}\""),
        ),
        (Some("object"), Value::Object(fields)) => check_object(field, schema, fields, violations),
        (Some("array"), Value::Array(items)) => check_array(field, schema, items, violations),
        (Some("string"), Value::String(text)) => {
            let (length, most) = (text.chars().count(), at_most(schema, "maxLength"));
            violations.add_if(length > most, field, format!("has {length} characters; write at most {most}"));
        }
        (Some("integer"), Value::Number(number)) if number.is_i64() => {}
        (Some("number"), Value::Number(_)) | (Some("boolean"), Value::Bool(_)) => {}
        // A number that is beyond what Kubernetes knows was refused when it was read.
        (Some("integer"), Value::Number(number)) if number.is_u64() => {}
        (kind, value) => {
            let wanted = if is_anything { "a number or text" } else { in_words(kind.unwrap_or_default()) };
            violations.add(field, format!("{} where {wanted} belongs; write one", describe(value)));
        }
    }
}

fn check_object(field: &str, schema: &Value, fields: &Map<String, Value>, violations: &mut Violations) {
    let most = at_most(schema, "maxProperties");
    violations.add_if(fields.len() > most, field, format!("has {} fields; write at most {most}", fields.len()));
    let known = schema["properties"].as_object();
    for (name, value) in fields {
        let path = format!("{field}.{name}");
        if let Some(property) = known.and_then(|known| known.get(name)) {
            check_value(&path, property, value, violations);
        } else if schema["additionalProperties"].is_object() {
            check_value(&path, &schema["additionalProperties"], value, violations);
        } else if schema["x-kubernetes-preserve-unknown-fields"] != true {
            let names: Vec<&str> = known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let remedy = match nearest(name, &names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "remove it".to_owned(),
            };
            violations.add(path, format!("unknown field; {remedy}"));
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        violations.add_if(
            fields.get(name).is_none_or(Value::is_null),
            format!("{field}.{name}"),
            format!("required, but missing; write \"{name}: ...\""),
        );
    }
}

fn check_array(field: &str, schema: &Value, items: &[Value], violations: &mut Violations) {
    let most = at_most(schema, "maxItems");
    violations.add_if(items.len() > most, field, format!("has {} entries; keep at most {most}", items.len()));
    for (index, item) in items.iter().enumerate() {
        let path = format!("{field}[{index}]");
        let identity = identity(schema, item);
        let first =
            items[..index].iter().position(|other| identity.is_some() && self::identity(schema, other) == identity);
        if let Some(first) = first {
            violations.add(&path, format!("is {field}[{first}] again; keep one"));
        }
        check_value(&path, &schema["items"], item, violations);
    }
}

/// What tells an entry from the others, where a list is a map or a set.
fn identity(schema: &Value, item: &Value) -> Option<Value> {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Some(item.clone()),
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let value = |key: &str| item.get(key).unwrap_or(&schema["items"]["properties"][key]["default"]).clone();
            Some(keys.map(value).collect())
        }
        _ => None,
    }
}

fn at_most(schema: &Value, keyword: &str) -> usize {
    schema[keyword].as_u64().and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}

/// A number, and perhaps a suffix such as `Mi`, `k` or `e3`.
fn is_quantity(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let is_number = number.bytes().any(|byte| byte.is_ascii_digit()) && number.matches('.').count() <= 1;
    let is_suffix = match suffix.strip_suffix('i') {
        Some(binary) => ["K", "M", "G", "T", "P", "E"].contains(&binary),
        None if suffix.len() <= 1 => ["", "n", "u", "m", "k", "M", "G", "T", "P", "E"].contains(&suffix),
        None => suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| exponent.parse::<i32>().is_ok()),
    };
    is_number && is_suffix
}

fn in_words(kind: &str) -> &'static str {
    match kind {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "true or false",
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Object(_) => "a mapping".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => format!("the text \"{text}\""),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_quantity;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for text in ["1", "500m", "4Gi", "1.5", ".5", "2.", "-1k", "1e3", "1E-3", "12E"] {
            assert!(is_quantity(text), "{text}");
        }
        for text in ["", "4GiB", "Gi", "1.2.3", "1K", "four", "1e", "1 Gi", "i"] {
            assert!(!is_quantity(text), "{text}");
        }
    }
}
