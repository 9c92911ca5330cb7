//! The fields that completions and chat completions share.

use std::collections::HashMap;

use palimpsest_proto::inference::Sampling;
use serde_json::Value;

use super::ApiError;
use super::fields::Fields;
use super::format::{self, AskedFormat};

/// Texts that may end one output.
pub(crate) const STOPS: usize = 16;

/// Bytes of such a text: as many may be held back.
pub(crate) const STOP_BYTES: usize = 1024;

/// Tokens that may end one output.
pub(crate) const STOP_TOKENS: usize = 256;

/// Tokens whose logits may be changed.
pub(crate) const BIASES: usize = 1024;

/// Likely tokens that may be asked for in the place of each.
pub(super) const LIKELIEST: i64 = 20;

/// What completions and chat completions share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The model that is asked for, if any is named.
    pub(crate) model: Option<String>,
    /// How many outputs.
    pub(crate) n: usize,
    /// How each is drawn.
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) stop_ids: Vec<u32>,
    pub(crate) ignores_ends: bool,
    pub(crate) format: Option<AskedFormat>,
    pub(crate) priority: i32,
    /// How an answer is streamed; absent: at once.
    pub(crate) stream: Option<StreamOptions>,
    /// Whether tokens are called by their ids.
    pub(crate) calls_tokens_by_id: bool,
}

/// How an answer is streamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamOptions {
    /// Whether a last event tells the tokens of all.
    pub(crate) includes_usage: bool,
}

impl Settings {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        let n = fields.integer("n", 1..=i64::from(u16::MAX))?.unwrap_or(1) as usize;
        if let Some(best_of) = fields.integer("best_of", 1..=i64::MAX)?
            && best_of as usize != n
        {
            return Err(ApiError::field("best_of", "best_of is supported where it equals n; leave it out"));
        }
        // Says who asks, and changes nothing.
        fields.string("user")?;
        Ok(Self {
            model: fields.string("model")?,
            n,
            sampling: sampling(fields)?,
            stop: stop(fields)?,
            stop_ids: stop_ids(fields)?,
            ignores_ends: fields.boolean("ignore_eos")?.unwrap_or(false),
            format: format::read(fields)?,
            priority: fields.integer("priority", i32::MIN.into()..=i32::MAX.into())?.unwrap_or(0) as i32,
            stream: stream(fields)?,
            calls_tokens_by_id: fields.boolean("return_tokens_as_token_ids")?.unwrap_or(false),
        })
    }
}

/// Tokens to give at most, by whichever of the two names; `least` is the fewest that may be asked for.
pub(super) fn max_tokens(fields: &mut Fields, least: i64) -> Result<Option<u32>, ApiError> {
    let range = least..=i64::from(u32::MAX);
    let old = fields.integer("max_tokens", range.clone())?;
    let new = fields.integer("max_completion_tokens", range)?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => {
            let message = "max_completion_tokens differs from max_tokens; give one of them";
            Err(ApiError::field("max_completion_tokens", message))
        }
        (old, new) => Ok(new.or(old).map(|tokens| tokens as u32)),
    }
}

fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let top_p = fields.number("top_p", 0.0..=1.0)?;
    if top_p == Some(0.0) {
        return Err(ApiError::field("top_p", "top_p has to be above 0; temperature 0 takes the likeliest token"));
    }
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0..=100.0)?,
        // vLLM writes -1 for all, as we write 0.
        top_k: fields.integer("top_k", -1..=i64::from(u32::MAX))?.map(|top_k| top_k.max(0) as u32),
        top_p,
        min_p: fields.number("min_p", 0.0..=1.0)?,
        // So small a penalty that logits overflow would fail as if the model were damaged.
        repetition_penalty: fields.number("repetition_penalty", 0.01..=100.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?,
        logit_bias: logit_bias(fields)?,
        seed: fields.integer("seed", i64::MIN..=i64::MAX)?.map(|seed| seed as u64),
    })
}

fn logit_bias(fields: &mut Fields) -> Result<HashMap<u32, f64>, ApiError> {
    let refuse = |why: &str| ApiError::field("logit_bias", format!("logit_bias {why}"));
    let biases = match fields.value("logit_bias") {
        None => return Ok(HashMap::new()),
        Some(Value::Object(biases)) => biases,
        Some(_) => return Err(refuse("has to be an object of biases by token id")),
    };
    if biases.len() > BIASES {
        return Err(refuse(&format!("can have {BIASES} entries at most")));
    }
    let entry = |(id, bias): (&String, &Value)| {
        let id = id.parse().map_err(|_| refuse("has a key that is no token id"))?;
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        Ok((id, bias.ok_or_else(|| refuse(&format!("of token {id} has to be a number from -100 to 100")))?))
    };
    biases.iter().map(entry).collect()
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let refuse = || {
        let what = format!("has to be a string, or a list of at most {STOPS}, of 1 to {STOP_BYTES} bytes each");
        ApiError::field("stop", format!("stop {what}"))
    };
    let texts = match fields.value("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(texts)) if texts.len() <= STOPS => texts,
        Some(text @ Value::String(_)) => vec![text],
        Some(_) => return Err(refuse()),
    };
    let text_of = |text: Value| match text {
        Value::String(text) if (1..=STOP_BYTES).contains(&text.len()) => Ok(text),
        _ => Err(refuse()),
    };
    texts.into_iter().map(text_of).collect()
}

fn stop_ids(fields: &mut Fields) -> Result<Vec<u32>, ApiError> {
    let ids = fields.list("stop_token_ids", STOP_TOKENS)?.unwrap_or_default();
    let id_of = |id: &Value| {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| ApiError::field("stop_token_ids", "stop_token_ids has to be a list of token ids"))
    };
    ids.iter().map(id_of).collect()
}

fn stream(fields: &mut Fields) -> Result<Option<StreamOptions>, ApiError> {
    let is_streamed = fields.boolean("stream")?.unwrap_or(false);
    let Some(mut options) = fields.object("stream_options")? else {
        return Ok(is_streamed.then(StreamOptions::default));
    };
    if !is_streamed {
        return Err(ApiError::field("stream_options", "stream_options need stream to be true"));
    }
    let includes_usage = options.boolean("include_usage")?.unwrap_or(false);
    options.finish()?;
    Ok(Some(StreamOptions { includes_usage }))
}
