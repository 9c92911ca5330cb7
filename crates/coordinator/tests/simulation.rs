//! Worlds with faults, each from a seed: agents that crash, vanish, dial again, and are heard of late.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use palimpsest_coordinator::{
    AgentId, Cause, Command, Config, Coordinator, Observation, Order, Outcome, Report, Standing, State,
};
use palimpsest_random::Stream;

const STEPS: u64 = 40;
const CHECKPOINT_EVERY: u64 = 5;

/// An agent as it is, not as the coordinator knows it.
#[derive(Debug, Default)]
struct Agent {
    is_attached: bool,
    /// The attempt that its rank is running, and whether it was told to stop.
    running: Option<(u64, bool)>,
}

struct World {
    random: Stream,
    coordinator: Coordinator,
    agents: BTreeMap<AgentId, Agent>,
    /// Commands under way: agents hear of them late, but in order.
    commands: VecDeque<Command>,
    /// Reports under way.
    reports: VecDeque<(AgentId, u64, Report)>,
    now: Duration,
    /// The newest checkpoint, in the store.
    checkpoint: u64,
    /// The step of each attempt's ranks: they step together.
    step: u64,
    is_published: bool,
    newest_run: u64,
    faults: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Stream::new(seed, "simulation", &[]);
        let agents = 1 + random.below(3) as usize;
        let config = Config {
            agents,
            last_attempt: random.below(3),
            backoff_limit: 1000,
            start_timeout: Duration::from_secs(1_000_000),
            active_deadline: None,
            termination: Duration::from_secs(30),
        };
        Self {
            coordinator: Coordinator::new(config, Duration::ZERO),
            agents: (0..agents).map(|index| (AgentId(format!("agent-{index}")), Agent::default())).collect(),
            random,
            commands: VecDeque::new(),
            reports: VecDeque::new(),
            now: Duration::ZERO,
            checkpoint: 0,
            step: 0,
            is_published: false,
            newest_run: 0,
            faults: 30,
        }
    }

    fn observe(&mut self, observation: Observation) {
        let was_end = self.coordinator.state().is_end();
        let attempt = self.coordinator.attempt();
        let commands = self.coordinator.observe(self.now, observation);
        assert!(self.coordinator.attempt() >= attempt, "attempts only grow");
        for command in &commands {
            match command.order {
                Order::Join { .. } | Order::RunPlan => {
                    assert!(!was_end, "an end is an end");
                    assert_eq!(command.attempt, self.coordinator.attempt(), "only the newest attempt is begun");
                }
                Order::Abort => assert!(command.attempt <= self.coordinator.attempt()),
                Order::Checkpoint | Order::Drain => assert!(!was_end),
            }
        }
        self.commands.extend(commands);
    }

    /// One thing happens.
    fn turn(&mut self) {
        self.now += Duration::from_millis(self.random.below(2000));
        let index = self.random.below(self.agents.len() as u64) as usize;
        let Some(id) = self.agents.keys().nth(index).cloned() else { return };
        match self.random.below(12) {
            0..=2 => self.deliver_command(),
            3..=6 => self.deliver_report(),
            7..=9 => self.step(&id),
            10 => self.observe(Observation::TimePassed),
            _ => self.dial_or_fault(&id),
        }
    }

    fn deliver_command(&mut self) {
        let Some(command) = self.commands.pop_front() else { return };
        let Some(agent) = self.agents.get_mut(&command.agent).filter(|agent| agent.is_attached) else { return };
        match command.order {
            Order::RunPlan if agent.running.is_none() => {
                agent.running = Some((command.attempt, false));
                if command.attempt > self.newest_run {
                    self.newest_run = command.attempt;
                    self.step = self.checkpoint;
                }
            }
            Order::RunPlan => assert_eq!(agent.running.map(|(attempt, _)| attempt), Some(command.attempt)),
            Order::Drain => {
                if let Some((attempt, is_told)) = &mut agent.running
                    && *attempt == command.attempt
                {
                    *is_told = true;
                }
            }
            Order::Abort => {
                if agent.running.is_some_and(|(attempt, _)| attempt == command.attempt) {
                    agent.running = None;
                    self.fail(&command.agent.clone(), command.attempt, "aborted");
                }
            }
            Order::Join { .. } | Order::Checkpoint => {}
        }
    }

    fn deliver_report(&mut self) {
        let Some((agent, attempt, report)) = self.reports.pop_front() else { return };
        let is_attached = self.agents.get(&agent).is_some_and(|agent| agent.is_attached);
        if is_attached {
            self.observe(Observation::Reported { agent, attempt, report });
        }
    }

    fn fail(&mut self, agent: &AgentId, attempt: u64, message: &str) {
        let report = Report::Failed { cause: Cause::Internal, message: message.to_owned() };
        self.reports.push_back((agent.clone(), attempt, report));
    }

    /// A rank takes a step. The step is taken when the last of the ranks does: the agent with the last name stands for it.
    fn step(&mut self, id: &AgentId) {
        let all_run =
            self.agents.values().all(|agent| agent.running.is_some_and(|(attempt, _)| attempt == self.newest_run));
        let is_last = self.agents.keys().last() == Some(id);
        let Some((attempt, is_told)) = self.agents[id].running else { return };
        if self.step >= STEPS || (self.is_published && attempt == self.newest_run) {
            // Whoever comes late to the end finds the output there.
            let is_whole = all_run || self.is_published;
            if attempt == self.newest_run && is_whole {
                self.is_published = true;
                self.end(id, attempt, Outcome::Succeeded);
            }
        } else if is_told {
            self.checkpoint = self.checkpoint.max(self.step);
            self.end(id, attempt, Outcome::Stopped);
        } else if all_run && is_last {
            self.step += 1;
            self.reports.push_back((id.clone(), attempt, Report::Progress { step: self.step }));
            if self.step.is_multiple_of(CHECKPOINT_EVERY) {
                self.checkpoint = self.step;
                self.reports.push_back((id.clone(), attempt, Report::CheckpointCommitted { step: self.step }));
            }
        }
    }

    fn end(&mut self, id: &AgentId, attempt: u64, outcome: Outcome) {
        self.reports.push_back((id.clone(), attempt, Report::Finished { outcome }));
        if let Some(agent) = self.agents.get_mut(id) {
            agent.running = None;
        }
    }

    fn dial_or_fault(&mut self, id: &AgentId) {
        if !self.agents[id].is_attached {
            // What was sent on the stream before is lost with it.
            self.forget(id);
        }
        let Some(agent) = self.agents.get_mut(id) else { return };
        if !agent.is_attached {
            agent.is_attached = true;
            let standing = agent.running.map_or(Standing::Idle, |(attempt, _)| Standing::Running { attempt });
            self.observe(Observation::Attached { agent: id.clone(), local_ranks: 1, standing });
            return;
        }
        if self.faults == 0 {
            return;
        }
        self.faults -= 1;
        match self.random.below(3) {
            // The rank crashes.
            0 => {
                if let Some((attempt, _)) = agent.running.take() {
                    self.fail(id, attempt, "crashed");
                }
            }
            // The machine goes, and is seen to go.
            1 => {
                *agent = Agent::default();
                self.forget(id);
                self.observe(Observation::Lost { agent: id.clone() });
            }
            // The stream breaks and is dialled again; what was under way on it is lost. The agent tells the end of its
            // ranks again after its hello.
            _ => {
                agent.is_attached = false;
                let ends: Vec<_> =
                    self.reports.iter().filter(|(agent, _, report)| agent == id && is_end(report)).cloned().collect();
                self.forget(id);
                if let Some((agent, attempt, report)) = ends.last().cloned() {
                    let standing = Standing::Running { attempt };
                    if let Some(agent) = self.agents.get_mut(id) {
                        agent.is_attached = true;
                    }
                    self.observe(Observation::Attached { agent: id.clone(), local_ranks: 1, standing });
                    self.reports.push_back((agent, attempt, report));
                }
            }
        }
    }

    fn forget(&mut self, id: &AgentId) {
        self.commands.retain(|command| command.agent != *id);
        self.reports.retain(|(agent, _, _)| agent != id);
    }
}

