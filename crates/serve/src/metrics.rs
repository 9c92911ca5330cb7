//! What Prometheus reads of a server and its engine. docs/serving.md lists it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use palimpsest_proto::inference::StatsReply;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::error::Result;

/// Methods that have figures of their own. A client may send any other word.
const METHODS: [&str; 4] = ["GET", "POST", "HEAD", "OPTIONS"];

/// The figures of a server and its engine. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    ready: IntGauge,
    running: IntGauge,
    waiting: IntGauge,
    cache_usage: Gauge,
    cache_tokens: IntGauge,
    engine: EngineCounters,
    accepted_prompt_tokens: Histogram,
    generation_tokens: Histogram,
    first_token: Histogram,
    inter_token: Histogram,
    queue: Histogram,
    end_to_end: Histogram,
    finished: IntCounterVec,
    http_requests: IntCounterVec,
    http_in_flight: IntGauge,
}

/// What an engine counts. It begins anew with each process; these go on.
#[derive(Clone, Debug)]
struct EngineCounters {
    /// What was taken in of each process, by its instance. There are few, as each has loaded a model.
    known: Arc<Mutex<HashMap<u64, StatsReply>>>,
    restarts: IntCounter,
    prefix_queries: IntCounter,
    prefix_hits: IntCounter,
    prompt_tokens: IntCounter,
    generated_tokens: IntCounter,
    preemptions: IntCounter,
    steps: IntCounter,
    step_seconds: prometheus::Counter,
    model_seconds: prometheus::Counter,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Stop,
    Length,
    /// Its client has gone.
    Abort,
    Error,
}

impl Ended {
    fn label(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
            Self::Error => "error",
        }
    }
}

