//! What an answer tells, and how: at once or in parts, of a completion or of a chat.

use serde_json::{Value, json};

use crate::text::TokenText;

/// What has come of one choice: all of it, or what is new.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Choice {
    pub(crate) index: usize,
    pub(crate) text: String,
    /// Its tokens, where log-probabilities are told.
    pub(crate) tokens: Vec<NamedToken>,
    pub(crate) finish: Option<&'static str>,
}

/// A token and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamedToken {
    pub(crate) name: TokenText,
    /// Absent for the first token of a prompt.
    pub(crate) logprob: Option<f32>,
    /// The likeliest in its place, likeliest first.
    pub(crate) likeliest: Vec<(TokenText, f32)>,
    /// Characters of the text before it.
    pub(crate) offset: usize,
}

/// What a request has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    /// Tokens of prompts that were in the cache.
    pub(crate) cached_tokens: u64,
}

impl Usage {
    /// Adds what one choice has cost. Choices share a prompt, of which no more can have been in the cache than there is.
    pub(crate) fn add(&mut self, tokens: u64, cached: u64) {
        self.completion_tokens += tokens;
        self.cached_tokens = (self.cached_tokens + cached).min(self.prompt_tokens);
    }

    fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        })
    }
}

/// Which of the two APIs is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Completion,
    Chat,
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) api: Api,
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) tells_logprobs: bool,
    /// Whether parts have a field for what only the last one tells.
    pub(crate) includes_usage: bool,
}

impl Shape {
    /// The whole answer.
    pub(crate) fn whole(&self, choices: &[Choice], usage: Usage) -> Value {
        let choice = |choice| match self.api {
            Api::Completion => self.completion_choice(choice),
            Api::Chat => self.chat_choice(choice),
        };
        let object = match self.api {
            Api::Completion => "text_completion",
            Api::Chat => "chat.completion",
        };
        self.object(object, choices.iter().map(choice).collect(), Some(usage.to_json()))
    }

    /// What a choice begins with, before any of its text.
    pub(crate) fn opening(&self, index: usize) -> Option<Value> {
        let delta = json!({"role": "assistant", "content": ""});
        let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
        (self.api == Api::Chat).then(|| self.part_of(choice))
    }

    /// What is new of a choice.
    pub(crate) fn part(&self, part: &Choice) -> Value {
        self.part_of(match self.api {
            Api::Completion => self.completion_choice(part),
            Api::Chat => self.chat_delta(part),
        })
    }

    /// What the last part tells, where it is asked for.
    pub(crate) fn closing(&self, usage: Usage) -> Value {
        self.object(self.part_object(), Vec::new(), Some(usage.to_json()))
    }

    fn part_of(&self, choice: Value) -> Value {
        self.object(self.part_object(), vec![choice], self.includes_usage.then_some(Value::Null))
    }

    fn part_object(&self) -> &'static str {
        match self.api {
            Api::Completion => "text_completion",
            Api::Chat => "chat.completion.chunk",
        }
    }

    fn object(&self, object: &str, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut value = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        });
        if let Some(usage) = usage {
            value["usage"] = usage;
        }
        value
    }

    fn completion_choice(&self, choice: &Choice) -> Value {
        let logprobs = self.tells_logprobs.then(|| completion_logprobs(&choice.tokens));
        json!({
            "index": choice.index, "text": choice.text, "logprobs": logprobs, "finish_reason": choice.finish,
        })
    }

    fn chat_choice(&self, choice: &Choice) -> Value {
        let message = json!({"role": "assistant", "content": choice.text, "refusal": null});
        let logprobs = self.tells_logprobs.then(|| chat_logprobs(&choice.tokens));
        json!({
            "index": choice.index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish,
        })
    }

    fn chat_delta(&self, part: &Choice) -> Value {
        let delta = if part.text.is_empty() { json!({}) } else { json!({"content": part.text}) };
        let logprobs = (self.tells_logprobs && !part.tokens.is_empty()).then(|| chat_logprobs(&part.tokens));
        json!({
            "index": part.index, "delta": delta, "logprobs": logprobs, "finish_reason": part.finish,
        })
    }
}

/// Four lists, of which each has an entry a token.
fn completion_logprobs(tokens: &[NamedToken]) -> Value {
    let likeliest = |token: &NamedToken| {
        token.logprob.map(|logprob| {
            // Its own is told, too, though it may be none of the likeliest.
            let own = (token.name.text.clone(), json!(logprob));
            let others = token.likeliest.iter().map(|(name, logprob)| (name.text.clone(), json!(logprob)));
            others.chain([own]).collect::<serde_json::Map<_, _>>()
        })
    };
    json!({
        "tokens": tokens.iter().map(|token| &token.name.text).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(likeliest).collect::<Vec<_>>(),
        "text_offset": tokens.iter().map(|token| token.offset).collect::<Vec<_>>(),
    })
}

/// A list of tokens, each with all that is known of it.
fn chat_logprobs(tokens: &[NamedToken]) -> Value {
    let one =
        |name: &TokenText, logprob: Option<f32>| json!({"token": name.text, "logprob": logprob, "bytes": name.bytes});
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut value = one(&token.name, token.logprob);
            value["top_logprobs"] = token.likeliest.iter().map(|(name, logprob)| one(name, Some(*logprob))).collect();
            value
        })
        .collect();
    json!({ "content": content })
}
