//! What an agent decides: which commands it obeys, when it starts a rank, and what it tells of how one ended.
//!
//! The worker's agent holds the processes and the stream; this says what to do with them. So agents and coordinator are
//! simulated together.

use crate::guards::{Guard, Guards};
use crate::{Order, Standing};

/// Where an agent stands. `E` is how a rank's end is told.
#[derive(Clone, Debug)]
pub struct AgentState<E> {
    /// The newest attempt that a command came for.
    newest: u64,
    /// The newest place, and the attempt that it is of.
    place: Option<(u64, Place)>,
    /// The newest attempt that was aborted: its run plan may come after.
    aborted: Option<u64>,
    rank: Option<Rank<E>>,
    /// How the newest rank ended, and its attempt: told again when the coordinator was away.
    ended: Option<(u64, E)>,
    guards: Guards,
}

#[derive(Clone, Debug)]
struct Rank<E> {
    attempt: u64,
    step: u64,
    takes_steps: bool,
    /// What it said of its end. That is passed on when its process is gone.
    said: Option<E>,
}

/// An agent's place among the ranks of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of this agent's ranks.
    pub first_rank: u32,
    /// Of this agent.
    pub local_ranks: u32,
    /// Of all agents.
    pub world: u32,
}

/// Something for an agent to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed<E> {
    /// Start a rank. Where that fails, [`AgentState::rank_is_gone`] is told so.
    Start {
        /// The attempt it belongs to.
        attempt: u64,
        /// Its place. None where the run plan came without its join, or after the abort: then starting fails.
        place: Option<Place>,
    },
    /// Have the rank write a checkpoint and go on.
    Checkpoint,
    /// Have the rank write a checkpoint and stop.
    Drain,
    /// Stop the rank at once, without waiting until it is gone.
    Stop,
    /// Stop the rank at once, and wait until it is gone.
    StopAndWait,
    /// Tell that an attempt fails here, because a newer one was told of.
    Refuse {
        /// The attempt.
        attempt: u64,
        /// The newer one.
        newest: u64,
    },
    /// Tell again how the rank of an attempt ended.
    Tell {
        /// The attempt.
        attempt: u64,
        /// How.
        end: E,
    },
}

/// What an agent says first on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting<E> {
    /// What it is doing. An agent whose rank has ended says that it runs, and then how it ended.
    pub standing: Standing,
    /// The last step that its rank took.
    pub step: u64,
    /// How its rank ended, where none runs.
    pub end: Option<(u64, E)>,
}

impl<E: Clone> Default for AgentState<E> {
    fn default() -> Self {
        Self::guarded(Guards::default())
    }
}

impl<E: Clone> AgentState<E> {
    pub(crate) fn guarded(guards: Guards) -> Self {
        Self { newest: 0, place: None, aborted: None, rank: None, ended: None, guards }
    }

    /// Whether the rank is in the phase in which steps are taken: said with each sign of life, so that whoever coordinates
    /// knows whether to expect some.
    pub fn takes_steps(&self) -> bool {
        self.rank.as_ref().is_some_and(|rank| rank.takes_steps)
    }

    /// Whether a rank is there.
    pub fn has_rank(&self) -> bool {
        self.rank.is_some()
    }

    /// What is said first on a stream: what it is doing, and what the coordinator may have missed.
    pub fn greeting(&self) -> Greeting<E> {
        match (&self.rank, &self.ended) {
            (Some(Rank { attempt, step, .. }), _) => {
                let standing = Standing::Running { attempt: *attempt };
                Greeting { standing, step: *step, end: None }
            }
            (None, Some((attempt, _))) => {
                let standing = Standing::Running { attempt: *attempt };
                Greeting { standing, step: 0, end: self.ended.clone() }
            }
            (None, None) => Greeting { standing: Standing::Idle, step: 0, end: None },
        }
    }

    /// What a command leads to, in order. A command may come twice, late, or after a newer one.
    pub fn obey(&mut self, attempt: u64, order: Order) -> Vec<Deed<E>> {
        if attempt < self.newest && self.guards.stands(Guard::LateCommand) {
            // Whoever gave it may wait for what becomes of it.
            let is_awaited = matches!(order, Order::RunPlan | Order::Abort) && self.guards.stands(Guard::Refusal);
            return if is_awaited { vec![Deed::Refuse { attempt, newest: self.newest }] } else { Vec::new() };
        }
        self.newest = attempt;
        if order == Order::Abort {
            self.aborted = Some(attempt);
        }
        let if_running = |deed| if self.rank.is_some() { vec![deed] } else { Vec::new() };
        match order {
            Order::Join { first_rank, local_ranks, world } => {
                self.place = Some((attempt, Place { first_rank, local_ranks, world }));
                Vec::new()
            }
            Order::RunPlan => self.run(attempt),
            Order::Checkpoint => if_running(Deed::Checkpoint),
            Order::Drain => if_running(Deed::Drain),
            Order::Abort => if_running(Deed::Stop),
        }
    }

    fn run(&mut self, attempt: u64) -> Vec<Deed<E>> {
        if self.rank.as_ref().is_some_and(|rank| rank.attempt == attempt) && self.guards.stands(Guard::RunsAlready) {
            return Vec::new();
        }
        if let Some((ended, end)) = self.ended.clone().filter(|(ended, _)| *ended == attempt)
            && self.guards.stands(Guard::HasEnded)
        {
            return vec![Deed::Tell { attempt: ended, end }];
        }
        let mut deeds = Vec::new();
        // A coordinator waits until the last attempt's ranks are gone, but it may not know of all of them.
        if self.rank.take().is_some() && self.guards.stands(Guard::OneRank) {
            deeds.push(Deed::StopAndWait);
        }
        let is_aborted = self.aborted == Some(attempt) && self.guards.stands(Guard::AbortComesFirst);
        let is_meant = |of: u64| of == attempt || !self.guards.stands(Guard::PlaceOfAttempt);
        let place = self.place.filter(|(of, _)| is_meant(*of) && !is_aborted).map(|(_, place)| place);
        self.ended = None;
        self.rank = Some(Rank { attempt, step: 0, takes_steps: false, said: None });
        deeds.push(Deed::Start { attempt, place });
        deeds
    }

    /// The rank took a step.
    pub fn rank_took(&mut self, step: u64) {
        if let Some(rank) = &mut self.rank {
            rank.step = step;
            rank.takes_steps = true;
        }
    }

    /// The rank entered a phase.
    pub fn rank_entered(&mut self, takes_steps: bool) {
        if let Some(rank) = &mut self.rank {
            rank.takes_steps = takes_steps;
        }
    }

    /// The rank says how it ends; its process is about to be gone.
    pub fn rank_says(&mut self, end: E) {
        if let Some(rank) = &mut self.rank {
            rank.said = Some(end);
        }
    }

    /// The rank's process is gone, or could not be started. Gives what is to be told: what the rank said itself, or the
    /// crash.
    pub fn rank_is_gone(&mut self, crash: E) -> Option<(u64, E)> {
        let rank = self.rank.take()?;
        self.ended = Some((rank.attempt, rank.said.unwrap_or(crash)));
        self.ended.clone()
    }
}
