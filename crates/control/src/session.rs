//! A job under way: its coordinator, and the streams to its agents.

use std::collections::BTreeMap;
use std::time::Duration;

use palimpsest_coordinator::{AgentId, Command, Config, Coordinator, Observation, Standing};
use palimpsest_proto::control::{self, command, report};

use crate::heard::{Attached, Commands, LinkId, Reported};
use crate::translate::{command_of, observed};

/// A job under way. The driver turns what it hears into observations here, and has them observed: so it sees each first.
#[derive(Debug)]
pub struct Session {
    coordinator: Coordinator,
    job_uid: String,
    plan: control::RunPlan,
    /// The newest stream of each agent.
    links: BTreeMap<AgentId, (LinkId, Commands)>,
}

impl Session {
    /// A job that begins, or goes on, at `now`: its agents are given `plan`.
    pub fn new(config: Config, job_uid: &str, plan: control::RunPlan, now: Duration) -> Self {
        Self { coordinator: Coordinator::new(config, now), job_uid: job_uid.to_owned(), plan, links: BTreeMap::new() }
    }

    /// What decides.
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// The job's UID, which every command carries.
    pub fn job_uid(&self) -> &str {
        &self.job_uid
    }

    /// Whether an agent has a stream.
    pub fn is_attached(&self, agent: &AgentId) -> bool {
        self.links.contains_key(agent)
    }

    /// Takes an agent's stream; one that it had before is ended. An agent that runs another job is given back.
    pub fn attach(&mut self, attached: Attached) -> Result<Observation, Box<Attached>> {
        if attached.attempt.as_ref().is_some_and(|attempt| attempt.job_uid != self.job_uid) {
            return Err(Box::new(attached));
        }
        let Attached { link, hello, attempt, commands, .. } = attached;
        let agent = AgentId(hello.agent);
        self.links.insert(agent.clone(), (link, commands));
        let standing = attempt.map_or(Standing::Idle, |attempt| Standing::Running { attempt: attempt.number });
        Ok(Observation::Attached { agent, local_ranks: hello.local_ranks, standing })
    }

    /// Forgets a stream that has ended; gives whose it was, if it was an agent's newest.
    pub fn detach(&mut self, link: LinkId) -> Option<AgentId> {
        let (agent, _) = self.links.iter().find(|(_, (newest, _))| *newest == link)?;
        let agent = agent.clone();
        self.links.remove(&agent);
        Some(agent)
    }

    /// What a report means to the coordinator, if anything. One by a stream that the agent has replaced means nothing.
    pub fn report(&self, reported: &Reported) -> Option<Observation> {
        let (agent, _) = self.links.iter().find(|(_, (link, _))| *link == reported.link)?;
        if matches!(reported.report, report::Report::Leaving(_)) {
            return Some(Observation::Leaving { agent: agent.clone() });
        }
        if reported.attempt.job_uid != self.job_uid {
            return None;
        }
        let report = observed(&reported.report)?;
        Some(Observation::Reported { agent: agent.clone(), attempt: reported.attempt.number, report })
    }

    /// Has the coordinator observe, and carries its commands to the agents.
    pub fn observe(&mut self, now: Duration, observation: Observation) {
        if let Observation::Lost { agent } = &observation {
            self.links.remove(agent);
        }
        for command in self.coordinator.observe(now, observation) {
            self.send(command);
        }
    }

    /// Tells all agents that nobody needs them any more.
    pub fn dismiss(&self) {
        for (_, commands) in self.links.values() {
            commands.send(self.message(self.coordinator.attempt(), command::Command::Leave(control::Leave {})));
        }
    }

    /// Sends a command. One that cannot be sent was for an agent that is about to be heard of again, or as gone.
    fn send(&mut self, command: Command) {
        let Some((_, commands)) = self.links.get(&command.agent) else { return };
        if !commands.send(self.message(command.attempt, command_of(command.order, &self.plan))) {
            self.links.remove(&command.agent);
        }
    }

    fn message(&self, number: u64, command: command::Command) -> control::Command {
        let attempt = Some(control::Attempt { job_uid: self.job_uid.clone(), number });
        control::Command { attempt, command: Some(command) }
    }
}
