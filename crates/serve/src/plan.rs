//! What a request asks of the engine: an order for each of its choices.

use std::sync::Arc;

use palimpsest_proto::inference::generate_request::Prompt as WirePrompt;
use palimpsest_proto::inference::{GenerateRequest, Sampling, TokenIds};

use crate::app::{App, READ_ON_THE_SPOT};
use crate::generation::{Order, check_length, detokenizer_after, ends_of};
use crate::link::Connected;
use crate::openai::{Api, ApiError, ChatRequest, CompletionRequest, Prompt, Settings, Shape, StreamOptions};
use crate::random::{fresh_name, fresh_number};
use crate::served::seconds_since_1970;
use crate::status::Names;
use crate::teller::Echo;
use crate::text::{Detokenizer, TokenTexts};

/// What a request asks of the engine, and how it is answered.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) stream: Option<StreamOptions>,
    pub(crate) choices: Vec<(Order, Option<Echo>)>,
    /// Tokens of all prompts.
    pub(crate) prompt_tokens: u64,
    /// Calls tokens by their names, where log-probabilities are told.
    pub(crate) names: Option<Arc<TokenTexts>>,
}

/// What is told of log-probabilities.
#[derive(Clone, Copy)]
struct Logprobs {
    likeliest: Option<u32>,
    of_prompt: bool,
}

impl Plan {
    /// For completions.
    pub(crate) async fn of_completion(app: &Arc<App>, request: CompletionRequest) -> Result<Self, ApiError> {
        let settings = request.settings;
        let engine = begin(app, &settings, request.prompts.len())?;
        let context = engine.facts.context;
        let logprobs = Logprobs {
            likeliest: request.logprobs,
            // Without a token to give there is nothing else to ask an engine for.
            of_prompt: request.echo && (request.logprobs.is_some() || request.max_tokens == 0),
        };
        let mut choices = Vec::new();
        let mut prompt_tokens = 0;
        for prompt in request.prompts {
            let (ids, text) = match prompt {
                Prompt::Ids(ids) => (ids, None),
                Prompt::Text(text) => {
                    let kept = request.echo.then(|| text.clone());
                    let ids = app.encode(text, request.begins_with_bos, request.names_tokens, "prompt");
                    (ids.await?, kept)
                }
            };
            check_length(ids.len(), request.max_tokens, context, "prompt")?;
            prompt_tokens += ids.len() as u64;
            let echo = request.echo.then(|| Echo {
                text: text.unwrap_or_else(|| app.model.tokenizer.decode(&ids)),
                detokenizer: Detokenizer::after(app.tokenizer(), &[]),
            });
            let orders = orders(app, &engine, &settings, ids, request.max_tokens, logprobs);
            choices.extend(orders.into_iter().map(|order| (order, echo.clone())));
        }
        Ok(Self::new(app, Api::Completion, settings, choices, prompt_tokens, logprobs))
    }

    /// For chat completions.
    pub(crate) async fn of_chat(app: &Arc<App>, request: ChatRequest) -> Result<Self, ApiError> {
        let settings = request.settings;
        let engine = begin(app, &settings, 1)?;
        let context = engine.facts.context;
        let model = Arc::clone(&app.model);
        let (messages, begins, more) = (request.messages, request.adds_generation_prompt, request.template_arguments);
        let rendered = app.work(request.bytes > READ_ON_THE_SPOT, move || model.render(messages, begins, &more)).await;
        let text = rendered.ok_or_else(|| ApiError::internal("the chat template cannot be rendered"))??;
        // The template writes BOS where there is to be one.
        let ids = app.encode(text, false, true, "messages").await?;
        let left = context.saturating_sub(u32::try_from(ids.len()).unwrap_or(u32::MAX)).max(1);
        let max_tokens = request.max_tokens.unwrap_or(left);
        check_length(ids.len(), max_tokens, context, "messages")?;
        let logprobs = Logprobs { likeliest: request.logprobs, of_prompt: false };
        let prompt_tokens = ids.len() as u64;
        let choices = orders(app, &engine, &settings, ids, max_tokens, logprobs);
        let choices = choices.into_iter().map(|order| (order, None)).collect();
        Ok(Self::new(app, Api::Chat, settings, choices, prompt_tokens, logprobs))
    }

