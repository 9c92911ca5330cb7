//! Reads a request's body within bounds of size and time.

use axum::extract::Request;
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::config::ServerLimits;
use crate::openai::ApiError;

/// The body of a request; an error where it is too large or too slow.
pub(super) async fn read(request: Request, limits: &ServerLimits) -> Result<Bytes, ApiError> {
    let most = limits.body_bytes;
    let too_large = || {
        let message = format!("the body has more than {most} bytes");
        ApiError::refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    // Told before any of it is read.
    if length.is_some_and(|length: u64| length > most as u64) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(limits.body_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::request(format!("the body cannot be read: {error}"))),
        Err(_) => {
            let message = "the body has not come in time";
            Err(ApiError::refused(StatusCode::REQUEST_TIMEOUT, "request_timeout", message))
        }
    }
}