impl Metrics {
    /// Registers them all. All have the label `model`.
    pub(crate) fn new(model: &str) -> Result<Self> {
        let labels = HashMap::from([("model".to_owned(), model.to_owned())]);
        let registry = Registry::new_custom(None, Some(labels))?;
        let names = Names(&registry);
        let tokens = prometheus::exponential_buckets(1.0, 2.0, 18)?;
        let seconds = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0];
        let short = [0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 10.0];
        let metrics = Self {
            ready: names.gauge("ready", "Whether the server takes requests")?,
            running: names.gauge("requests_running", "Requests that the engine computes")?,
            waiting: names.gauge("requests_waiting", "Requests that wait for the engine")?,
            cache_usage: names.register(Gauge::new(name_of("cache_usage_ratio"), "The share of the cache in use")?)?,
            cache_tokens: names.gauge("cache_tokens", "Tokens that the cache holds")?,
            engine: EngineCounters::new(&names)?,
            accepted_prompt_tokens: names.histogram("request_prompt_tokens", "Tokens of prompts", &tokens)?,
            generation_tokens: names.histogram("request_generation_tokens", "Tokens given to requests", &tokens)?,
            first_token: names.histogram(
                "time_to_first_token_seconds",
                "From a request to its first token",
                &seconds,
            )?,
            inter_token: names.histogram("inter_token_latency_seconds", "From a token to the next", &short)?,
            queue: names.histogram("queue_time_seconds", "From a request to its first step", &seconds)?,
            end_to_end: names.histogram("request_latency_seconds", "From a request to its end", &seconds)?,
            finished: names.register(IntCounterVec::new(
                Opts::new(name_of("requests_finished_total"), "Choices that have ended"),
                &["reason"],
            )?)?,
            http_requests: names.register(IntCounterVec::new(
                Opts::new(name_of("http_requests_total"), "HTTP requests answered"),
                &["method", "path", "code"],
            )?)?,
            http_in_flight: names.gauge("http_requests_in_flight", "HTTP requests being answered")?,
            registry,
        };
        for ended in [Ended::Stop, Ended::Length, Ended::Abort, Ended::Error] {
            metrics.finished.with_label_values(&[ended.label()]);
        }
        Ok(metrics)
    }

    /// A choice is accepted; it is measured until the value is dropped.
    pub(crate) fn begin(&self, prompt_tokens: usize, began: Instant) -> Measured {
        self.accepted_prompt_tokens.observe(prompt_tokens as f64);
        Measured { metrics: self.clone(), began, newest: None, tokens: 0, ended: Ended::Abort }
    }

    /// A request over HTTP was answered. The path is one of ours, or `other`.
    pub(crate) fn answered(&self, method: &str, path: &'static str, code: u16) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        self.http_requests.with_label_values(&[method, path, &code.to_string()]).inc();
    }

    /// An HTTP request came, or was answered wholly.
    pub(crate) fn in_flight(&self, requests: i64) {
        self.http_in_flight.add(requests);
    }

    /// Whether requests are taken, what the engine does, nothing where there is none, and how often its process was started anew.
    pub(crate) fn observe(&self, is_ready: bool, stats: Option<&StatsReply>, restarts: u64) {
        self.ready.set(is_ready.into());
        let idle = StatsReply::default();
        let now = stats.unwrap_or(&idle);
        self.running.set(now.running.into());
        self.waiting.set(now.waiting.into());
        let capacity = now.cache_tokens.max(1) as f64;
        self.cache_usage.set(now.cache_tokens_used as f64 / capacity);
        self.cache_tokens.set(i64::try_from(now.cache_tokens).unwrap_or(i64::MAX));
        self.engine.observe(stats, restarts);
    }

    /// The figures as Prometheus reads them.
    pub(crate) fn text(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl EngineCounters {
    fn new(names: &Names<'_>) -> prometheus::Result<Self> {
        let seconds = |name: &str, help: &str| names.register(prometheus::Counter::new(name_of(name), help)?);
        Ok(Self {
            known: Arc::default(),
            restarts: names.counter("engine_restarts_total", "Engine processes started after the first")?,
            prefix_queries: names.counter("prefix_cache_queries_total", "Prompt tokens looked for in the cache")?,
            prefix_hits: names.counter("prefix_cache_hits_total", "Prompt tokens found in the cache")?,
            prompt_tokens: names.counter("prompt_tokens_total", "Prompt tokens computed")?,
            generated_tokens: names.counter("generation_tokens_total", "Tokens given")?,
            preemptions: names.counter("preemptions_total", "Requests put back to make room")?,
            steps: names.counter("engine_steps_total", "Steps of the engine")?,
            step_seconds: seconds("engine_step_seconds_total", "Time in steps")?,
            model_seconds: seconds("engine_model_seconds_total", "Time in the model, a part of the steps'")?,
        })
    }

    /// Adds what is new. Two may ask at once, and what one of them was told may be older than what the other has brought.
    fn observe(&self, stats: Option<&StatsReply>, restarts: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        count(&self.restarts, &mut self.restarts.get(), restarts);
        let Some(now) = stats else { return };
        let before = known.entry(now.instance).or_default();
        count(&self.prefix_queries, &mut before.prefix_queries, now.prefix_queries);
        count(&self.prefix_hits, &mut before.prefix_hits, now.prefix_hits);
        count(&self.prompt_tokens, &mut before.prompt_tokens, now.prompt_tokens);
        count(&self.generated_tokens, &mut before.generated_tokens, now.generated_tokens);
        count(&self.preemptions, &mut before.preemptions, now.preemptions);
        count(&self.steps, &mut before.steps, now.steps);
        measure(&self.step_seconds, &mut before.step_seconds, now.step_seconds);
        measure(&self.model_seconds, &mut before.model_seconds, now.model_seconds);
    }
}

fn count(counter: &IntCounter, before: &mut u64, now: u64) {
    counter.inc_by(now.saturating_sub(*before));
    *before = now.max(*before);
}

fn measure(counter: &prometheus::Counter, before: &mut f64, now: f64) {
    counter.inc_by((now - *before).max(0.0));
    *before = now.max(*before);
}

/// A choice under way.
#[derive(Debug)]
pub(crate) struct Measured {
    metrics: Metrics,
    began: Instant,
    newest: Option<Instant>,
    tokens: u64,
    ended: Ended,
}

impl Measured {
    /// The engine has begun to compute it.
    pub(crate) fn started(&self) {
        self.metrics.queue.observe(self.began.elapsed().as_secs_f64());
    }

    /// A token has come.
    pub(crate) fn token(&mut self) {
        let now = Instant::now();
        let observe = |histogram: &Histogram, since: Instant| {
            histogram.observe(now.saturating_duration_since(since).as_secs_f64());
        };
        match self.newest {
            Some(newest) => observe(&self.metrics.inter_token, newest),
            None => observe(&self.metrics.first_token, self.began),
        }
        self.newest = Some(now);
        self.tokens += 1;
    }

    /// It has ended, and not because its client went.
    pub(crate) fn end(&mut self, ended: Ended) {
        self.ended = ended;
    }

    /// Tokens that have come.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.metrics.finished.with_label_values(&[self.ended.label()]).inc();
        self.metrics.generation_tokens.observe(self.tokens as f64);
        self.metrics.end_to_end.observe(self.began.elapsed().as_secs_f64());
    }
}

fn name_of(figure: &str) -> String {
    format!("palimpsest_inference_{figure}")
}

/// Makes figures and has them gathered.
struct Names<'a>(&'a Registry);

impl Names<'_> {
    fn register<C: Collector + Clone + 'static>(&self, figure: C) -> prometheus::Result<C> {
        self.0.register(Box::new(figure.clone()))?;
        Ok(figure)
    }

    fn gauge(&self, figure: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name_of(figure), help)?)
    }

    fn counter(&self, figure: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(name_of(figure), help)?)
    }

    fn histogram(&self, figure: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(name_of(figure), help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_has_counted_is_added_once_in_whatever_order_it_is_told() {
        let metrics = Metrics::new("m").unwrap();
        let told = |instance: u64, steps: u64, restarts: u64| {
            let stats = StatsReply { instance, steps, step_seconds: steps as f64, ..StatsReply::default() };
            metrics.observe(true, Some(&stats), restarts);
            (metrics.engine.steps.get(), metrics.engine.step_seconds.get(), metrics.engine.restarts.get())
        };
        assert_eq!(told(7, 100, 0), (100, 100.0, 0));
        assert_eq!(told(7, 105, 0), (105, 105.0, 0));
        // Asked before, and answered after.
        assert_eq!(told(7, 100, 0), (105, 105.0, 0));
        // Another process that has counted more since than the one before, and a late word of that.
        assert_eq!(told(8, 200, 3), (305, 305.0, 3));
        assert_eq!(told(7, 106, 2), (306, 306.0, 3));
        assert_eq!(told(8, 201, 3), (307, 307.0, 3));
    }
}
