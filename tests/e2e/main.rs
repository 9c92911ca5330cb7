//! TrainingJobs on real nodes, some of which come to harm, under an operator in its own pods. `make e2e` runs it;
//! docs/cluster-for-tests.md says what is done.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod drained_node;
mod job;
mod life_with_kubectl;
mod lost_node;
mod results;
mod same_checkpoints;
mod setting;
mod upgraded_operator;
mod users_cluster;
