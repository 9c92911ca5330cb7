//! A pure state machine: observations in, commands out. Which ranks, which attempt, and when a job is over.
//!
//! It does no I/O and reads no clock: whoever drives it, `palimpsest run` or an operator, says what was seen and what
//! time it is, and carries its commands to the agents. Time counts from wherever the driver likes.
//!
//! ```text
//!                all agents attached and idle
//!      ┌─────────┐ ──────────────────────────► ┌─────────┐ all finished ► Succeeded
//!      │ Waiting │                             │ Running │ user's error ► Failed
//!      └─────────┘ ◄──── time ── BackingOff ◄─ └─────────┘
//!                                      a crash      │ told to stop
//!                                                   ▼
//!                              Stopped ◄─── Draining ── too long ► Aborting ► Stopped
//! ```
//!
//! | state | on | becomes | commands |
//! |---|---|---|---|
//! | Waiting | the last agent attaches, all idle | Running, next attempt | Join, RunPlan to each |
//! | Waiting | all agents attach running the newest attempt | Running, same attempt | |
//! | Waiting | all are attached, but only a part runs the newest attempt | Waiting | Abort to that part |
//! | Waiting | the start timeout | Failed | Abort to those that run |
//! | Running | an agent fails by the user's error | Failed | Abort to the others |
//! | Running | an agent crashes or is lost | BackingOff, or Failed beyond the limit | Abort to the others |
//! | Running | an agent's machine is taken away | Running, then BackingOff for no time; no crash is counted | Drain to each |
//! | Running | an agent's ranks hang: silence, or a step without end | BackingOff, as for a crash | Abort to all |
//! | Running | no agent runs any more, and one told that the output is published | Succeeded | |
//! | Running | told to stop | Draining | Drain to each |
//! | Waiting, BackingOff | an agent's machine ends before its ranks are begun | BackingOff, as for a crash | Abort to those that run |
//! | BackingOff | its time is over | Waiting | |
//! | Waiting, BackingOff | told to stop | Stopped | Abort to those that run |
//! | Draining | no agent runs any more | Stopped, or Succeeded if the output is published | |
//! | Draining | the termination time, or told to abort | Aborting | Abort to each |
//! | Aborting | no agent runs any more, or a few seconds | Stopped | |
//! | any but an end | the active deadline | Failed | Abort to those that run |
//! | Succeeded, Failed, Stopped | an agent attaches that runs | the same | Abort to it |
//!
//! A coordinator that takes over begins with what the one before had counted: the crashes since the newest checkpoint, and the
//! step of that ([`Config`]). So a job that crashes again and again ends, however often its coordinator is replaced.
//!
//! Ranks whose agent is cut off, where somebody watches its machine, are not judged: they may well go on, and no order would reach
//! them. Whoever watches says when the machine is lost.
//!
//! The first crash since a checkpoint is followed by the next attempt as soon as the ranks are gone; only then delays grow.
//!
//! An agent that attaches running an older attempt is told to abort; its reports are ignored. One that attaches running
//! a newer attempt than known tells of a coordinator before this one, and the attempt is taken over.

mod agent;
mod config;
mod coordinator;
mod guards;
mod messages;
mod pulse;
#[cfg(test)]
mod simulation;
mod state;

pub use agent::{AgentState, Deed, Greeting, Place};
pub use config::Config;
pub use coordinator::Coordinator;
pub use messages::{AgentId, Cause, Command, Observation, Order, Outcome, Report, Standing};
pub use pulse::Patience;
pub use state::State;
