//! Refusals in the shape of OpenAI's.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::status::naming;

/// Why a request is not answered as it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// The class of the error, which clients go by.
    kind: &'static str,
    pub(crate) code: Option<&'static str>,
    /// The field that is wrong.
    pub(crate) param: Option<String>,
    pub(crate) message: String,
    retry_after: Option<Duration>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, kind, code, param: None, message: message.into(), retry_after: None }
    }

    /// A field is wrong.
    pub(crate) fn field(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(name.into()), ..Self::request(message) }
    }

    /// The request is wrong as a whole.
    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message)
    }

    /// A field that we do not know, or know and do not support.
    pub(crate) fn unsupported(name: impl Into<String>) -> Self {
        let name = name.into();
        let message = format!("{name} is not supported; leave it out");
        Self { code: Some("unsupported_parameter"), ..Self::field(name, message) }
    }

    /// More tokens than the context holds.
    pub(crate) fn too_long(param: &str, message: impl Into<String>) -> Self {
        Self { code: Some("context_length_exceeded"), ..Self::field(param, message) }
    }

    /// Another status of a wrong request.
    pub(crate) fn refused(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", Some(code), message)
    }

    /// No valid key was shown.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::refused(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    /// As many requests wait as may.
    pub(crate) fn full(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("queue_full"), message);
        Self { retry_after: Some(Duration::from_secs(1)), ..error }
    }

    /// Not now; what `code` says is the reason.
    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", Some(code), message);
        Self { retry_after: Some(Duration::from_secs(2)), ..error }
    }

    /// Nobody's fault but ours.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, message)
    }

    /// As an object with the one field `error`.
    pub(crate) fn body(&self) -> Value {
        json!({
            "error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        })
    }

    /// The same in gRPC's words.
    pub(crate) fn to_status(&self) -> Status {
        naming(Status::new(self.grpc_code(), self.message.clone()), self.param.as_deref())
    }

    fn grpc_code(&self) -> Code {
        match self.status {
            StatusCode::BAD_REQUEST => Code::InvalidArgument,
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            _ => Code::Internal,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.body());
        let headers = response.headers_mut();
        if let Some(time) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(time.as_secs()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An answer of JSON.
pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
