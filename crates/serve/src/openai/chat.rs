//! A request for chat completions.

use serde_json::{Map, Value};

use super::ApiError;
use super::fields::Fields;
use super::messages;
use super::settings::{LIKELIEST, Settings, max_tokens};

/// A request for chat completions.
#[derive(Clone, Debug)]
pub(crate) struct ChatRequest {
    pub(crate) settings: Settings,
    pub(crate) messages: Vec<Map<String, Value>>,
    /// Absent: as many as the context leaves.
    pub(crate) max_tokens: Option<u32>,
    /// How many likeliest tokens are told for each; absent: no log-probabilities at all.
    pub(crate) logprobs: Option<u32>,
    /// Whether the template begins the assistant's answer.
    pub(crate) adds_generation_prompt: bool,
    /// Bytes of the body, by which it is known how long a text is made of it.
    pub(crate) bytes: usize,
    /// What else the template is told.
    pub(crate) template_arguments: Map<String, Value>,
}

impl ChatRequest {
    /// Reads it from a body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let messages = messages::read(&mut fields)?;
        let tells_logprobs = fields.boolean("logprobs")?.unwrap_or(false);
        let likeliest = fields.integer("top_logprobs", 0..=LIKELIEST)?;
        if likeliest.is_some() && !tells_logprobs {
            return Err(ApiError::field("top_logprobs", "top_logprobs need logprobs to be true"));
        }
        let template_arguments = match fields.value("chat_template_kwargs") {
            None => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(_) => {
                let message = "chat_template_kwargs has to be an object";
                return Err(ApiError::field("chat_template_kwargs", message));
            }
        };
        let request = Self {
            settings: Settings::read(&mut fields)?,
            messages,
            bytes: body.len(),
            max_tokens: max_tokens(&mut fields, 1)?,
            logprobs: tells_logprobs.then_some(likeliest.unwrap_or(0) as u32),
            adds_generation_prompt: fields.boolean("add_generation_prompt")?.unwrap_or(true),
            template_arguments,
        };
        fields.finish()?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: Value) -> Result<ChatRequest, ApiError> {
        ChatRequest::parse(body.to_string().as_bytes())
    }

    #[test]
    fn contents_are_texts_or_parts_of_text() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let body = json!({"messages": [
            {"role": "developer", "content": "x"}, {"role": "user", "content": parts, "name": "me"},
        ]});
        let messages = Value::from_iter(parse(body).unwrap().messages);
        let expected = json!([{"role": "system", "content": "x"}, {"role": "user", "content": "a\nb", "name": "me"}]);
        assert_eq!(messages, expected);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let param = |body: Value| parse(body).unwrap_err().param.unwrap();
        let with = |message: Value| param(json!({ "messages": [message] }));
        assert_eq!(param(json!({})), "messages");
        assert_eq!(param(json!({"messages": []})), "messages");
        assert_eq!(with(json!({"role": "tool", "content": "x"})), "messages[0].role");
        assert_eq!(with(json!({"role": "user"})), "messages[0].content");
        assert_eq!(with(json!({"role": "user", "content": "x", "tool_calls": []})), "messages[0].tool_calls");
        let image = json!([{"type": "image_url", "image_url": {"url": "x"}}]);
        assert_eq!(with(json!({"role": "user", "content": image})), "messages[0].content[0].type");
        let user = json!([{"role": "user", "content": "x"}]);
        assert_eq!(param(json!({"messages": user, "top_logprobs": 2})), "top_logprobs");
        assert_eq!(param(json!({"messages": user, "functions": []})), "functions");
        assert_eq!(param(json!({"messages": user, "echo": true})), "echo");
    }
}
