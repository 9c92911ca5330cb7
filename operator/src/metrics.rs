//! The operator's own figures, by the names that controller-runtime gave them, so that existing dashboards work. Labels are
//! few and none is a job's name.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use prometheus::{
    Counter, Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::reconcile::Result;

/// The controller's name in every figure.
const CONTROLLER: &str = "trainingjob";

/// The operator's own figures.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    reconcile_errors: IntCounterVec,
    reconcile_time: Histogram,
    active_workers: IntGauge,
    queue_depth: IntGauge,
    queue_adds: IntCounter,
    queue_duration: Histogram,
    work_duration: Histogram,
    queue_retries: IntCounter,
    requests: IntCounterVec,
    is_leader: IntGaugeVec,
    jobs: IntGaugeVec,
    lost_work: Counter,
    agents: IntGauge,
}

impl Metrics {
    /// Registers them all.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let opts = |name: &str, help: &str| Opts::new(name, help);
        let of_controller = |name: &str, help: &str| Opts::new(name, help).const_label("controller", CONTROLLER);
        let of_queue = |name: &str, help: &str| of_controller(name, help).const_label("name", CONTROLLER);
        let of_seconds = |name: &str, help: &str| {
            let buckets = prometheus::exponential_buckets(1e-8, 10.0, 12)?;
            Histogram::with_opts(HistogramOpts { common_opts: of_queue(name, help), buckets })
        };
        let metrics = Self {
            reconciles: IntCounterVec::new(
                of_controller("controller_runtime_reconcile_total", "Visits to jobs, by how they ended."),
                &["result"],
            )?,
            reconcile_errors: IntCounterVec::new(
                opts("controller_runtime_reconcile_errors_total", "Visits to jobs that failed."),
                &["controller"],
            )?,
            reconcile_time: Histogram::with_opts(HistogramOpts {
                common_opts: of_controller("controller_runtime_reconcile_time_seconds", "How long visits took."),
                buckets: prometheus::exponential_buckets(0.001, 2.5, 12)?,
            })?,
            active_workers: IntGauge::with_opts(of_controller(
                "controller_runtime_active_workers",
                "Visits under way.",
            ))?,
            queue_depth: IntGauge::with_opts(of_queue("workqueue_depth", "Visits that are asked for and not begun."))?,
            queue_adds: IntCounter::with_opts(of_queue("workqueue_adds_total", "Visits that were asked for."))?,
            queue_duration: of_seconds(
                "workqueue_queue_duration_seconds",
                "How long visits that were asked for waited.",
            )?,
            work_duration: of_seconds("workqueue_work_duration_seconds", "How long visits took.")?,
            queue_retries: IntCounter::with_opts(of_queue(
                "workqueue_retries_total",
                "Visits that are made again because they failed.",
            ))?,
            requests: IntCounterVec::new(
                opts("rest_client_requests_total", "Requests to the API server, by method and status code."),
                &["method", "code"],
            )?,
            is_leader: IntGaugeVec::new(
                opts("leader_election_master_status", "Whether this replica leads."),
                &["name"],
            )?,
            jobs: IntGaugeVec::new(opts("palimpsest_training_jobs", "Training jobs, by State."), &["state"])?,
            lost_work: Counter::with_opts(opts(
                "palimpsest_lost_work_seconds_total",
                "Training time whose steps were taken again after a failure or a disruption.",
            ))?,
            agents: IntGauge::with_opts(opts("palimpsest_attached_agents", "Agents with an open stream."))?,
            registry,
        };
        metrics.register()?;
        metrics.reconcile_errors.with_label_values(&[CONTROLLER]);
        Ok(metrics)
    }

    fn register(&self) -> prometheus::Result<()> {
        self.registry.register(Box::new(self.reconciles.clone()))?;
        self.registry.register(Box::new(self.reconcile_errors.clone()))?;
        self.registry.register(Box::new(self.reconcile_time.clone()))?;
        self.registry.register(Box::new(self.active_workers.clone()))?;
        self.registry.register(Box::new(self.queue_depth.clone()))?;
        self.registry.register(Box::new(self.queue_adds.clone()))?;
        self.registry.register(Box::new(self.queue_duration.clone()))?;
        self.registry.register(Box::new(self.work_duration.clone()))?;
        self.registry.register(Box::new(self.queue_retries.clone()))?;
        self.registry.register(Box::new(self.requests.clone()))?;
        self.registry.register(Box::new(self.is_leader.clone()))?;
        self.registry.register(Box::new(self.jobs.clone()))?;
        self.registry.register(Box::new(self.lost_work.clone()))?;
        self.registry.register(Box::new(self.agents.clone()))
    }

    /// A visit begins; it is measured until the value is dropped.
    pub(crate) fn visit(&self) -> Visit<'_> {
        self.active_workers.inc();
        Visit { metrics: self, began: Instant::now() }
    }

    /// A visit has ended.
    pub(crate) fn visited<T>(&self, result: &Result<T>) {
        let result = if result.is_ok() {
            "success"
        } else {
            self.reconcile_errors.with_label_values(&[CONTROLLER]).inc();
            self.queue_retries.inc();
            "error"
        };
        self.reconciles.with_label_values(&[result]).inc();
    }

    /// So many visits are asked for that were not; `depth` in all are not begun now.
    pub(crate) fn queued(&self, visits: u64, depth: usize) {
        self.queue_adds.inc_by(visits);
        self.set_depth(depth);
    }

    /// One is begun that has waited for so long.
    pub(crate) fn taken(&self, waited: Duration, depth: usize) {
        self.queue_duration.observe(waited.as_secs_f64());
        self.set_depth(depth);
    }

    /// One has ended that took so long.
    pub(crate) fn worked(&self, took: Duration) {
        self.work_duration.observe(took.as_secs_f64());
    }

    fn set_depth(&self, depth: usize) {
        self.queue_depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// The API server was asked.
    pub(crate) fn requested(&self, method: &str, code: &str) {
        self.requests.with_label_values(&[method, code]).inc();
    }

    /// Whether this replica leads.
    pub(crate) fn leads(&self, is_leader: bool) {
        self.is_leader.with_label_values(&["palimpsest-operator"]).set(is_leader.into());
    }

    /// Training time whose steps are taken again.
    pub(crate) fn lost_work(&self, time: Duration) {
        self.lost_work.inc_by(time.as_secs_f64());
    }

    /// An agent came, or went.
    pub(crate) fn agent_attached(&self, is_attached: bool) {
        self.agents.add(if is_attached { 1 } else { -1 });
    }

    /// All of them as Prometheus reads them; `jobs` is how many show each State.
    pub(crate) fn encode(&self, jobs: &HashMap<String, i64>) -> prometheus::Result<Vec<u8>> {
        self.jobs.reset();
        for (state, count) in jobs {
            self.jobs.with_label_values(&[state]).set(*count);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// A visit under way.
pub(crate) struct Visit<'m> {
    metrics: &'m Metrics,
    began: Instant,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.metrics.active_workers.dec();
        self.metrics.reconcile_time.observe(self.began.elapsed().as_secs_f64());
    }
}
