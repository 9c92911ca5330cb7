//! Answers a plan: at once, or as it comes.

use std::sync::Arc;
use std::time::Instant;

use axum::response::{IntoResponse as _, Response};
use futures::future::try_join_all;
use http::{HeaderValue, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::events::events;
use super::observe::Record;
use crate::app::App;
use crate::generation::{End, Generation};
use crate::openai::{ApiError, Choice, Usage, json_response};
use crate::plan::Plan;
use crate::teller::Teller;

/// What a request holds until it is answered: its place, and where it is recorded.
pub(super) struct Held {
    pub(super) record: Arc<Record>,
    pub(super) _slot: OwnedSemaphorePermit,
}

/// Answers a plan. Once the engine has taken all of its orders, nothing but the engine's death or a request's own failure keeps it
/// from being answered: so what is told by a status is told before the first byte of a stream.
pub(super) async fn answer(
    app: &Arc<App>,
    plan: Plan,
    record: Arc<Record>,
    slot: OwnedSemaphorePermit,
    began: Instant,
) -> Result<Response, ApiError> {
    let Plan { shape, stream, choices, prompt_tokens, names } = plan;
    record.prompt(prompt_tokens);
    let start = |(index, (order, echo))| {
        let names = names.clone();
        async move {
            let generation = Generation::start(app, order, began).await?;
            Ok::<_, ApiError>(Teller::new(index, generation, names, echo))
        }
    };
    let tellers = try_join_all(choices.into_iter().enumerate().map(start)).await?;
    let usage = Usage { prompt_tokens, ..Usage::default() };
    let held = Held { record, _slot: slot };
    if stream.is_some() {
        let mut response = events(shape, tellers, usage, held).into_response();
        // nginx would keep events back.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        return Ok(response);
    }
    let told = try_join_all(tellers.into_iter().map(tell_all)).await?;
    let mut usage = usage;
    let mut choices = Vec::with_capacity(told.len());
    for (choice, end) in told {
        usage.add(end.tokens, end.cached);
        held.record.completed(end.tokens);
        choices.push(choice);
    }
    Ok(json_response(StatusCode::OK, &shape.whole(&choices, usage)))
}

async fn tell_all(mut teller: Teller) -> Result<(Choice, End), ApiError> {
    let mut whole = Choice::default();
    while let Some(part) = teller.next().await? {
        whole.index = part.choice.index;
        whole.text.push_str(&part.choice.text);
        whole.tokens.extend(part.choice.tokens);
        whole.finish = part.choice.finish;
        if let Some(end) = part.end {
            return Ok((whole, end));
        }
    }
    Err(crate::app::restarting())
}
