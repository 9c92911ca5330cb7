//! One choice under way: what the engine gives becomes text, until a text or the engine ends it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use palimpsest_proto::inference::finished::Reason;
use palimpsest_proto::inference::generate_reply::Event;
use palimpsest_proto::inference::{GenerateReply, GenerateRequest, Token};
use tokio::sync::watch;
use tonic::{Status, Streaming};

use crate::app::{App, draining, restarting};
use crate::metrics::{Ended, Measured};
use crate::openai::ApiError;
use crate::phase::{Phase, reached};
use crate::status::{Names, told_by_engine};
use crate::text::{Detokenizer, StopMatcher};

/// What one choice asks for.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// What the engine is asked for.
    pub(crate) request: GenerateRequest,
    /// Tokens of its prompt.
    pub(crate) prompt_tokens: usize,
    /// Texts that end it.
    pub(crate) stop: Vec<String>,
    /// Tokens that end it.
    pub(crate) ends: Vec<u32>,
    /// How it calls its fields, where the engine refuses one.
    pub(crate) names: Names,
    /// Decodes what comes, after the prompt.
    pub(crate) detokenizer: Detokenizer,
}

/// What is new of a choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Piece {
    /// Of the prompt, where its log-probabilities are asked for; before all else.
    pub(crate) prompt: Vec<Token>,
    /// The next token, if one came.
    pub(crate) token: Option<Token>,
    /// What it adds to what was given, which may be held back for a while.
    pub(crate) decoded: String,
    /// What may be told now.
    pub(crate) text: String,
    /// Nothing more comes, for this reason.
    pub(crate) end: Option<End>,
}

/// How a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) reason: Reason,
    /// Tokens given.
    pub(crate) tokens: u64,
    /// Tokens of the prompt that were in the cache.
    pub(crate) cached: u64,
}

/// One choice under way. Dropped, it is cancelled.
#[derive(Debug)]
pub(crate) struct Generation {
    events: Streaming<GenerateReply>,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    measured: Measured,
    phase: watch::Receiver<Phase>,
    queue_timeout: Option<Duration>,
    began: Instant,
    /// Tokens that end it, and are no part of its text.
    ends: Vec<u32>,
    /// Tokens of the prompt that were in the cache, once the engine has begun.
    cached: Option<u64>,
    names: Names,
    is_over: bool,
}

impl Generation {
    /// Hands an order to the engine and waits until it is taken.
    pub(crate) async fn start(app: &App, order: Order, began: Instant) -> Result<Self, ApiError> {
        let mut client = app.connected()?.client();
        let mut phase = app.phase.clone();
        let names = order.names;
        let taken = async {
            let refused = |status: Status| told_by_engine(&status, names);
            let mut events = client.generate(order.request).await.map_err(refused)?.into_inner();
            // Always that it is accepted.
            events.message().await.map_err(refused)?.ok_or_else(restarting)?;
            Ok(events)
        };
        let events = tokio::select! {
            events = taken => events?,
            () = reached(&mut phase, Phase::Closing) => return Err(draining()),
            // A format may wait to be read.
            () = queue_end(app.limits.queue_timeout, began) => return Err(waited_too_long()),
        };
        Ok(Self {
            events,
            detokenizer: order.detokenizer,
            stop: StopMatcher::new(order.stop),
            measured: app.metrics.begin(order.prompt_tokens, began),
            phase,
            queue_timeout: app.limits.queue_timeout,
            began,
            ends: order.ends,
            cached: None,
            names,
            is_over: false,
        })
    }

