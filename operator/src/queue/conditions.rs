//! What is said to Kueue in a Workload's conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::workload::Workload;

/// A message may have as many characters.
const LONGEST_MESSAGE: usize = 32 * 1024;

/// A Workload's conditions, of which some are said anew.
pub(super) fn said(workload: &Workload, anew: &[(&str, bool, &str, &str)], now: Timestamp) -> Vec<Condition> {
    let mut conditions = workload.status.conditions.clone();
    for (kind, is_so, reason, message) in anew {
        let status = if *is_so { "True" } else { "False" };
        let before = conditions.iter().position(|condition| condition.type_ == *kind);
        let before = before.map(|index| conditions.remove(index)).filter(|before| before.status == status);
        conditions.push(Condition {
            type_: (*kind).to_owned(),
            status: status.to_owned(),
            reason: (*reason).to_owned(),
            message: message.chars().take(LONGEST_MESSAGE).collect(),
            observed_generation: workload.metadata.generation,
            last_transition_time: before.map_or(Time(now), |before| before.last_transition_time),
        });
    }
    conditions
}
