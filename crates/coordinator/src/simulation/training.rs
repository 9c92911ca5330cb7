//! What agents and ranks of the simulation do: obey, claim, step together, commit, publish, and suffer.

use std::collections::BTreeSet;
use std::time::Duration;

use super::machine::{Health, Rank, Told};
use super::store::Superseded;
use super::world::World;
use crate::{AgentId, Cause, Command, Deed, Observation, Order, Outcome, Report};

pub(super) const STEPS: u64 = 40;
const CHECKPOINT_EVERY: u64 = 5;

/// How often a rank looks for the others before it gives up: a rendezvous has a time limit of its own.
const MOST_WAITS: u32 = 400;

/// The ranks of an attempt step together, from when the first of them has claimed it.
#[derive(Debug)]
pub(super) struct Training {
    step: u64,
    /// Its newest checkpoints; it takes all others for old.
    kept: Vec<u64>,
    is_to_tidy: bool,
    /// How it ended.
    end: Option<Outcome>,
}

impl World {
    pub(super) fn command(&mut self, index: usize, command: &Command, is_late: bool) {
        let ended = matches!(command.order, Order::Abort | Order::Drain | Order::RunPlan);
        let newer = self.machines[index].ranks.last().map(|rank| rank.attempt).filter(|of| *of > command.attempt);
        let deeds = self.machines[index].agent.obey(command.attempt, command.order);
        let is_told_only = deeds.iter().all(|deed| matches!(deed, Deed::Refuse { .. } | Deed::Tell { .. }));
        if let Some(attempt) = newer.filter(|_| ended && !is_told_only) {
            let order = command.order;
            self.store.harm(format!("{order:?} of attempt {} was done to attempt {attempt}", command.attempt));
        }
        for deed in deeds {
            self.carry_out(index, deed, is_late);
        }
    }

    fn carry_out(&mut self, index: usize, deed: Deed<Report>, is_late: bool) {
        let machine = &mut self.machines[index];
        match deed {
            Deed::Start { place: None, .. } => self.end_rank(index, crash("it has no place")),
            Deed::Start { attempt, place: Some(place) } => {
                if !machine.ranks.is_empty() {
                    self.store.harm(format!("two ranks of {} run at once", machine.id));
                }
                if !machine.started.insert(attempt) {
                    self.store.harm(format!("{} started attempt {attempt} twice", machine.id));
                }
                self.processes += 1;
                let (process, health) = (self.processes, Health::Well);
                machine.ranks.push(Rank {
                    process,
                    attempt,
                    place,
                    health,
                    is_draining: false,
                    is_late,
                    told: 0,
                    preparing: None,
                    waited: 0,
                });
                if !self.places.contains(&(machine.id.clone(), attempt, place)) {
                    self.store.harm(format!("{} has a place in attempt {attempt} that nobody gave it", machine.id));
                }
            }
            Deed::Drain => {
                if let Some(rank) = machine.ranks.last_mut() {
                    rank.is_draining = true;
                }
            }
            Deed::Stop => {
                machine.ranks.pop();
                self.end_rank(index, crash("it was aborted"));
            }
            Deed::StopAndWait => machine.ranks.clear(),
            Deed::Tell { attempt, end } => self.report(index, attempt, end),
            Deed::Refuse { attempt, .. } => self.report(index, attempt, crash("a newer attempt was told of")),
            Deed::Checkpoint => {}
        }
    }

    /// The newest rank is gone.
    fn end_rank(&mut self, index: usize, end: Report) {
        if let Some((attempt, end)) = self.machines[index].agent.rank_is_gone(end) {
            self.report(index, attempt, end);
        }
    }

    fn report(&mut self, index: usize, attempt: u64, report: Report) {
        let machine = &self.machines[index];
        if let Some(link) = machine.link.filter(|_| !machine.is_cut_off) {
            self.reports.push((link, machine.id.clone(), attempt, report));
        }
    }

