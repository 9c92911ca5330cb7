//! `/healthz`, `/readyz` and `/metrics` over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::jobs::Jobs;
use crate::metrics::Metrics;

/// Serves them until the process ends. A replica that does not lead is as ready as it can be.
pub(crate) async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    jobs: Arc<Jobs>,
    is_ready: watch::Receiver<bool>,
) -> Result<()> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}; choose another --http-address"))?;
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness(*is_ready.borrow())))
        .route("/metrics", get(move || std::future::ready(figures(&metrics, &jobs))));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "health and metrics are served no more");
        }
    });
    Ok(())
}

fn readiness(is_ready: bool) -> (StatusCode, &'static str) {
    if is_ready { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "starting\n") }
}

fn figures(metrics: &Metrics, jobs: &Jobs) -> Response {
    match metrics.encode(&jobs.by_state()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
