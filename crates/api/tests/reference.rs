//! `docs/trainingjob.md` says of every field what the definition says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use palimpsest_api::training_job_crd;
use serde_json::Value;

const MARK: &str =
    "<!-- What follows is written by `UPDATE_DOCS=1 cargo test -p palimpsest-api --test reference`. -->\n";

#[test]
fn the_reference_is_what_the_definition_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/trainingjob.md");
    let page = fs::read_to_string(&path).unwrap();
    let (by_hand, _) = page.split_once(MARK).expect("the page has its mark");
    let expected = format!("{by_hand}{MARK}\n{}", reference());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(&path, &expected).unwrap();
    }
    assert!(page == expected, "{} is out of date: run this test with UPDATE_DOCS=1", path.display());
}

fn reference() -> String {
    let schema = training_job_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    let properties = &schema["properties"];
    let mut page = String::new();
    for (name, field) in properties["spec"]["properties"].as_object().unwrap() {
        if field.get("properties").is_none() && field.pointer("/items/properties").is_none() {
            continue;
        }
        write_table(&format!("`spec.{name}`"), name, field, &mut page);
    }
    // What has no fields of its own is told first.
    let mut plain = String::from("## Fields of `spec`\n\n| field | type | default | |\n|---|---|---|---|\n");
    let required = required(&properties["spec"]);
    for (name, field) in properties["spec"]["properties"].as_object().unwrap() {
        write_row(name, field, required.contains(&name.as_str()), &mut plain);
    }
    let mut status = String::new();
    write_table("`status`", "status", &properties["status"], &mut status);
    let mut rules = String::from(
        "## Rules\n\nA field is refused with the sentence behind it; the API server and `validate` say what the object holds besides.\n\n| field | sentence |\n|---|---|\n",
    );
    for (message, fields) in messages(&schema) {
        writeln!(rules, "| {} | {message} |", fields.join("<br>")).unwrap();
    }
    format!("{plain}\n{page}{status}{rules}")
}

fn required(schema: &Value) -> Vec<&str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A table of all that is below a field.
fn write_table(title: &str, name: &str, field: &Value, page: &mut String) {
    let description = field["description"].as_str().unwrap_or_default();
    writeln!(page, "## {title}\n\n{}\n\n| field | type | default | |\n|---|---|---|---|", escape(description)).unwrap();
    let (prefix, parts) = match field.get("items") {
        Some(items) => (format!("{name}[]"), items),
        None => (name.to_owned(), field),
    };
    write_rows(&prefix, parts, page);
    page.push('\n');
}

fn write_rows(prefix: &str, schema: &Value, page: &mut String) {
    let required = required(schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}.{name}");
        write_row(&path, field, required.contains(&name.as_str()), page);
        // The pod template is Kubernetes'.
        if name != "template" {
            write_rows(&path, field, page);
            write_rows(&format!("{path}[]"), &field["items"], page);
        }
    }
}

fn write_row(path: &str, field: &Value, is_required: bool, page: &mut String) {
    let default = match field.get("default") {
        Some(Value::Object(_)) => String::new(),
        Some(default) => format!("`{}`", default.to_string().replace("\",\"", "\", \"")),
        None if is_required => "required".to_owned(),
        None => String::new(),
    };
    let description = escape(field["description"].as_str().unwrap_or_default());
    writeln!(page, "| `{path}` | {} | {default} | {description} |", kind(field)).unwrap();
}

fn kind(field: &Value) -> String {
    match field["type"].as_str() {
        Some("array") => format!("list of {}", kind(&field["items"])),
        Some("string") if field["enum"].is_array() => "a word of these".to_owned(),
        Some("string") if field["format"] == "date-time" => "time".to_owned(),
        Some("string") if field.to_string().contains("is not a decimal number") => "decimal, in quotes".to_owned(),
        Some("string") => "text".to_owned(),
        Some("object") => "mapping".to_owned(),
        Some(kind) => kind.to_owned(),
        None => String::new(),
    }
}

/// The sentences of all rules, and the fields that each is about, in the order of the schema.
fn messages(schema: &Value) -> Vec<(String, Vec<String>)> {
    let mut messages: Vec<(String, Vec<String>)> = Vec::new();
    visit_rules("", schema, &mut |field, message| {
        let field = format!("`{field}`");
        match messages.iter_mut().find(|(known, _)| known == message) {
            Some((_, fields)) => fields.push(field),
            None => messages.push((message.to_owned(), vec![field])),
        }
    });
    messages
}

/// Calls `visit` with the field that each rule names, and with its sentence.
fn visit_rules(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &str)) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let field = format!("{path}{}", rule["fieldPath"].as_str().unwrap_or_default());
        visit(field.trim_start_matches('.'), &escape(rule["message"].as_str().unwrap()));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if name != "status" || !path.is_empty() {
            visit_rules(&format!("{path}.{name}"), field, visit);
        }
    }
    if schema["items"].is_object() {
        visit_rules(&format!("{path}[]"), &schema["items"], visit);
    }
}

/// What a table of Markdown can hold.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace('<', "&lt;")
}
