//! One replica leads: it reconciles, and agents dial it. The others wait for its Lease.

mod lease;

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

use self::lease::{Seen, held, released};
use crate::children::OPERATOR;

/// The Lease's name.
const LEASE: &str = "palimpsest-operator";

/// How long a lease holds, and how often it is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// For how long nobody else takes a lease that is not renewed.
    pub(crate) duration: Duration,
    /// For how long its holder tries to renew it before it gives up. Less than `duration`: it has ended before another begins.
    pub(crate) renew_deadline: Duration,
    /// Between two tries.
    pub(crate) retry_period: Duration,
}

/// A candidate.
pub(crate) struct Candidate {
    api: Api<Lease>,
    identity: String,
    timing: Timing,
    began: Instant,
    seen: Seen,
}

impl Candidate {
    /// Of the replicas in `namespace`; no other has its identity.
    pub(crate) fn new(client: Client, namespace: &str, identity: String, timing: Timing) -> Self {
        Self { api: Api::namespaced(client, namespace), identity, timing, began: Instant::now(), seen: Seen::default() }
    }

    /// Waits until this replica leads.
    pub(crate) async fn win(&mut self) {
        loop {
            match timeout(self.timing.renew_deadline, self.try_to_hold()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!("cannot take the lease: {error:#}"),
                Err(_) => tracing::warn!("cannot take the lease: the API server does not answer"),
            }
            sleep(self.timing.retry_period).await;
        }
    }

    /// Holds the lease; returns when it is lost. Whoever calls has to end then, at once.
    pub(crate) async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(self.timing.retry_period).await;
            let left = self.timing.renew_deadline.saturating_sub(renewed.elapsed());
            match timeout(left, self.try_to_hold()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                // One that somebody else wrote to, without taking it, is tried again.
                Ok(Ok(false)) if !self.seen.is_free_for(&self.identity, self.began.elapsed()) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!("cannot renew the lease: {error:#}"),
                Err(_) => {}
            }
            if renewed.elapsed() >= self.timing.renew_deadline {
                return;
            }
        }
    }

    /// Gives the lease up, so that another replica need not wait until it has run out.
    pub(crate) async fn release(&self) -> Result<()> {
        let lease = self.api.get(LEASE).await.context("cannot read the lease")?;
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() == Some(self.identity.as_str()) {
            let lease = Lease { spec: Some(released(&spec)), ..lease };
            self.api.replace(LEASE, &PostParams::default(), &lease).await.context("cannot release the lease")?;
        }
        Ok(())
    }

    /// Takes or renews the lease. False where another holds it.
    async fn try_to_hold(&mut self) -> Result<bool> {
        let Some(lease) = self.api.get_opt(LEASE).await.context("cannot read the lease")? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() },
                spec: Some(self.held(&LeaseSpec::default())),
            };
            return self.written(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        self.seen.look(&spec, self.began.elapsed());
        if !self.seen.is_free_for(&self.identity, self.began.elapsed()) {
            return Ok(false);
        }
        // Its resource version goes along: whoever else took it meanwhile keeps it.
        let lease = Lease { spec: Some(self.held(&spec)), ..lease };
        let parameters = PostParams { field_manager: Some(OPERATOR.to_owned()), ..PostParams::default() };
        self.written(self.api.replace(LEASE, &parameters, &lease).await)
    }

    fn held(&self, before: &LeaseSpec) -> LeaseSpec {
        held(before, &self.identity, self.timing.duration, Timestamp::now())
    }

    fn written(&self, answer: kube::Result<Lease>) -> Result<bool> {
        match answer {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error).context("cannot write the lease"),
        }
    }
}