    /// A rank does what it does next.
    pub(super) fn act(&mut self, index: usize) {
        let Some(rank) = self.machines[index].ranks.last() else { return };
        let (attempt, process, place) = (rank.attempt, rank.process, rank.place);
        let (health, is_draining, is_first) = (rank.health, rank.is_draining, place.first_rank == 0);
        match health {
            Health::Stopped => return,
            Health::Stuck => return self.alive(index, attempt),
            Health::Well => {}
        }
        if !self.is_prepared(index, attempt) {
            return;
        }
        let Some(training) = self.trainings.get_mut(&attempt) else {
            match is_first.then(|| self.store.claim(attempt, process)) {
                None => self.wait(index, attempt),
                Some(Ok(step)) => {
                    self.trainings.insert(attempt, Training { step, kept: vec![step], is_to_tidy: false, end: None });
                    self.machines[index].agent.rank_entered(true);
                }
                Some(Err(Superseded)) => self.fail(index, "it is superseded"),
            }
            return;
        };
        if let Some(end) = training.end {
            return self.finish(index, end);
        }
        if is_draining {
            let committed = if is_first { self.store.commit(attempt, training.step) } else { Ok(()) };
            return match committed {
                Ok(()) => self.finish(index, Outcome::Stopped),
                Err(Superseded) => self.fail(index, "it is superseded"),
            };
        }
        let step = training.step;
        if is_first && self.is_whole(attempt, place.world) {
            return match self.step(index, attempt) {
                Ok(()) => {}
                Err(Superseded) => self.fail(index, "it is superseded"),
            };
        }
        match self.machines[index].ranks.last_mut() {
            Some(rank) if rank.told < step => {
                rank.told = step;
                self.progress(index, attempt, step);
            }
            _ => self.wait(index, attempt),
        }
    }

    fn step(&mut self, index: usize, attempt: u64) -> Result<(), Superseded> {
        let Some(training) = self.trainings.get_mut(&attempt) else { return Ok(()) };
        if std::mem::take(&mut training.is_to_tidy) {
            return self.store.keep(attempt, &training.kept);
        }
        if training.step == STEPS {
            let end = self.store.publish(attempt)?;
            training.end = Some(end);
            self.finish(index, end);
            return Ok(());
        }
        training.step += 1;
        let step = training.step;
        if step.is_multiple_of(CHECKPOINT_EVERY) {
            self.store.commit(attempt, step)?;
            training.kept.insert(0, step);
            training.kept.truncate(2);
            training.is_to_tidy = true;
            self.report(index, attempt, Report::CheckpointCommitted { step });
        }
        self.progress(index, attempt, step);
        Ok(())
    }

    fn progress(&mut self, index: usize, attempt: u64, step: u64) {
        self.machines[index].agent.rank_took(step);
        self.report(index, attempt, Report::Progress { step });
    }

    /// Waits for the others; before the first step that has a limit.
    fn wait(&mut self, index: usize, attempt: u64) {
        let Some(rank) = self.machines[index].ranks.last_mut() else { return };
        rank.waited += 1;
        if rank.waited > MOST_WAITS && rank.told == 0 {
            return self.fail(index, "the others did not come");
        }
        self.alive(index, attempt);
    }

    fn alive(&mut self, index: usize, attempt: u64) {
        let takes_steps = self.machines[index].agent.takes_steps();
        self.report(index, attempt, Report::Alive { takes_steps });
    }

    /// Looks whether the output is there, then prepares.
    fn is_prepared(&mut self, index: usize, attempt: u64) -> bool {
        let work = self.random.below(20);
        let Some(rank) = self.machines[index].ranks.last_mut() else { return false };
        match &mut rank.preparing {
            None if self.store.is_published => self.finish(index, Outcome::AlreadyFinished),
            None => rank.preparing = Some(work),
            Some(0) => return true,
            Some(left) => {
                *left -= 1;
                self.alive(index, attempt);
            }
        }
        false
    }

