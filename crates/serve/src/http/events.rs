//! Answers as server-sent events: what is new of any choice as it comes, then what it has cost, then `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt as _, stream};
use serde_json::Value;

use super::answer::Held;
use crate::openai::{ApiError, Shape, Usage};
use crate::teller::{Part, Teller};

/// How often something is sent while nothing comes, so that nobody on the way takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What is to be told.
struct Telling {
    shape: Shape,
    /// Told before all else.
    openings: VecDeque<Value>,
    parts: SelectAll<BoxStream<'static, Result<Part, ApiError>>>,
    usage: Usage,
    stage: Stage,
    held: Held,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Parts,
    Done,
    Over,
}

/// The events of an answer.
pub(super) fn events(
    shape: Shape,
    tellers: Vec<Teller>,
    usage: Usage,
    held: Held,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let openings = (0..tellers.len()).filter_map(|index| shape.opening(index)).collect();
    let parts = stream::select_all(tellers.into_iter().map(parts));
    let telling = Telling { shape, openings, parts, usage, stage: Stage::Parts, held };
    let events = stream::unfold(telling, async |mut telling| Some((Ok(telling.next().await?), telling)));
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

fn parts(teller: Teller) -> BoxStream<'static, Result<Part, ApiError>> {
    stream::unfold(teller, async |mut teller| Some((teller.next().await.transpose()?, teller))).boxed()
}

impl Telling {
    async fn next(&mut self) -> Option<Event> {
        if let Some(opening) = self.openings.pop_front() {
            return Some(event(&opening));
        }
        while self.stage == Stage::Parts {
            match self.parts.next().await {
                Some(Ok(part)) => {
                    if let Some(told) = self.tell(part) {
                        return Some(told);
                    }
                }
                Some(Err(error)) => {
                    // The other choices are cancelled: who has read this reads no more.
                    self.parts.clear();
                    self.stage = Stage::Over;
                    return Some(event(&error.body()));
                }
                None => {
                    self.stage = Stage::Done;
                    if self.shape.includes_usage {
                        return Some(event(&self.shape.closing(self.usage)));
                    }
                }
            }
        }
        if self.stage == Stage::Over {
            return None;
        }
        self.stage = Stage::Over;
        Some(Event::default().data("[DONE]"))
    }

    /// Nothing where nothing is new: while a character is not whole, or a text is held back.
    fn tell(&mut self, part: Part) -> Option<Event> {
        self.held.record.completed(part.tokens);
        if let Some(end) = part.end {
            self.usage.add(end.tokens, end.cached);
        }
        let choice = part.choice;
        let is_empty = choice.text.is_empty() && choice.tokens.is_empty() && choice.finish.is_none();
        (!is_empty).then(|| event(&self.shape.part(&choice)))
    }
}

fn event(value: &Value) -> Event {
    Event::default().data(value.to_string())
}
