//! What a job consists of in Kubernetes: a ConfigMap, and a pod for each worker. Pure: a job and the settings go in.
//!
//! ```text
//! defaults ◄── the job's template ◄── what the operator needs
//!              (wins over defaults)    (wins over everything)
//! ```

mod config_map;
mod names;
mod pod;
mod volumes;

pub(crate) use config_map::config_map;
pub(crate) use names::{
    INDEX_LABEL, Identity, JOB_LABEL, MANAGED_BY_LABEL, OPERATOR, config_map_name, labels_of, selector,
};
pub(crate) use pod::{TOKEN_AUDIENCE, WORKER, pod, pod_template};
pub(crate) use volumes::{claims, with_uris};

#[cfg(test)]
mod tests;
