//! Between the protocol's messages and what the coordinator sees and tells.

use palimpsest_coordinator::{Cause, Order, Outcome, Report};
use palimpsest_proto::control::{self, command, failure, finished, report};

/// What of a report matters to the coordinator.
pub(crate) fn observed(report: &report::Report) -> Option<Report> {
    Some(match report {
        report::Report::Alive(alive) => Report::Alive { takes_steps: alive.takes_steps },
        report::Report::Progress(progress) => Report::Progress { step: progress.step },
        report::Report::CheckpointCommitted(committed) => Report::CheckpointCommitted { step: committed.step },
        report::Report::Finished(finished) => Report::Finished {
            outcome: match finished.outcome() {
                finished::Outcome::Succeeded => Outcome::Succeeded,
                finished::Outcome::AlreadyFinished => Outcome::AlreadyFinished,
                finished::Outcome::Stopped | finished::Outcome::Unspecified => Outcome::Stopped,
            },
        },
        report::Report::Failure(failure) => Report::Failed {
            cause: match failure.cause() {
                failure::Cause::User => Cause::User,
                failure::Cause::Internal | failure::Cause::Unspecified => Cause::Internal,
            },
            message: failure.message.clone(),
        },
        // No matter of an attempt.
        report::Report::Leaving(_) => return None,
        report::Report::Hello(_)
        | report::Report::Phase(_)
        | report::Report::Planned(_)
        | report::Report::Resolved(_)
        | report::Report::Evaluation(_)
        | report::Report::Warning(_)
        | report::Report::Notice(_) => return None,
    })
}

/// The message of an order.
pub(crate) fn command_of(order: Order, plan: &control::RunPlan) -> command::Command {
    match order {
        Order::Join { first_rank, local_ranks, world } => {
            command::Command::Join(control::Join { first_rank, local_ranks, world, rendezvous: String::new() })
        }
        Order::RunPlan => command::Command::RunPlan(plan.clone()),
        Order::Checkpoint => command::Command::Checkpoint(control::Checkpoint {}),
        Order::Drain => command::Command::Drain(control::Drain {}),
        Order::Abort => command::Command::Abort(control::Abort {}),
    }
}
