//! What the engine's statuses say, beside their codes, and what clients are told of them.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::app::restarting;
use crate::openai::ApiError;

/// The metadata that names the field of a request that is wrong.
const FIELD: &str = "field";

/// The same status, which names a field.
pub(crate) fn naming(mut status: Status, field: Option<&str>) -> Status {
    if let Some(field) = field.and_then(|field| MetadataValue::try_from(field).ok()) {
        status.metadata_mut().insert(FIELD, field);
    }
    status
}

/// A field is wrong.
pub(crate) fn wrong(field: &str, message: impl Into<String>) -> Status {
    naming(Status::invalid_argument(message), Some(field))
}

/// How a request calls its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// As the engine does.
    Wire,
    /// As OpenAI does; the format, which has several names, so.
    OpenAi { format: &'static str },
}

impl Names {
    fn of(self, field: &str) -> &str {
        match (self, field) {
            (Self::OpenAi { .. }, "prompt_logprobs") => "echo",
            (Self::OpenAi { .. }, "stop_ids") => "stop_token_ids",
            (Self::OpenAi { format }, "format") => format,
            _ => field,
        }
    }
}

/// Why the engine does not take a request, or does not go on with it.
pub(crate) fn told_by_engine(status: &Status, names: Names) -> ApiError {
    let message = status.message();
    match status.code() {
        _ if is_lost(status) => restarting(),
        Code::Unavailable => restarting(),
        Code::InvalidArgument => match field_of(status) {
            Some(field) => ApiError::field(names.of(field), message),
            None => ApiError::request(message),
        },
        Code::ResourceExhausted => ApiError::full(message),
        Code::Aborted => ApiError::unavailable("slow_reader", message),
        Code::Internal => ApiError::internal(message),
        _ => ApiError::internal(format!("the engine has failed: {message}")),
    }
}

/// Whether a status is not the engine's own, but what the transport makes of its death.
fn is_lost(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// The field that a status names.
fn field_of(status: &Status) -> Option<&str> {
    status.metadata().get(FIELD)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_comes_from_the_metadata_and_not_from_the_sentence() {
        let names = Names::OpenAi { format: "guided_json" };
        let param = |status: &Status| told_by_engine(status, names).param;
        assert_eq!(param(&wrong("format", "whatever it says")).as_deref(), Some("guided_json"));
        assert_eq!(param(&wrong("stop_ids", "whatever it says")).as_deref(), Some("stop_token_ids"));
        assert_eq!(param(&wrong("top_p", "whatever it says")).as_deref(), Some("top_p"));
        assert_eq!(told_by_engine(&wrong("stop_ids", ""), Names::Wire).param.as_deref(), Some("stop_ids"));
        assert_eq!(param(&Status::invalid_argument("temperature is wrong")), None);
    }
}
