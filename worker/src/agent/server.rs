//! `GET /metrics`, `/healthz` and `/readyz` over HTTP.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::health::Health;
use super::metrics::Metrics;

/// Serves the figures, and how the agent is, as long as it lives. All is answered by the thread that does the agent's work:
/// an answer at all means that it turns.
pub(super) async fn serve(metrics: Metrics, health: Health, address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot serve /metrics on {address}; choose another port"))?;
    let router = Router::new()
        .route("/metrics", get(move || respond(metrics.clone())))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(move || ready(health.clone())));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics are served no more");
        }
    });
    Ok(())
}

async fn ready(health: Health) -> (StatusCode, &'static str) {
    if health.is_ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no coordinator has answered yet, and no rank trains\n")
    }
}

async fn respond(metrics: Metrics) -> impl IntoResponse {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
