//! Ranks that hang are brought down: nothing is heard of them, or they live and take no steps.

use std::time::Duration;

use super::{Agent, Coordinator, Doing};
use crate::guards::Guard;
use crate::pulse::Hang;
use crate::{AgentId, Command, State};

/// Being told of the time so much later than asked means that this process itself stood still. It heard nobody then.
const ABSENCE: Duration = Duration::from_secs(3);

impl Coordinator {
    /// Brings down ranks that hang; that counts as a crash.
    pub(super) fn notice_hang(&mut self, now: Duration, commands: &mut Vec<Command>) {
        if self.state != State::Running {
            return;
        }
        let Some((due, hang, id)) = self.next_hang().filter(|(due, ..)| now >= *due) else { return };
        if now > due + ABSENCE && self.guards.stands(Guard::Absence) {
            for agent in self.agents.values_mut() {
                agent.pulse.forgive(now);
            }
            return;
        }
        if let Some(already) = self.success {
            // What matters is done.
            return self.end(State::Succeeded { already }, commands);
        }
        let message = match hang {
            Hang::Silence => format!("the ranks of {id} hang: nothing is heard of them"),
            Hang::Standstill => format!("the ranks of {id} hang: a step takes far longer than those before"),
        };
        self.crash(now, message, commands);
    }

    /// Which agent's ranks will count as hanging first, and when.
    pub(super) fn next_hang(&self) -> Option<(Duration, Hang, AgentId)> {
        let is_excused = |agent: &Agent| agent.is_cut_off && self.guards.stands(Guard::CutOffIsNoHang);
        let is_judged = |agent: &Agent| matches!(agent.doing, Doing::Running { .. }) && !is_excused(agent);
        let running = self.agents.iter().filter(|(_, agent)| is_judged(agent));
        let due = running.map(|(id, agent)| {
            let (due, hang) = agent.pulse.due(&self.config.patience);
            (due, hang, id)
        });
        let watched = due.filter(|(_, hang, _)| match hang {
            Hang::Silence => self.guards.stands(Guard::Silence),
            Hang::Standstill => self.guards.stands(Guard::Standstill),
        });
        watched.min_by_key(|(due, ..)| *due).map(|(due, hang, id)| (due, hang, id.clone()))
    }
}
