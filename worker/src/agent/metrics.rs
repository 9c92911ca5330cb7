//! What Prometheus reads of an agent: the figures of its rank's steps. docs/metrics.md lists them.

use std::collections::HashMap;

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Encoder, Gauge, Histogram, HistogramOpts, IntCounter, Opts, Registry, TextEncoder,
    exponential_buckets,
};

use crate::protocol::{RankEvent, RankProgress};

/// The figures of an agent. Clones share them. Counters begin at 0 with the agent and never go back: a step that is taken
/// again after a restart is counted again.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    registry: Registry,
    step: Gauge,
    loss: Gauge,
    gradient_norm: Gauge,
    learning_rate: Gauge,
    tokens_per_second: Gauge,
    fill: Gauge,
    flops_per_token: Gauge,
    matrix_rate: Gauge,
    mfu: Gauge,
    resident_bytes: Gauge,
    device_bytes: Gauge,
    tokens: IntCounter,
    target_tokens: IntCounter,
    steps: IntCounter,
    clipped_steps: IntCounter,
    spikes: IntCounter,
    restarts: IntCounter,
    checkpoint_stall: Counter,
    step_seconds: Histogram,
    part_seconds: CounterVec,
}

impl Metrics {
    /// All figures, none known yet: gauges are NaN until a step tells them.
    /// All have `labels`.
    pub(super) fn new(labels: HashMap<String, String>) -> prometheus::Result<Self> {
        let registry = Registry::new_custom(None, Some(labels).filter(|labels| !labels.is_empty()))?;
        let names = Names(&registry);
        let buckets = exponential_buckets(0.001, 2.0, 20)?;
        let step_seconds = HistogramOpts::new(name_of("step_seconds"), "Wall time of a step").buckets(buckets);
        let part_seconds = Opts::new(name_of("step_part_seconds_total"), "Wall time of steps by part");
        let metrics = Self {
            step: names.gauge("step", "The newest step over the whole job, from 1")?,
            loss: names.gauge("loss", "The newest step's mean loss of a target token, in nats")?,
            gradient_norm: names.gauge("gradient_norm", "The newest step's gradient norm before clipping")?,
            learning_rate: names.gauge("learning_rate", "The newest step's learning rate")?,
            tokens_per_second: names.gauge("tokens_per_second", "Document tokens a second over the last 20 steps")?,
            fill: names.gauge("fill_ratio", "The share of the newest step's slots that is not padding")?,
            flops_per_token: names.gauge("flops_per_token", "Floating-point operations of a document token")?,
            matrix_rate: names.gauge("matrix_product_flops_per_second", "What the device does in matrix products")?,
            mfu: names.gauge("mfu_ratio", "Model FLOPs utilization against that rate")?,
            resident_bytes: names.gauge("resident_bytes", "Memory of the rank's process")?,
            device_bytes: names
                .gauge("device_bytes", "The most GPU memory that the rank's tensors have held at once")?,
            tokens: names.counter("tokens_total", "Document tokens of all steps taken")?,
            target_tokens: names.counter("target_tokens_total", "Target tokens of all steps taken")?,
            steps: names.counter("steps_total", "Steps taken")?,
            clipped_steps: names.counter("clipped_steps_total", "Steps whose gradient was scaled down")?,
            spikes: names.counter("spikes_total", "Steps whose loss was a spike, whatever was done about it")?,
            restarts: names.counter("restarts_total", "Ranks started after the first")?,
            checkpoint_stall: names.register(Counter::new(
                name_of("checkpoint_stall_seconds_total"),
                "Time that training waited for checkpoints",
            )?)?,
            step_seconds: names.register(Histogram::with_opts(step_seconds)?)?,
            part_seconds: names.register(CounterVec::new(part_seconds, &["part"])?)?,
            registry,
        };
        for (part, _) in parts(&palimpsest_train::StepParts::default()) {
            metrics.part_seconds.with_label_values(&[part]);
        }
        Ok(metrics)
    }

    /// Takes in what the rank tells.
    pub(super) fn observe(&self, event: &RankEvent) {
        if let RankEvent::Progress(progress) = event {
            self.observe_step(progress);
        }
    }

    /// Counts a rank that follows another.
    pub(super) fn count_restart(&self) {
        self.restarts.inc();
    }

    fn observe_step(&self, progress: &RankProgress) {
        let record = &progress.record;
        self.step.set(record.step as f64);
        self.loss.set(record.loss.unwrap_or(f64::NAN));
        self.gradient_norm.set(record.grad_norm.unwrap_or(f64::NAN));
        self.learning_rate.set(record.learning_rate);
        self.tokens_per_second.set(progress.tokens_per_second);
        self.fill.set(record.fill);
        self.flops_per_token.set(record.flops_per_token);
        self.matrix_rate.set(progress.matrix_flops_per_second.unwrap_or(f64::NAN));
        self.mfu.set(record.mfu.unwrap_or(f64::NAN));
        self.resident_bytes.set(record.resident_bytes.map_or(f64::NAN, |bytes| bytes as f64));
        self.device_bytes.set(record.device_bytes.map_or(f64::NAN, |bytes| bytes as f64));
        self.tokens.inc_by(record.tokens);
        self.target_tokens.inc_by(record.targets);
        self.steps.inc();
        self.clipped_steps.inc_by(u64::from(record.clipped));
        self.spikes.inc_by(u64::from(record.spike));
        self.checkpoint_stall.inc_by(record.checkpoint_seconds);
        self.step_seconds.observe(record.seconds);
        for (part, seconds) in parts(&record.parts) {
            self.part_seconds.with_label_values(&[part]).inc_by(seconds);
        }
    }

    /// The figures as Prometheus reads them.
    pub(super) fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// The parts of a step, by the value of the label `part`.
fn parts(parts: &palimpsest_train::StepParts) -> [(&'static str, f64); 4] {
    [
        ("data", parts.data_seconds),
        ("forward", parts.forward_seconds),
        ("backward", parts.backward_seconds),
        ("optimizer", parts.optimizer_seconds),
    ]
}

fn name_of(figure: &str) -> String {
    format!("palimpsest_training_{figure}")
}

/// Makes figures and has them gathered.
struct Names<'a>(&'a Registry);

impl Names<'_> {
    fn register<C: Collector + Clone + 'static>(&self, figure: C) -> prometheus::Result<C> {
        self.0.register(Box::new(figure.clone()))?;
        Ok(figure)
    }

    fn gauge(&self, figure: &str, help: &str) -> prometheus::Result<Gauge> {
        let gauge = Gauge::new(name_of(figure), help)?;
        gauge.set(f64::NAN);
        self.register(gauge)
    }

    fn counter(&self, figure: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(name_of(figure), help)?)
    }
}
