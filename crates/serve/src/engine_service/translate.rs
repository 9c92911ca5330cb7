//! What requests and refusals are called on the wire, and in the engine.

use palimpsest_infer::{Error, Finish, Format, Logprobs, Request, Sampling, Task};
use palimpsest_proto::inference::finished::Reason;
use palimpsest_proto::inference::format::Kind;
use palimpsest_proto::inference::{self as wire, generate_request::Prompt};
use tonic::{Code, Status};

use crate::random::fresh_number;
use crate::status::{naming, wrong};

/// What an engine is asked for, with the model's own ends.
pub(super) fn task_of(request: wire::GenerateRequest, end_ids: &[u32], vocabulary: usize) -> Result<Task, Status> {
    let prompt = match request.prompt {
        Some(Prompt::Ids(ids)) => ids.ids,
        Some(Prompt::Text(_)) => return Err(wrong("prompt", "prompt: the engine takes ids alone")),
        None => return Err(wrong("prompt", "prompt: give ids")),
    };
    if !request.stop.is_empty() {
        return Err(wrong("stop", "stop: the engine takes stop_ids alone"));
    }
    let mut ends = request.stop_ids;
    if !request.ignore_ends {
        ends.extend_from_slice(end_ids);
    }
    if let Some(id) = ends.iter().find(|id| **id as usize >= vocabulary) {
        let why = format!("stop_ids: the model's vocabulary has {vocabulary} tokens, and no {id}");
        return Err(wrong("stop_ids", why));
    }
    Ok(Task {
        request: Request {
            prompt,
            new_tokens: request.max_tokens as usize,
            priority: request.priority,
            prompt_logprobs: request.prompt_logprobs,
        },
        sampling: sampling_of(request.sampling.unwrap_or_default(), vocabulary)?,
        ends,
        logprobs: request.logprobs.map(|count| count as usize),
        format: request.format.map(format_of).transpose()?,
    })
}

fn format_of(format: wire::Format) -> Result<Format, Status> {
    match format.kind {
        Some(Kind::JsonSchema(schema)) => Ok(Format::JsonSchema(schema)),
        Some(Kind::Regex(regex)) => Ok(Format::Regex(regex)),
        Some(Kind::Lark(grammar)) => Ok(Format::Lark(grammar)),
        None => Err(wrong("format", "format: give a kind")),
    }
}

fn sampling_of(sampling: wire::Sampling, vocabulary: usize) -> Result<Sampling, Status> {
    if let Some(id) = sampling.logit_bias.keys().find(|id| **id as usize >= vocabulary) {
        let why = format!("logit_bias: the model's vocabulary has {vocabulary} tokens, and no {id}");
        return Err(wrong("logit_bias", why));
    }
    let default = Sampling::default();
    Ok(Sampling {
        temperature: sampling.temperature.unwrap_or(default.temperature),
        top_k: sampling.top_k.map_or(default.top_k, |top_k| top_k as usize),
        top_p: sampling.top_p.unwrap_or(default.top_p),
        min_p: sampling.min_p.unwrap_or(default.min_p),
        repetition_penalty: sampling.repetition_penalty.unwrap_or(default.repetition_penalty),
        frequency_penalty: sampling.frequency_penalty.unwrap_or(default.frequency_penalty),
        presence_penalty: sampling.presence_penalty.unwrap_or(default.presence_penalty),
        logit_bias: sampling.logit_bias.into_iter().collect(),
        seed: sampling.seed.unwrap_or_else(fresh_number),
    })
}

/// Why a request is not taken, or ends, as gRPC says it.
pub(super) fn status_of(error: &Error) -> Status {
    naming(Status::new(code(error), error.to_string()), error.field())
}

fn code(error: &Error) -> Code {
    match error {
        Error::Full { .. } | Error::ManyFormats { .. } => Code::ResourceExhausted,
        Error::NoNumbers | Error::UnknownEnd { .. } => Code::Internal,
        // The format cannot be followed any further; the others are told before there is anything to give.
        Error::FormatLost { .. }
        | Error::NoFormats { .. }
        | Error::FormatTooLarge { .. }
        | Error::Format { .. }
        | Error::EmptyPrompt
        | Error::TooLong { .. }
        | Error::UnknownToken { .. }
        | Error::NothingAskedFor
        | Error::Setting { .. } => Code::InvalidArgument,
    }
}

/// A token with its log-probability, and those of the likeliest in its place.
pub(super) fn token_of(logprobs: Logprobs) -> wire::Token {
    let likely = |(id, logprob): (u32, f64)| wire::LikelyToken { id, logprob: logprob as f32 };
    wire::Token {
        id: logprobs.token,
        text: String::new(),
        logprob: Some(logprobs.logprob as f32),
        likeliest: logprobs.likeliest.into_iter().map(likely).collect(),
    }
}

pub(super) fn reason_of(finish: Finish) -> Reason {
    match finish {
        Finish::Stop => Reason::Stop,
        Finish::Length => Reason::Length,
    }
}