fn is_end(report: &Report) -> bool {
    matches!(report, Report::Finished { .. } | Report::Failed { .. })
}

#[test]
fn every_world_whose_faults_end_comes_to_its_end() {
    let mut restarts = 0;
    for seed in 0..2000 {
        let mut world = World::new(seed);
        let mut turns = 0;
        while !world.coordinator.state().is_end() {
            world.turn();
            turns += 1;
            assert!(turns < 200_000, "seed {seed}: {:?} {:?}", world.coordinator, world.agents);
        }
        assert_eq!(world.coordinator.state(), &State::Succeeded { already: false }, "seed {seed}");
        assert!(world.is_published, "seed {seed}: nothing succeeds without an output");
        restarts += world.coordinator.restarts();
    }
    assert!(restarts > 2000, "the faults do something: {restarts} restarts");
}

#[test]
fn every_world_that_is_told_to_stop_stops_or_has_ended() {
    let mut stopped = 0;
    for seed in 0..2000 {
        let mut world = World::new(seed);
        let turn_of_the_stop = world.random.below(400);
        for turn in 0..20_000 {
            if turn == turn_of_the_stop {
                world.observe(Observation::StopRequested);
            }
            world.turn();
        }
        let state = world.coordinator.state();
        assert!(matches!(state, State::Stopped | State::Succeeded { .. }), "seed {seed}: {state:?}");
        stopped += u32::from(*state == State::Stopped);
    }
    assert!(stopped > 1000, "{stopped} of 2000 were stopped before their end");
}
