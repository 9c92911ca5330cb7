//! A machine of the simulation: an agent as it is, not as the coordinator knows it, and the processes of its ranks.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::guards::Guards;
use crate::{AgentId, AgentState, Place, Report};

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: AgentId,
    pub(super) agent: AgentState<Report>,
    /// Grows with each stream that it opens, over all machines: none yet, or closed, where absent.
    pub(super) link: Option<u64>,
    /// Nobody hears of it ever again, but its ranks go on.
    pub(super) is_cut_off: bool,
    /// What the coordinator was told of its going away, since it began.
    pub(super) told: Told,
    /// It dials no earlier.
    pub(super) dials_at: Duration,
    /// One at most, if all goes well.
    pub(super) ranks: Vec<Rank>,
    /// The attempts that it has started ranks for.
    pub(super) started: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) struct Rank {
    pub(super) process: u64,
    pub(super) attempt: u64,
    pub(super) place: Place,
    pub(super) health: Health,
    pub(super) is_draining: bool,
    /// Told over a stream before the newest, so that the coordinator cannot know of it.
    pub(super) is_late: bool,
    /// The newest step that it has told of.
    pub(super) told: u64,
    /// How much it has to do before it claims its attempt, once it has looked whether the output is there.
    pub(super) preparing: Option<u64>,
    /// How often it has looked in vain for the others, to take the first step.
    pub(super) waited: u32,
}

/// What the coordinator was told of a machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// That it will be taken away.
    pub(super) is_leaving: bool,
    /// That its stream has ended.
    pub(super) is_cut_off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    /// It lives and says so, but takes no steps.
    Stuck,
    /// Not even that.
    Stopped,
}

impl Machine {
    pub(super) fn new(id: AgentId, guards: Guards) -> Self {
        let agent = AgentState::guarded(guards);
        Self {
            id,
            agent,
            link: None,
            is_cut_off: false,
            told: Told::default(),
            dials_at: Duration::ZERO,
            ranks: Vec::new(),
            started: BTreeSet::new(),
        }
    }
}