    /// What comes next; nothing after the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, ApiError> {
        while !self.is_over {
            let event = match self.event().await {
                Ok(event) => event,
                Err(error) => {
                    self.is_over = true;
                    self.measured.end(Ended::Error);
                    return Err(error);
                }
            };
            if let Some(piece) = self.take(event) {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    async fn event(&mut self) -> Result<Event, ApiError> {
        let waits = self.queue_timeout.filter(|_| self.cached.is_none());
        let message = tokio::select! {
            // The end first: there may always be something more. Then what is there already.
            biased;
            () = reached(&mut self.phase, Phase::Closing) => return Err(draining()),
            message = self.events.message() => message.map_err(|status| told_by_engine(&status, self.names))?,
            () = queue_end(waits, self.began) => return Err(waited_too_long()),
        };
        // A stream that ends without an end is one of an engine that is gone.
        message.and_then(|reply| reply.event).ok_or_else(restarting)
    }

    fn take(&mut self, event: Event) -> Option<Piece> {
        match event {
            Event::Accepted(_) => None,
            Event::Started(started) => {
                self.cached = Some(started.cached_prompt_tokens.into());
                self.measured.started();
                None
            }
            Event::PromptTokens(prompt) => Some(Piece { prompt: prompt.tokens, ..Piece::default() }),
            Event::Token(token) => {
                self.measured.token();
                let decoded =
                    if self.ends.contains(&token.id) { String::new() } else { self.detokenizer.push(token.id) };
                let released = self.stop.push(decoded.clone());
                let end = released.is_stopped.then(|| self.end(Reason::Stop));
                Some(Piece { prompt: Vec::new(), token: Some(token), decoded, text: released.text, end })
            }
            Event::Finished(finished) => {
                let rest = self.detokenizer.flush();
                let mut released = self.stop.push(rest);
                let mut reason = finished.reason();
                if released.is_stopped {
                    reason = Reason::Stop;
                } else {
                    released.text.push_str(&self.stop.flush());
                }
                let end = self.end(reason);
                Some(Piece { text: released.text, end: Some(end), ..Piece::default() })
            }
        }
    }

    fn end(&mut self, reason: Reason) -> End {
        self.is_over = true;
        self.measured.end(if reason == Reason::Length { Ended::Length } else { Ended::Stop });
        End { reason, tokens: self.measured.tokens(), cached: self.cached.unwrap_or(0) }
    }
}

/// Waits until a request that came at `began` has waited for as long as it may; for ever, where it may.
async fn queue_end(timeout: Option<Duration>, began: Instant) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout.saturating_sub(began.elapsed())).await,
        None => std::future::pending().await,
    }
}

fn waited_too_long() -> ApiError {
    ApiError::unavailable("queue_timeout", "the request has waited for the engine for too long; try again later")
}

/// The tokens that end what a request is given: its own, and the model's, unless those are tokens as any other. A format ends with them even
/// then.
pub(crate) fn ends_of(request: &GenerateRequest, model: &[u32]) -> Vec<u32> {
    let model = if request.ignore_ends && request.format.is_none() { &[] } else { model };
    [&request.stop_ids, model].concat()
}

/// What the API calls a reason.
pub(crate) fn finish_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Length => "length",
        Reason::Stop | Reason::Unspecified => "stop",
    }
}

/// Says which order does not fit the context; `param` is what its prompt comes from.
pub(crate) fn check_length(prompt: usize, new: u32, context: u32, param: &str) -> Result<(), ApiError> {
    let (context, new) = (context as usize, new as usize);
    if prompt == 0 {
        return Err(ApiError::field(param, format!("{param} is empty; give one token at least")));
    }
    if prompt > context || (prompt == context && new > 0) {
        let message = format!(
            "{param} has {prompt} tokens, but the context has {context}, which hold what is given, too; shorten it"
        );
        return Err(ApiError::too_long(param, message));
    }
    if prompt + new > context {
        let message = format!(
            "{param} has {prompt} tokens and max_tokens asks for {new}, but the context has {context}; shorten the prompt or \
             ask for fewer"
        );
        return Err(ApiError::too_long("max_tokens", message));
    }
    Ok(())
}

/// Shares a detokenizer's beginning among the choices of a prompt.
pub(crate) fn detokenizer_after(app: &Arc<App>, prompt: &[u32]) -> Detokenizer {
    Detokenizer::after(app.tokenizer(), prompt)
}
