//! The client of the API server, with a layer that counts requests, and that can have the process die at one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

use crate::metrics::Metrics;

/// Where a test has the operator die: `before:K` or `after:K`, K counting its writes from 1. Not for people: whoever sets it
/// gets what is asked for.
const CRASH: &str = "PALIMPSEST_OPERATOR_CRASH";

/// The seed of faults that a test wants: requests that do not arrive, and answers that do not.
const FAULTS: &str = "PALIMPSEST_OPERATOR_FAULTS";

/// A client as the environment says: in a pod that of its service account, elsewhere that of the kubeconfig.
pub(crate) async fn client(metrics: Metrics) -> Result<Client> {
    let config = Config::infer().await.context("found no API server: neither a service account nor a kubeconfig")?;
    let crash = std::env::var(CRASH).ok().map(|text| Crash::parse(&text)).transpose()?;
    let faults = std::env::var(FAULTS).ok().map(|text| text.parse()).transpose();
    let faults = faults.with_context(|| format!("{FAULTS} is no seed; write a whole number"))?;
    let layer = Counted { metrics, crash, faults, writes: Arc::default() };
    let builder = ClientBuilder::try_from(config).context("cannot make a client of the API server")?;
    Ok(builder.with_layer(&layer).build())
}

/// A point at which to die.
#[derive(Clone, Copy, Debug)]
struct Crash {
    is_after: bool,
    write: u64,
}

impl Crash {
    fn parse(text: &str) -> Result<Self> {
        match text.split_once(':').map(|(when, write)| (when, write.parse())) {
            Some((when @ ("before" | "after"), Ok(write))) => Ok(Self { is_after: when == "after", write }),
            _ => bail!("{CRASH}={text} is no point at which to die; write before:K or after:K"),
        }
    }

    fn die_if(&self, is_after: bool, write: u64) {
        if self.is_after == is_after && self.write == write {
            tracing::error!("dies as {CRASH} says, at write {write}");
            std::process::abort();
        }
    }
}

/// What happens to a request that a test wants lost.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It does not arrive.
    Before,
    /// It arrives, and the answer does not.
    After,
}

impl Fault {
    /// Two writes in seven, and which depends on the seed.
    fn of(seed: u64, write: u64) -> Option<Self> {
        let mixed = (seed ^ write.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        match mixed % 7 {
            0 => Some(Self::Before),
            1 => Some(Self::After),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Counted {
    metrics: Metrics,
    crash: Option<Crash>,
    faults: Option<u64>,
    writes: Arc<AtomicU64>,
}

impl<S> Layer<S> for Counted {
    type Service = CountedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountedService { inner, counted: self.clone() }
    }
}

#[derive(Clone, Debug)]
struct CountedService<S> {
    inner: S,
    counted: Counted,
}

impl<S, B> Service<Request<Body>> for CountedService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.method().clone();
        let Counted { metrics, crash, faults, writes } = self.counted.clone();
        // The lease is renewed and tokens are reviewed whenever it is time; they would make K another write each time.
        let path = request.uri().path();
        let is_counted = method != Method::GET && !path.contains("/leases") && !path.contains("/tokenreviews");
        let write = if is_counted { writes.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
        if let Some(crash) = crash {
            crash.die_if(false, write);
        }
        let fault = faults.filter(|_| is_counted).and_then(|seed| Fault::of(seed, write));
        if matches!(fault, Some(Fault::Before)) {
            return std::future::ready(Err("the request was lost, as a test wants".into())).boxed();
        }
        let answer = self.inner.call(request);
        async move {
            let mut answer = answer.await;
            if matches!(fault, Some(Fault::After)) {
                answer = Err("the answer was lost, as a test wants".into());
            }
            match &answer {
                Ok(answer) => metrics.requested(method.as_str(), answer.status().as_str()),
                Err(_) => metrics.requested(method.as_str(), "<error>"),
            }
            if let Some(crash) = crash {
                crash.die_if(true, write);
            }
            answer
        }
        .boxed()
    }
}
