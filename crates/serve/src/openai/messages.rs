//! The messages of a conversation, as a chat template takes them.

use serde_json::{Map, Value};

use super::ApiError;
use super::fields::Fields;

/// Messages of one conversation.
const MESSAGES: usize = 10_000;

/// Reads messages. Contents are texts: parts of texts are put together, a line each, as vLLM does.
pub(super) fn read(fields: &mut Fields) -> Result<Vec<Map<String, Value>>, ApiError> {
    let list = fields.list("messages", MESSAGES)?;
    let list = list.ok_or_else(|| ApiError::field("messages", "messages are missing"))?;
    if list.is_empty() {
        return Err(ApiError::field("messages", "messages are empty; give one at least"));
    }
    list.into_iter().enumerate().map(|(number, value)| message(value, &format!("messages[{number}]"))).collect()
}

fn message(value: Value, name: &str) -> Result<Map<String, Value>, ApiError> {
    let mut fields = Fields::of(value, name)?;
    let role_name = fields.name("role");
    let role = match fields.string("role")?.as_deref() {
        Some("user") => "user",
        Some("assistant") => "assistant",
        // OpenAI's newer name; templates know the older one.
        Some("system" | "developer") => "system",
        _ => {
            let what = "has to be system, developer, user or assistant";
            return Err(ApiError::field(role_name.clone(), format!("{role_name} {what}")));
        }
    };
    let mut message = Map::new();
    message.insert("role".to_owned(), role.into());
    let content_name = fields.name("content");
    let content = match fields.value("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts_text(parts, &content_name)?,
        _ => {
            let what = "has to be a string, or a list of parts of text";
            return Err(ApiError::field(content_name.clone(), format!("{content_name} {what}")));
        }
    };
    message.insert("content".to_owned(), content.into());
    if let Some(name) = fields.string("name")? {
        message.insert("name".to_owned(), name.into());
    }
    fields.finish()?;
    Ok(message)
}

fn parts_text(parts: Vec<Value>, name: &str) -> Result<String, ApiError> {
    let mut texts = Vec::with_capacity(parts.len());
    for (number, part) in parts.into_iter().enumerate() {
        let mut fields = Fields::of(part, &format!("{name}[{number}]"))?;
        let kind = fields.name("type");
        if fields.string("type")?.as_deref() != Some("text") {
            return Err(ApiError::field(kind.clone(), format!("{kind} has to be text; nothing else is supported")));
        }
        let text = fields.name("text");
        let missing = || ApiError::field(text.clone(), format!("{text} is missing"));
        texts.push(fields.string("text")?.ok_or_else(missing)?);
        fields.finish()?;
    }
    Ok(texts.join("\n"))
}
