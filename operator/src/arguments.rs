//! What the operator is told when it is started.

use std::net::SocketAddr;
use std::time::Duration;

use crate::leader::Timing;

/// Makes the pods of TrainingJobs, coordinates their agents, and says in the status what has come of them.
#[derive(Debug, clap::Parser)]
#[command(name = "palimpsest-operator", version)]
pub(crate) struct Arguments {
    /// The workers' image, where a job's template names none.
    #[arg(long, value_name = "IMAGE", env = "WORKER_IMAGE")]
    pub(crate) worker_image: String,
    /// Where agents find the leader: the name of the Service.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) coordinator: String,
    /// Where the leader listens for agents.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:7443")]
    pub(crate) control_address: SocketAddr,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    pub(crate) http_address: SocketAddr,
    /// The operator's own namespace: its lease and its certificate are there.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "palimpsest-system")]
    pub(crate) namespace: String,
    /// The namespace whose jobs are served; absent: all.
    #[arg(long, value_name = "NAMESPACE", env = "WATCH_NAMESPACE")]
    pub(crate) watch_namespace: Option<String>,
    /// What no other replica is called.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub(crate) identity: Option<String>,
    /// How many jobs are visited at once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) concurrency: u16,
    /// How many times a second figures are written to statuses, over all jobs.
    #[arg(
        long,
        value_name = "N",
        env = "PALIMPSEST_PROGRESS_WRITES_PER_SECOND",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) progress_writes_per_second: u32,
    /// For how long nobody else leads when the leader is not heard of.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) lease_duration_seconds: u64,
    /// For how long the leader tries to be heard of before it ends; less than the duration.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) lease_renew_deadline_seconds: u64,
    /// Between two tries.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) lease_retry_period_seconds: u64,
    /// For how long the certificate that agents are shown is valid. After two thirds of it the leader hands over to a replica that makes
    /// itself a new one.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "PALIMPSEST_CERTIFICATE_LIFETIME_SECONDS",
        default_value_t = 7_776_000,
        value_parser = clap::value_parser!(u64).range(3..)
    )]
    pub(crate) certificate_lifetime_seconds: u64,
}

impl Arguments {
    /// How the lease is kept, or what is wrong with it.
    pub(crate) fn timing(&self) -> Result<Timing, String> {
        if self.lease_renew_deadline_seconds >= self.lease_duration_seconds {
            return Err(format!(
                "--lease-renew-deadline-seconds {}: has to be less than --lease-duration-seconds ({}), or two replicas lead at once",
                self.lease_renew_deadline_seconds, self.lease_duration_seconds
            ));
        }
        if self.lease_retry_period_seconds >= self.lease_renew_deadline_seconds {
            return Err(format!(
                "--lease-retry-period-seconds {}: has to be less than --lease-renew-deadline-seconds ({})",
                self.lease_retry_period_seconds, self.lease_renew_deadline_seconds
            ));
        }
        Ok(Timing {
            duration: Duration::from_secs(self.lease_duration_seconds),
            renew_deadline: Duration::from_secs(self.lease_renew_deadline_seconds),
            retry_period: Duration::from_secs(self.lease_retry_period_seconds),
        })
    }

    /// For how long the certificate that agents are shown is valid.
    pub(crate) fn certificate_lifetime(&self) -> Duration {
        Duration::from_secs(self.certificate_lifetime_seconds)
    }

    /// The host of `coordinator`, which the certificate is for, or what is wrong with it.
    pub(crate) fn host(&self) -> Result<&str, String> {
        match self.coordinator.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(host.trim_start_matches('[').trim_end_matches(']'))
            }
            _ => Err(format!(
                "--coordinator {}: is no HOST:PORT; write one such as palimpsest-operator.palimpsest-system.svc:7443",
                self.coordinator
            )),
        }
    }
}
