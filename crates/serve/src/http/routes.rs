//! Which path is answered by what.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Request, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::answer::answer;
use super::body::read;
use super::observe::{Record, observe};
use crate::app::{App, READ_ON_THE_SPOT};
use crate::openai::{ApiError, ChatRequest, CompletionRequest, json_response};
use crate::plan::{Plan, unknown_model};

/// Answers everything that comes over HTTP.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/models", get(models))
        // A name may hold slashes.
        .route("/v1/models/{*name}", get(model))
        .route("/v1/completions", post(completions))
        .route("/v1/chat/completions", post(chat_completions))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

async fn completions(
    State(app): State<Arc<App>>,
    Extension(record): Extension<Arc<Record>>,
    request: Request,
) -> Result<Response, ApiError> {
    let plan = async |body| Plan::of_completion(&app, parse(&app, body, CompletionRequest::parse).await?).await;
    complete(&app, record, request, plan).await
}

async fn chat_completions(
    State(app): State<Arc<App>>,
    Extension(record): Extension<Arc<Record>>,
    request: Request,
) -> Result<Response, ApiError> {
    let plan = async |body| Plan::of_chat(&app, parse(&app, body, ChatRequest::parse).await?).await;
    complete(&app, record, request, plan).await
}

/// Answers a body by what `plan` makes of it.
async fn complete(
    app: &Arc<App>,
    record: Arc<Record>,
    request: Request,
    plan: impl AsyncFnOnce(Vec<u8>) -> Result<Plan, ApiError>,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let slot = app.slot()?;
    let (body, share) = read(request, app).await?;
    let plan = plan(body).await?;
    // What the body has held is tokens now.
    drop(share);
    answer(app, plan, record, slot, began).await
}

/// Reads a body, on a thread of its own where it is large.
async fn parse<T: Send + 'static>(
    app: &App,
    body: Vec<u8>,
    parse: impl FnOnce(&[u8]) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let parsed = app.work(body.len() > READ_ON_THE_SPOT, move || parse(&body)).await;
    parsed.ok_or_else(|| ApiError::internal("the body cannot be read"))?
}

async fn models(State(app): State<Arc<App>>) -> Response {
    json_response(StatusCode::OK, &json!({"object": "list", "data": [model_object(&app)]}))
}

async fn model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    if name != app.model.name {
        return Err(unknown_model(&app, &name));
    }
    Ok(json_response(StatusCode::OK, &model_object(&app)))
}

fn model_object(app: &App) -> Value {
    let context = app.connected().ok().map(|engine| engine.facts.context);
    json!({
        "id": app.model.name, "object": "model", "created": app.model.created, "owned_by": "palimpsest",
        "max_model_len": context,
    })
}

async fn readiness(State(app): State<Arc<App>>) -> (StatusCode, String) {
    if app.is_ready() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let why = app.slot().and_then(|_| app.connected().map(|_| ()));
    let why = why.err().map_or_else(|| "the server is shutting down".to_owned(), |error| error.message);
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let stats = match app.connected() {
        Ok(engine) => engine.stats().await.ok(),
        Err(_) => None,
    };
    app.metrics.observe(app.is_ready(), stats.as_ref(), app.engine.restarts());
    match app.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => ApiError::internal(error.to_string()).into_response(),
    }
}

async fn unknown_path(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(100).collect();
    ApiError::refused(StatusCode::NOT_FOUND, "unknown_url", format!("there is nothing at {path}"))
}

async fn wrong_method(request: Request) -> ApiError {
    let message = format!("{} is not how to ask here", request.method());
    ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