    /// Whether each rank of an attempt is there and well.
    fn is_whole(&self, attempt: u64, world: u32) -> bool {
        let ranks = self.machines.iter().flat_map(|machine| &machine.ranks);
        let well = ranks.filter(|rank| rank.attempt == attempt && rank.health == Health::Well);
        let places: BTreeSet<u32> = well.map(|rank| rank.place.first_rank).collect();
        places == (0..world).collect()
    }

    fn finish(&mut self, index: usize, outcome: Outcome) {
        self.machines[index].agent.rank_says(Report::Finished { outcome });
        self.fail(index, "never said, because it said something else");
    }

    fn fail(&mut self, index: usize, message: &str) {
        self.machines[index].ranks.pop();
        self.end_rank(index, crash(message));
    }

    /// Something goes wrong with a machine that is attached, or with the coordinator.
    pub(super) fn fault(&mut self, index: usize) {
        if self.faults == 0 || self.machines[index].is_cut_off {
            return;
        }
        self.faults -= 1;
        let id = self.machines[index].id.clone();
        match self.random.below(8) {
            0 if !self.machines[index].ranks.is_empty() => self.fail(index, "it crashed"),
            kind @ (1 | 2) => {
                // Preparing and loading may take as long as they like: there a rank that stands still cannot be told.
                let takes_steps = self.machines[index].agent.takes_steps();
                if let Some(rank) = self.machines[index].ranks.last_mut() {
                    rank.health = if kind == 1 && takes_steps { Health::Stuck } else { Health::Stopped };
                }
            }
            // The agent and its ranks are killed; another takes its place, and may not be told from it.
            3 => {
                let Told { is_leaving, .. } = self.machines.remove(index).told;
                self.replace(id, false);
                if let Some(replacement) = self.machines.last_mut() {
                    replacement.told.is_leaving = is_leaving;
                }
            }
            // Cut off: it counts as gone, but its ranks go on.
            4 if self.is_announced => {
                self.machines[index].told.is_leaving = true;
                self.observe(Observation::Leaving { agent: id });
            }
            4 => self.cut_off(index),
            // All at once, so that they can go on together.
            5 => {
                let cut: Vec<usize> = (0..self.machines.len()).filter(|at| !self.machines[*at].is_cut_off).collect();
                for index in cut {
                    self.cut_off(index);
                }
            }
            6 if self.is_announced && self.random.below(2) == 0 => {
                // The coordinator stands still, and sees how late it is before it listens.
                self.now += Duration::from_secs(1000);
                self.observe(Observation::TimePassed);
            }
            6 => self.restart_coordinator(),
            // The stream breaks; what is under way on it is lost, or comes late.
            _ => {
                self.machines[index].link = None;
                if self.is_announced {
                    self.machines[index].told.is_cut_off = true;
                    self.machines[index].dials_at = self.now + Duration::from_secs(self.random.below(300));
                    self.observe(Observation::CutOff { agent: id.clone() });
                }
                self.lose_commands(|command| command.agent == id);
                let random = &mut self.random;
                self.reports.retain(|(_, agent, ..)| *agent != id || random.below(2) == 0);
            }
        }
    }

    /// A machine counts as gone, though its ranks go on.
    pub(super) fn cut_off(&mut self, index: usize) {
        self.machines[index].is_cut_off = true;
        let id = self.machines[index].id.clone();
        self.observe(Observation::Lost { agent: id.clone() });
        self.replace(id, true);
    }

    /// Another machine comes for one that is gone: by another name at times, where the coordinator has been told.
    fn replace(&mut self, id: AgentId, is_told: bool) {
        self.lose_commands(|command| command.agent == id);
        let name = if is_told && self.random.below(2) == 0 { None } else { Some(id) };
        self.add_machine(name);
    }
}

fn crash(message: &str) -> Report {
    Report::Failed { cause: Cause::Internal, message: message.to_owned() }
}
