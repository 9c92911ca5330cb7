//! What an engine is and does, told without asking its thread, which may be in a long step.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use palimpsest_infer::{Figures, Limits};
use palimpsest_proto::inference::StatsReply;

use super::Served;
use super::timed::ModelTime;
use crate::random::fresh_number;

/// What an engine is, and did up to its newest step.
#[derive(Debug)]
pub(super) struct Snapshot {
    newest: Mutex<StatsReply>,
    model_time: ModelTime,
}

impl Snapshot {
    pub(super) fn new(served: &Served, limits: &Limits, vocabulary: usize, model_time: ModelTime) -> Self {
        let cache_tokens = limits.blocks * limits.block_tokens;
        let newest = StatsReply {
            device: served.device.clone(),
            precision: served.precision.clone(),
            vocabulary: narrow(vocabulary),
            // A request can have no more than the whole cache holds.
            context: narrow(limits.context.min(cache_tokens)),
            end_ids: served.end_ids.clone(),
            cache_tokens: cache_tokens as u64,
            instance: fresh_number(),
            most_waiting: narrow(limits.waiting_requests),
            ..StatsReply::default()
        };
        Self { newest: Mutex::new(newest), model_time }
    }

    /// Takes in where the engine stands, and how long a step took, if there was one.
    pub(super) fn update(&self, figures: Figures, step: Option<Duration>) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.running = narrow(figures.running);
        newest.waiting = narrow(figures.waiting);
        newest.waiting_tokens = figures.waiting_tokens as u64;
        newest.cache_tokens_used = figures.cache_tokens_used as u64;
        newest.prefix_queries = figures.queried_tokens;
        newest.prefix_hits = figures.found_tokens;
        newest.prompt_tokens = figures.prompt_tokens;
        newest.generated_tokens = figures.generated_tokens;
        newest.preemptions = figures.preemptions;
        if let Some(time) = step {
            newest.steps += 1;
            newest.step_seconds += time.as_secs_f64();
        }
        newest.model_seconds = self.model_time.total().as_secs_f64();
    }

    /// Whether as many requests wait as may.
    pub(super) fn is_full(&self) -> bool {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.waiting >= newest.most_waiting
    }

    pub(super) fn read(&self) -> StatsReply {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
