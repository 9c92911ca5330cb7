//! The public gRPC service: the engine's own, with text, keys and texts that end an output.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt as _, stream};
use palimpsest_proto::inference::generate_reply::Event;
use palimpsest_proto::inference::generate_request::Prompt;
use palimpsest_proto::inference::inference_server::Inference;
use palimpsest_proto::inference::{
    Accepted, Finished, GenerateReply, GenerateRequest, PromptTokens, StatsReply, StatsRequest, Token, TokenIds,
};
use tokio::sync::OwnedSemaphorePermit;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, async_trait};

use crate::app::App;
use crate::generation::{Generation, Order, Piece, check_length, ends_of};
use crate::openai::{ApiError, BIASES, STOP_BYTES, STOP_TOKENS, STOPS, check_bytes};
use crate::status::Names;
use crate::text::Detokenizer;

/// The public gRPC service.
#[derive(Debug)]
pub(crate) struct Public {
    app: Arc<App>,
}

impl Public {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    fn check_key(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let shown = metadata.get("authorization").map(|value| value.as_encoded_bytes());
        self.app.keys.check(shown).map_err(|error| error.to_status())
    }

    async fn order(&self, mut request: GenerateRequest) -> Result<Order, ApiError> {
        check_bounds(&request)?;
        let engine = self.app.connected()?;
        let context = engine.facts.context;
        let ids = match request.prompt.take() {
            Some(Prompt::Ids(ids)) => ids.ids,
            Some(Prompt::Text(text)) => self.app.encode(text, true, false, "prompt").await?,
            None => return Err(ApiError::field("prompt", "prompt is missing; give ids or text")),
        };
        check_length(ids.len(), request.max_tokens, context, "prompt")?;
        let stop = std::mem::take(&mut request.stop);
        let before: &[u32] = if request.prompt_logprobs { &[] } else { &ids };
        let detokenizer = Detokenizer::after(self.app.tokenizer(), before);
        let prompt_tokens = ids.len();
        request.prompt = Some(Prompt::Ids(TokenIds { ids }));
        let ends = ends_of(&request, &engine.facts.end_ids);
        Ok(Order { request, prompt_tokens, stop, ends, names: Names::Wire, detokenizer })
    }
}

/// Says which field holds more than it may, as over HTTP.
fn check_bounds(request: &GenerateRequest) -> Result<(), ApiError> {
    if request.stop.len() > STOPS || request.stop.iter().any(|text| !(1..=STOP_BYTES).contains(&text.len())) {
        let message = format!("stop has to be at most {STOPS} texts of 1 to {STOP_BYTES} bytes");
        return Err(ApiError::field("stop", message));
    }
    let biases = request.sampling.as_ref().map_or(0, |sampling| sampling.logit_bias.len());
    for (field, count, most) in [("stop_ids", request.stop_ids.len(), STOP_TOKENS), ("logit_bias", biases, BIASES)] {
        if count > most {
            return Err(ApiError::field(field, format!("{field} has {count} entries; give {most} at most")));
        }
    }
    request.format.as_ref().map_or(Ok(()), |format| check_bytes(format, "format"))
}

type Replies = Pin<Box<dyn Stream<Item = Result<GenerateReply, Status>> + Send>>;

#[async_trait]
impl Inference for Public {
    type GenerateStream = Replies;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Replies>, Status> {
        let began = Instant::now();
        self.check_key(request.metadata())?;
        let slot = self.app.slot().map_err(|error| error.to_status())?;
        let generation = async {
            let order = self.order(request.into_inner()).await?;
            let prompt_tokens = u32::try_from(order.prompt_tokens).unwrap_or(u32::MAX);
            Ok::<_, ApiError>((Generation::start(&self.app, order, began).await?, prompt_tokens))
        };
        let (generation, prompt_tokens) = generation.await.map_err(|error| error.to_status())?;
        let accepted = reply(Event::Accepted(Accepted { prompt_tokens }));
        let replies = stream::iter([Ok(accepted)]).chain(replies(generation, slot));
        Ok(Response::new(replies.boxed()))
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Result<Response<StatsReply>, Status> {
        self.check_key(request.metadata())?;
        let engine = self.app.connected().map_err(|error| error.to_status())?;
        Ok(Response::new(engine.stats().await?))
    }
}

/// What the engine gives, with its text.
fn replies(
    generation: Generation,
    slot: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<GenerateReply, Status>> + Send {
    let pieces = stream::unfold((generation, slot), async |(mut generation, slot)| {
        let piece = generation.next().await.map_err(|error| error.to_status()).transpose()?;
        Some((piece, (generation, slot)))
    });
    pieces.flat_map(|piece| {
        stream::iter(match piece {
            Ok(piece) => events(piece).into_iter().map(|event| Ok(reply(event))).collect(),
            Err(status) => vec![Err(status)],
        })
    })
}

/// What is new, as events: the prompt's tokens, a token, an end.
fn events(piece: Piece) -> Vec<Event> {
    let mut events = Vec::with_capacity(2);
    if !piece.prompt.is_empty() {
        events.push(Event::PromptTokens(PromptTokens { tokens: piece.prompt }));
    }
    let mut text = piece.text;
    if let Some(token) = piece.token {
        events.push(Event::Token(Token { text: std::mem::take(&mut text), ..token }));
    }
    if let Some(end) = piece.end {
        events.push(Event::Finished(Finished {
            reason: end.reason.into(),
            tokens: u32::try_from(end.tokens).unwrap_or(u32::MAX),
            cached_prompt_tokens: u32::try_from(end.cached).unwrap_or(u32::MAX),
            text,
        }));
    }
    events
}

fn reply(event: Event) -> GenerateReply {
    GenerateReply { event: Some(event) }
}
