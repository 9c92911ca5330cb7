//! What a job and its queue owe each other: a job with the label `kueue.x-k8s.io/queue-name` owns a `Workload`, waits until Kueue
//! admits it, and runs as it was admitted. Pure: the job and its Workload go in.
//!
//! ```text
//!   job ── Make ──► Workload ── Kueue ──► admission ── Place::Admitted ──► pods, on the admission's Terms
//!    ▲                 │
//!    │                 └── Kueue ──► Evicted ── Place::Waiting ──► a last checkpoint, no pods ── GiveBack ──► Workload
//!    └── Finished, PodsReady ──► Workload
//! ```
//!
//! Kueue calls whatever does this an external framework; what it does here is what Kueue's own `jobframework` does for the kinds
//! that it knows. A job's `spec.suspend` stays its user's own: a suspended job is in no queue, and has no Workload.

mod conditions;
mod make;
mod place;
mod step;
mod terms;
mod topology;
mod workload;

pub(crate) use make::{FINALIZER, Priority, make, priority_class, workload_name};
pub(crate) use place::{Place, Served, as_admitted, place, queue_name};
pub(crate) use step::{Step, step};
pub(crate) use terms::{Terms, flavors};
pub(crate) use workload::{ResourceFlavor, Workload, WorkloadPriorityClass};

#[cfg(test)]
mod tests;
