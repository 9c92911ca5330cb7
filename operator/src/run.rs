//! From the first look for an API server to the last breath of a leader.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::arguments::Arguments;
use crate::budget::Budget;
use crate::client::client;
use crate::control::{self, Authority};
use crate::controller;
use crate::http;
use crate::jobs::{Jobs, Listed, PodIndex, WorkloadIndex};
use crate::leader::{Candidate, Timing};
use crate::metrics::Metrics;
use crate::reconcile::{Cluster, Context};
use crate::settings::Settings;
use crate::visits::Visits;

/// How long giving the lease up may take. Whoever stops the operator waits for it.
const RELEASE: Duration = Duration::from_secs(3);

/// Runs the operator; the exit code is 2 for what whoever started it can mend, 1 for the rest.
pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    let checked = arguments.timing().and_then(|timing| Ok((timing, arguments.host()?)));
    let (timing, host) = match checked {
        Ok(checked) => checked,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(arguments, timing, host));
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments, timing: Timing, host: &str) -> Result<()> {
    let metrics = Metrics::new().context("cannot register metrics")?;
    let client = client(metrics.clone()).await?;
    let jobs = Arc::new(Jobs::default());
    let (ready, is_ready) = watch::channel(false);
    http::serve(arguments.http_address, metrics.clone(), jobs.clone(), is_ready).await?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let told_to_end = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(told_to_end);

    let identity = arguments.identity.clone().unwrap_or_else(own_identity);
    let mut candidate = Candidate::new(client.clone(), &arguments.namespace, identity, timing);
    metrics.leads(false);
    let _ = ready.send(true);
    tokio::select! {
        () = candidate.win() => {}
        () = &mut told_to_end => return Ok(()),
    }
    tracing::info!("this replica leads");
    metrics.leads(true);
    let led = tokio::select! {
        led = lead(arguments, host, client, metrics, jobs) => led,
        // Who leads makes its own certificate, and agents are used to another leader.
        () = sleep(arguments.certificate_lifetime() * 2 / 3) => {
            tracing::info!("the certificate gets old; the next leader has a new one");
            Ok(())
        }
        // Whatever is under way ends with the process: another replica may lead already.
        () = candidate.hold() => anyhow::bail!("the lease is lost; another replica leads"),
        () = &mut told_to_end => Ok(()),
    };
    match timeout(RELEASE, candidate.release()).await {
        Ok(released) => released?,
        Err(_) => tracing::warn!("the lease was not given up; it runs out"),
    }
    led
}

async fn lead(
    arguments: &Arguments,
    host: &str,
    client: kube::Client,
    metrics: Metrics,
    jobs: Arc<Jobs>,
) -> Result<()> {
    let authority = Authority::find_or_found(client.clone(), &arguments.namespace).await?;
    let context = Arc::new(Context {
        cluster: Cluster::new(client.clone()),
        settings: Settings {
            worker_image: arguments.worker_image.clone(),
            coordinator: format!("https://{}", arguments.coordinator),
            certificate_authority: authority.certificate().to_owned(),
        },
        jobs,
        listed: Listed::default(),
        pods: PodIndex::default(),
        workloads: WorkloadIndex::default(),
        visits: Visits::new(metrics.clone()),
        budget: Mutex::new(Budget::new(arguments.progress_writes_per_second)),
        began: Instant::now(),
        metrics,
    });
    let address = arguments.control_address;
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}; choose another --control-address"))?;
    let namespace = arguments.watch_namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let identity = authority.identity(host, arguments.certificate_lifetime())?;
    let control = control::serve(listener, identity, client.clone(), context.clone());
    let controller = controller::run(client, namespace, arguments.concurrency, context.clone());
    tokio::select! {
        served = control => served.context("agents are served no more"),
        led = controller => led,
    }
}

/// A name that no other replica has: of this machine, this process, and this moment.
fn own_identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{}-{}-{moment}", host.trim(), std::process::id())
}