    fn new(
        app: &Arc<App>,
        api: Api,
        settings: Settings,
        choices: Vec<(Order, Option<Echo>)>,
        prompt_tokens: u64,
        logprobs: Logprobs,
    ) -> Self {
        let prefix = match api {
            Api::Completion => "cmpl",
            Api::Chat => "chatcmpl",
        };
        let shape = Shape {
            api,
            id: format!("{prefix}-{}", fresh_name()),
            created: seconds_since_1970(),
            model: app.model.name.clone(),
            tells_logprobs: logprobs.likeliest.is_some(),
            includes_usage: settings.stream.is_some_and(|stream| stream.includes_usage),
        };
        let names = || {
            let special = Arc::clone(&app.model.special);
            Arc::new(TokenTexts::new(app.tokenizer(), special, settings.calls_tokens_by_id))
        };
        let names = shape.tells_logprobs.then(names);
        Self { shape, stream: settings.stream, choices, prompt_tokens, names }
    }
}

/// Checks what needs no ids, and gives the engine that is asked.
fn begin(app: &App, settings: &Settings, prompts: usize) -> Result<Arc<Connected>, ApiError> {
    if let Some(model) = settings.model.as_ref().filter(|model| **model != app.model.name) {
        return Err(unknown_model(app, model));
    }
    let (choices, most) = (prompts.saturating_mul(settings.n), app.limits.choices);
    let param = if settings.n > 1 { "n" } else { "prompt" };
    if choices > most {
        let message = format!("{param} asks for {choices} choices in all, and a request may have {most}");
        return Err(ApiError::field(param, message));
    }
    let engine = app.connected()?;
    let waiting = engine.facts.most_waiting;
    if choices > waiting as usize {
        let message =
            format!("{param} asks for {choices} choices in all, and {waiting} may wait at once; ask for fewer");
        return Err(ApiError::field(param, message));
    }
    Ok(engine)
}

/// Another model is asked for than the one that is served.
pub(crate) fn unknown_model(app: &App, model: &str) -> ApiError {
    let short: String = model.chars().take(100).collect();
    let message = format!("the model {short} does not exist; {} does", app.model.name);
    let mut error = ApiError::refused(http::StatusCode::NOT_FOUND, "model_not_found", message);
    error.param = Some("model".to_owned());
    error
}

/// An order for each choice of a prompt.
fn orders(
    app: &Arc<App>,
    engine: &Connected,
    settings: &Settings,
    ids: Vec<u32>,
    max_tokens: u32,
    logprobs: Logprobs,
) -> Vec<Order> {
    let detokenizer = detokenizer_after(app, &ids);
    let prompt_tokens = ids.len();
    let request = GenerateRequest {
        prompt: Some(WirePrompt::Ids(TokenIds { ids })),
        max_tokens,
        stop_ids: settings.stop_ids.clone(),
        stop: Vec::new(),
        ignore_ends: settings.ignores_ends,
        logprobs: logprobs.likeliest,
        prompt_logprobs: logprobs.of_prompt,
        format: settings.format.as_ref().map(|asked| asked.format.clone()),
        priority: settings.priority,
        sampling: None,
    };
    let ends = ends_of(&request, &engine.facts.end_ids);
    let order = |number: usize| {
        // Several choices with one seed are to differ, and to be the same the next time.
        let seed = settings.sampling.seed.map_or_else(fresh_number, |seed| seed.wrapping_add(number as u64));
        let sampling = Sampling { seed: Some(seed), ..settings.sampling.clone() };
        Order {
            request: GenerateRequest { sampling: Some(sampling), ..request.clone() },
            prompt_tokens,
            stop: settings.stop.clone(),
            ends: ends.clone(),
            names: Names::OpenAi { format: settings.format.as_ref().map_or("format", |asked| asked.field) },
            detokenizer: detokenizer.clone(),
        }
    };
    (0..settings.n).map(order).collect()
}
