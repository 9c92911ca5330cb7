//! What a coordinator is told, and what it tells.

use std::fmt;

/// The name of an agent, which no other agent of the job has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub String);

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// An agent opened its stream and said where it stands.
    Attached {
        /// Which.
        agent: AgentId,
        /// Its devices, one rank each.
        local_ranks: u32,
        /// What it is doing.
        standing: Standing,
    },
    /// An agent's machine is being taken away: an eviction, a drain, a preemption. May be told again and again.
    Leaving {
        /// Which.
        agent: AgentId,
    },
    /// An agent's machine or process is gone, and its ranks with it.
    Lost {
        /// Which.
        agent: AgentId,
    },
    /// An agent reported.
    Reported {
        /// Which.
        agent: AgentId,
        /// The attempt that the report belongs to.
        attempt: u64,
        /// What it reported.
        report: Report,
    },
    /// An agent's stream has ended, and somebody watches its machine and will say if that is lost. Its ranks may go on: they are not
    /// judged until it attaches again.
    CutOff {
        /// Which.
        agent: AgentId,
    },
    /// An agent's machine ended by itself before its ranks were begun: it counts as a crash, of no attempt.
    CrashedBeforehand {
        /// Why, in one sentence.
        message: String,
    },
    /// A machine was taken away with ranks that a coordinator before this one had begun, before they were heard of here.
    DisruptedBeforehand,
    /// The user changed how many crashes are put up with. It is judged by at the next one.
    LimitChanged {
        /// How many.
        backoff_limit: u32,
    },
    /// The user asked the job to stop after a checkpoint.
    StopRequested,
    /// The user does not want to wait for the checkpoint.
    AbortRequested,
    /// Nothing happened, but time went by.
    TimePassed,
}

/// What an agent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No rank is running.
    Idle,
    /// Its ranks are running an attempt.
    Running {
        /// Which.
        attempt: u64,
    },
}

/// What matters of an agent's reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The ranks live.
    Alive {
        /// Whether they are in the phase in which steps are taken.
        takes_steps: bool,
    },
    /// A step was taken.
    Progress {
        /// From 1, over the whole job.
        step: u64,
    },
    /// A checkpoint's manifest was written.
    CheckpointCommitted {
        /// The step it holds.
        step: u64,
    },
    /// The agent's ranks came to their end without failing.
    Finished {
        /// How.
        outcome: Outcome,
    },
    /// The agent's ranks failed, and are gone.
    Failed {
        /// Whose it is to mend.
        cause: Cause,
        /// One sentence.
        message: String,
    },
}

/// How ranks that did not fail came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The output is published.
    Succeeded,
    /// The output of this very job was there already.
    AlreadyFinished,
    /// They stopped after a checkpoint.
    Stopped,
}

/// Whose a failure is to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The user's: trying again cannot help.
    User,
    /// A crash, a lost device, a bug: another attempt may do better.
    Internal,
}

/// Something that an agent is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Who.
    pub agent: AgentId,
    /// The attempt that it belongs to.
    pub attempt: u64,
    /// What.
    pub order: Order,
}

/// What an agent is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take a place among the ranks.
    Join {
        /// Of this agent's ranks.
        first_rank: u32,
        /// Of this agent.
        local_ranks: u32,
        /// Of all agents.
        world: u32,
    },
    /// Start the ranks, from the newest checkpoint.
    RunPlan,
    /// Write a checkpoint and go on.
    Checkpoint,
    /// Write a checkpoint and stop.
    Drain,
    /// Stop at once.
    Abort,
}
