//! A request for completions.

use serde_json::Value;

use super::ApiError;
use super::fields::Fields;
use super::settings::{LIKELIEST, Settings, max_tokens};

/// Tokens that are given where a request does not say how many, as OpenAI does.
const MAX_TOKENS: u32 = 16;

/// A request for completions.
#[derive(Clone, Debug)]
pub(crate) struct CompletionRequest {
    pub(crate) settings: Settings,
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) max_tokens: u32,
    /// Whether the answer begins with the prompt.
    pub(crate) echo: bool,
    /// How many likeliest tokens are told for each; absent: no log-probabilities at all.
    pub(crate) logprobs: Option<u32>,
    /// Whether BOS begins a text.
    pub(crate) begins_with_bos: bool,
    /// Whether a text may name tokens.
    pub(crate) names_tokens: bool,
}

/// What to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

impl CompletionRequest {
    /// Reads it from a body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let prompts = prompts(fields.value("prompt"))?;
        let echo = fields.boolean("echo")?.unwrap_or(false);
        let request = Self {
            settings: Settings::read(&mut fields)?,
            prompts,
            // An echo alone gives the log-probabilities of a text.
            max_tokens: max_tokens(&mut fields, if echo { 0 } else { 1 })?.unwrap_or(MAX_TOKENS),
            echo,
            logprobs: fields.integer("logprobs", 0..=LIKELIEST)?.map(|count| count as u32),
            begins_with_bos: fields.boolean("add_special_tokens")?.unwrap_or(true),
            names_tokens: fields.boolean("parse_special")?.unwrap_or(false),
        };
        fields.finish()?;
        Ok(request)
    }
}

fn prompts(value: Option<Value>) -> Result<Vec<Prompt>, ApiError> {
    let refuse = || {
        let what = "has to be a string, a list of strings, a list of token ids, or a list of such lists";
        ApiError::field("prompt", format!("prompt {what}"))
    };
    match value {
        None => Err(ApiError::field("prompt", "prompt is missing")),
        Some(Value::String(text)) => Ok(vec![Prompt::Text(text)]),
        Some(Value::Array(list)) if list.is_empty() => Err(refuse()),
        Some(Value::Array(list)) if list.iter().all(Value::is_number) => Ok(vec![ids(&list).ok_or_else(refuse)?]),
        Some(Value::Array(list)) => {
            let prompt = |one: Value| match one {
                Value::String(text) => Ok(Prompt::Text(text)),
                Value::Array(list) => ids(&list).ok_or_else(refuse),
                _ => Err(refuse()),
            };
            list.into_iter().map(prompt).collect()
        }
        Some(_) => Err(refuse()),
    }
}

fn ids(list: &[Value]) -> Option<Prompt> {
    let ids: Option<Vec<u32>> = list.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect();
    ids.map(Prompt::Ids)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: Value) -> Result<CompletionRequest, ApiError> {
        CompletionRequest::parse(body.to_string().as_bytes())
    }

    #[test]
    fn prompts_come_in_four_shapes() {
        let prompts = |prompt| parse(json!({ "prompt": prompt })).unwrap().prompts;
        let text = |text: &str| Prompt::Text(text.to_owned());
        assert_eq!(prompts(json!("a")), [text("a")]);
        assert_eq!(prompts(json!(["a", "b"])), [text("a"), text("b")]);
        assert_eq!(prompts(json!([1, 2])), [Prompt::Ids(vec![1, 2])]);
        assert_eq!(prompts(json!([[1], [2, 3]])), [Prompt::Ids(vec![1]), Prompt::Ids(vec![2, 3])]);
        for wrong in
            [json!([]), json!([1, "a"]), json!([-1]), json!([1.5]), json!([4294967296u64]), json!({}), json!([[["a"]]])]
        {
            assert_eq!(parse(json!({ "prompt": wrong })).unwrap_err().param.as_deref(), Some("prompt"), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = [
            ("tools", json!([])),
            ("suffix", json!("x")),
            ("best_of", json!(2)),
            ("temperature", json!(-0.1)),
            ("temperature", json!("hot")),
            ("top_p", json!(0)),
            ("top_k", json!(-2)),
            ("min_p", json!(1.1)),
            ("n", json!(0)),
            ("n", json!(1e9)),
            ("max_tokens", json!(0)),
            ("max_tokens", json!(-5)),
            ("max_tokens", json!(1.5)),
            ("max_tokens", json!(1u64 << 40)),
            ("logprobs", json!(21)),
            ("logit_bias", json!({"5": 101})),
            ("logit_bias", json!({"x": 1})),
            ("stop", json!("")),
            ("stop", json!(vec!["a"; 17])),
            ("stop_token_ids", json!([-1])),
            ("stream_options", json!({"include_usage": true})),
            ("audio", json!({})),
            ("repetition_penalty", json!(0)),
        ];
        for (field, value) in wrong {
            let mut body = json!({"prompt": "a"});
            body[field] = value.clone();
            let error = parse(body).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(field), "{value}");
            assert!(error.message.contains(field), "{}", error.message);
        }
    }

    #[test]
    fn an_echo_may_ask_for_no_token() {
        assert_eq!(parse(json!({"prompt": "a", "echo": true, "max_tokens": 0})).unwrap().max_tokens, 0);
        assert_eq!(parse(json!({"prompt": "a", "max_tokens": null})).unwrap().max_tokens, MAX_TOKENS);
        let differ = parse(json!({"prompt": "a", "max_tokens": 1, "max_completion_tokens": 2})).unwrap_err();
        assert_eq!(differ.param.as_deref(), Some("max_completion_tokens"));
    }
}
