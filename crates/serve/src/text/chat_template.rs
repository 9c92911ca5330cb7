//! A model's chat template: Jinja as transformers runs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use serde_json::{Map, Value as Json};

use super::python_json::dumps;
use super::special_tokens::read_json;
use crate::error;

const NAME: &str = "chat";

/// A template that makes one text of a conversation.
#[derive(Clone, Debug)]
pub(crate) struct ChatTemplate {
    environment: Arc<Environment<'static>>,
}

impl ChatTemplate {
    /// The model's own: `chat_template.jinja`, or what `tokenizer_config.json` or `chat_template.json` hold; nothing where it has
    /// none.
    pub(crate) fn of_folder(folder: &Path) -> error::Result<Option<Self>> {
        let jinja = folder.join("chat_template.jinja");
        if jinja.is_file() {
            return Self::read(&jinja).map(Some);
        }
        for name in ["tokenizer_config.json", "chat_template.json"] {
            let path = folder.join(name);
            let json = read_json(&path)?;
            if let Some(source) = source_of(&json["chat_template"]) {
                return Self::new(source).map(Some).map_err(|why| error::Error::malformed(&path, why));
            }
        }
        Ok(None)
    }

    /// One from a file of its own.
    pub(crate) fn read(path: &Path) -> error::Result<Self> {
        let source = std::fs::read_to_string(path).map_err(error::Error::read(path))?;
        Self::new(&source).map_err(|why| error::Error::malformed(path, why))
    }

    /// Compiles a template, or says in one line what is wrong with it.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| why(&error))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        // A template goes by messages, of which a request may have many, but no template needs a loop within a loop within a loop.
        environment.set_recursion_limit(100);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment.add_template_owned(NAME, without_generation_marks(source)).map_err(|error| why(&error))?;
        Ok(Self { environment: Arc::new(environment) })
    }

    /// The text of a conversation, or why the template refuses it.
    pub(crate) fn render(
        &self,
        messages: &[Map<String, Json>],
        special_tokens: &BTreeMap<String, String>,
        adds_generation_prompt: bool,
        more: &Map<String, Json>,
    ) -> Result<String, String> {
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        context.extend(special_tokens.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str()))));
        context.extend(more.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value)))));
        context.insert("messages", Value::from(Serde(messages)));
        context.insert("add_generation_prompt", Value::from(adds_generation_prompt));
        let template = self.environment.get_template(NAME).map_err(|error| why(&error))?;
        template.render(context).map_err(|error| why(&error))
    }
}

/// A template written as a string, or as a list of named ones, of which the default counts.
fn source_of(value: &Json) -> Option<&str> {
    let named = || value.as_array()?.iter().find(|one| one["name"] == "default")?["template"].as_str();
    value.as_str().or_else(named)
}

/// transformers has blocks that mark what an assistant has said; they write nothing.
fn without_generation_marks(source: &str) -> String {
    let mut kept = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let end = start + length + 2;
        let inner =
            rest[start + 2..end - 2].trim_matches(|mark: char| mark == '-' || mark == '+' || mark.is_whitespace());
        if matches!(inner, "generation" | "endgeneration") {
            kept.push_str(&rest[..start]);
            // A block that does nothing trims what the mark would have trimmed.
            let before = if rest[start..].starts_with("{%-") { "{%- " } else { "{% " };
            let after = if rest[..end].ends_with("-%}") { " -%}" } else { " %}" };
            let block = if inner == "generation" { "if true" } else { "endif" };
            kept.push_str(before);
            kept.push_str(block);
            kept.push_str(after);
        } else {
            kept.push_str(&rest[..end]);
        }
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::Zoned::now();
    jiff::fmt::strtime::format(format, &now)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
}

fn tojson(_: &State, value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let refuse = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let json = serde_json::to_value(value).map_err(refuse)?;
    dumps(&json, indent).map(Value::from_safe_string).map_err(refuse)
}

/// What a template's own `raise_exception` says, or where and why it fails.
fn why(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod parity;
#[cfg(test)]
mod tests;
