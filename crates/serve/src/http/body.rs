//! Reads a request's body within bounds of size, time and memory.

use axum::extract::Request;
use http::{StatusCode, header};
use http_body_util::BodyExt as _;

use crate::app::App;
use crate::bodies::Share;
use crate::openai::ApiError;

/// The body of a request, and its share of the memory of all; an error where it is too large or too slow, or where there is no memory.
pub(super) async fn read(request: Request, app: &App) -> Result<(Vec<u8>, Share), ApiError> {
    let most = app.limits.body_bytes;
    let too_large = || {
        let message = format!("the body has more than {most} bytes");
        ApiError::refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    // Told before any of it is read.
    if length.is_some_and(|length: u64| length > most as u64) {
        return Err(too_large());
    }
    let mut body = request.into_body();
    let read = async {
        let (mut bytes, mut share) = (Vec::new(), app.bodies.share());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ApiError::request(format!("the body cannot be read: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > most {
                return Err(too_large());
            }
            share.take(data.len())?;
            bytes.extend_from_slice(&data);
        }
        Ok((bytes, share))
    };
    tokio::time::timeout(app.limits.body_timeout, read).await.unwrap_or_else(|_| {
        let message = "the body has not come in time";
        Err(ApiError::refused(StatusCode::REQUEST_TIMEOUT, "request_timeout", message))
    })
}
