//! What is the same for all requests: a name, a key, the metrics, and a line in the access log, in which nothing of what was asked
//! or answered stands.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use hyper::body::{Frame, SizeHint};

use crate::app::App;
use crate::random::fresh_name;

/// The header that names a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of a name that a client gives.
const LONGEST_ID: usize = 128;

/// The status in the log of a request whose client has gone before it was answered, by nginx's custom.
const CLIENT_GONE: u16 = 499;

/// What is known of a request under way.
#[derive(Debug, Default)]
pub(crate) struct Record {
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
}

impl Record {
    pub(crate) fn prompt(&self, tokens: u64) {
        self.prompt_tokens.store(tokens, Ordering::Relaxed);
    }

    pub(crate) fn completed(&self, tokens: u64) {
        self.completion_tokens.fetch_add(tokens, Ordering::Relaxed);
    }
}

/// Sees a request through, from its head to the end of its answer.
pub(super) async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = id_of(request.headers());
    let record = Arc::new(Record::default());
    let mut watch = Watch::new(Arc::clone(&app), &request, id.clone(), Arc::clone(&record));
    let mut response = if request.uri().path().starts_with("/v1/")
        && let Err(error) = app.keys.check(request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes))
    {
        error.into_response()
    } else {
        request.extensions_mut().insert(record);
        next.run(request).await
    };
    watch.status = response.status().as_u16();
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response.map(|body| Body::new(Watched { body, _watch: watch }))
}

/// The name that a client gives its request, or a new one.
fn id_of(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_fine = |id: &&str| {
        (1..=LONGEST_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte))
    };
    given.filter(is_fine).map_or_else(fresh_name, str::to_owned)
}

/// The path of a request, where it is one of ours: a client may send any.
fn label_of(path: &str) -> &'static str {
    const PATHS: [&str; 6] =
        ["/v1/completions", "/v1/chat/completions", "/v1/models", "/healthz", "/readyz", "/metrics"];
    PATHS.into_iter().find(|known| *known == path).unwrap_or("other")
}

/// Counts and logs a request when it is dropped, with its answer.
struct Watch {
    app: Arc<App>,
    record: Arc<Record>,
    began: Instant,
    id: String,
    method: http::Method,
    path: String,
    trace: Option<String>,
    status: u16,
}

impl Watch {
    fn new(app: Arc<App>, request: &Request, id: String, record: Arc<Record>) -> Self {
        app.metrics.in_flight(1);
        let path = request.uri().path().chars().take(200).collect();
        let trace = request.headers().get("traceparent").and_then(|header| trace_of(header.to_str().ok()?));
        Self {
            app,
            record,
            began: Instant::now(),
            id,
            method: request.method().clone(),
            path,
            trace,
            status: CLIENT_GONE,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let label = label_of(&self.path);
        self.app.metrics.in_flight(-1);
        self.app.metrics.answered(self.method.as_str(), label, self.status);
        let tokens = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // Probes come every few seconds, and nobody looks for them.
        if !matches!(label, "/healthz" | "/readyz" | "/metrics") {
            tracing::info!(
                target: "palimpsest_serve::access",
                method = %self.method,
                path = %self.path,
                status = self.status,
                prompt_tokens = tokens(&self.record.prompt_tokens),
                completion_tokens = tokens(&self.record.completion_tokens),
                seconds = self.began.elapsed().as_secs_f64(),
                id = %self.id,
                trace = self.trace.as_deref(),
                "request"
            );
        }
    }
}

/// The trace that a request is part of (<https://www.w3.org/TR/trace-context/>).
fn trace_of(traceparent: &str) -> Option<String> {
    let mut parts = traceparent.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let is_valid = version.len() == 2 && trace.len() == 32 && is_hex(trace) && trace.bytes().any(|byte| byte != b'0');
    is_valid.then(|| trace.to_owned())
}

/// A body that is watched to its end.
struct Watched {
    body: Body,
    _watch: Watch,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
