//! The checkpoint store of the simulation: claims, manifests and the output, as `palimpsest_store::Fence` guards them.

use std::collections::{BTreeMap, BTreeSet};

use crate::Outcome;
use crate::guards::{Guard, Guards};

/// What outlives every process. Whatever goes wrong in it is kept as harm.
#[derive(Debug)]
pub(super) struct Store {
    guards: Guards,
    /// Attempts and the processes that claimed them.
    claims: BTreeMap<u64, u64>,
    /// The steps of whole checkpoints.
    checkpoints: BTreeSet<u64>,
    newest_ever: u64,
    pub(super) is_published: bool,
    pub(super) harm: Option<String>,
}

/// A newer attempt has been claimed.
#[derive(Debug)]
pub(super) struct Superseded;

impl Store {
    pub(super) fn new(guards: Guards) -> Self {
        let checkpoints = BTreeSet::from([0]);
        Self { guards, claims: BTreeMap::new(), checkpoints, newest_ever: 0, is_published: false, harm: None }
    }

    pub(super) fn newest_attempt(&self) -> u64 {
        self.claims.last_key_value().map_or(0, |(attempt, _)| *attempt)
    }

    pub(super) fn newest_checkpoint(&self) -> u64 {
        self.checkpoints.last().copied().unwrap_or(0)
    }

    /// Gives the step to go on from.
    pub(super) fn claim(&mut self, attempt: u64, process: u64) -> Result<u64, Superseded> {
        if self.claims.contains_key(&attempt) {
            if self.guards.stands(Guard::ClaimedOnce) {
                return Err(Superseded);
            }
            self.harm(format!("attempt {attempt} was claimed twice"));
        }
        self.claims.insert(attempt, process);
        if self.newest_attempt() > attempt {
            return Err(Superseded);
        }
        if self.newest_checkpoint() < self.newest_ever {
            self.harm(format!("step {} was committed and is lost", self.newest_ever));
        }
        Ok(self.newest_checkpoint())
    }

    pub(super) fn commit(&mut self, attempt: u64, step: u64) -> Result<(), Superseded> {
        self.may(attempt, Guard::ClaimBeforeManifest, "wrote a manifest")?;
        self.checkpoints.insert(step);
        self.newest_ever = self.newest_ever.max(step);
        Ok(())
    }

    /// Deletes all checkpoints but some.
    pub(super) fn keep(&mut self, attempt: u64, kept: &[u64]) -> Result<(), Superseded> {
        self.may(attempt, Guard::ClaimBeforeDelete, "deleted checkpoints")?;
        self.checkpoints.retain(|step| kept.contains(step));
        Ok(())
    }

    pub(super) fn publish(&mut self, attempt: u64) -> Result<Outcome, Superseded> {
        self.may(attempt, Guard::ClaimBeforePublish, "published")?;
        if self.is_published {
            if self.guards.stands(Guard::PublishedAlready) {
                return Ok(Outcome::AlreadyFinished);
            }
            self.harm(format!("attempt {attempt} published again"));
        }
        self.is_published = true;
        Ok(Outcome::Succeeded)
    }

    fn may(&mut self, attempt: u64, guard: Guard, what: &str) -> Result<(), Superseded> {
        let newest = self.newest_attempt();
        if newest > attempt {
            if self.guards.stands(guard) {
                return Err(Superseded);
            }
            self.harm(format!("attempt {attempt} {what} although attempt {newest} was claimed"));
        }
        Ok(())
    }

    pub(super) fn harm(&mut self, what: String) {
        self.harm.get_or_insert(what);
    }
}
