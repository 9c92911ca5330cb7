//! A world with faults, from a seed: one coordinator, machines, the streams between them, and the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palimpsest_random::Stream;

use super::machine::{Health, Machine, Told};
use super::store::Store;
use super::training::Training;
use crate::guards::{Guard, Guards};
use crate::{AgentId, Command, Config, Coordinator, Observation, Order, Patience, Place, Report, Standing, State};

pub(super) struct World {
    pub(super) random: Stream,
    pub(super) guards: Guards,
    pub(super) now: Duration,
    pub(super) coordinator: Coordinator,
    pub(super) machines: Vec<Machine>,
    pub(super) store: Store,
    pub(super) trainings: BTreeMap<u64, Training>,
    /// Under way, with the stream that they were sent on.
    pub(super) commands: Vec<(u64, Command)>,
    pub(super) reports: Vec<(u64, AgentId, u64, Report)>,
    pub(super) names: u64,
    pub(super) links: u64,
    pub(super) processes: u64,
    pub(super) faults: u64,
    /// Whether the coordinator is told that a machine will be taken away before it is, and that a stream has ended. Streams may
    /// stay so for long then, and the coordinator may stand still.
    pub(super) is_announced: bool,
    agents: usize,
    /// The newest attempt that this coordinator can know of.
    known: u64,
    /// Whether there is a status: a cluster has one, `palimpsest run` none.
    has_status: bool,
    /// What is written there of the crashes and the newest checkpoint, for the next coordinator to read.
    status: (u32, Option<u64>),
    /// Attempts that crashed since the newest checkpoint that anybody was told of, whoever coordinated them.
    crashes: u32,
    told_checkpoint: Option<u64>,
    /// Who was told to abort which attempt, since it attached.
    aborted: BTreeSet<(AgentId, u64)>,
    /// Whom any coordinator gave which place.
    pub(super) places: Vec<(AgentId, u64, Place)>,
    /// A coordinator that has just begun an attempt is about to be replaced.
    is_about_to_restart: bool,
}

impl World {
    pub(super) fn new(seed: u64, guards: Guards) -> Self {
        let mut random = Stream::new(seed, "simulation", &[]);
        let agents = 1 + random.below(8) as usize;
        let mut world = Self {
            coordinator: Coordinator::guarded(mk_config(agents, 0), Duration::ZERO, guards),
            machines: Vec::new(),
            store: Store::new(guards),
            trainings: BTreeMap::new(),
            commands: Vec::new(),
            reports: Vec::new(),
            now: Duration::ZERO,
            names: 0,
            links: 0,
            processes: 0,
            faults: 10 + random.below(20),
            is_announced: false,
            random,
            guards,
            agents,
            known: 0,
            has_status: !seed.is_multiple_of(2),
            status: (0, None),
            crashes: 0,
            told_checkpoint: None,
            aborted: BTreeSet::new(),
            places: Vec::new(),
            is_about_to_restart: false,
        };
        for _ in 0..agents {
            world.add_machine(None);
        }
        world
    }

    /// A machine that is to attach, with a name of before or one whose order among the others is anybody's guess.
    pub(super) fn add_machine(&mut self, name: Option<AgentId>) {
        self.names += 1;
        let name = name.unwrap_or_else(|| AgentId(format!("agent-{}-{}", self.random.below(10), self.names)));
        self.machines.push(Machine::new(name, self.guards));
    }

    /// What was seen to go wrong.
    pub(super) fn harm(&self) -> Option<String> {
        self.store.harm.clone()
    }

    /// One thing happens.
    pub(super) fn turn(&mut self) {
        self.now += Duration::from_millis(self.random.below(200));
        self.machines.retain(|machine| !machine.is_cut_off || !machine.ranks.is_empty());
        if let Some(leaving) = self.machines.iter().position(|machine| machine.told.is_leaving && !machine.is_cut_off)
            && self.random.below(100) == 0
        {
            self.cut_off(leaving);
        }
        let index = self.random.below(self.machines.len() as u64) as usize;
        match self.random.below(12) {
            0..=1 => self.deliver_command(),
            2..=6 => self.deliver_report(),
            7..=9 => self.act(index),
            10 => self.observe(Observation::TimePassed),
            _ if self.machines[index].link.is_none() => self.dial(index),
            _ if self.is_about_to_restart => self.restart_coordinator(),
            _ => self.fault(index),
        }
    }

    /// Lets the coordinator observe, and looks at what it says.
    pub(super) fn observe(&mut self, observation: Observation) {
        let before = (self.coordinator.state().clone(), self.coordinator.attempt());
        let knew_of_success = self.coordinator.knows_of_success();
        let crashed_before = self.coordinator.crash_of().map(|(attempt, _)| attempt);
        let commands = self.coordinator.observe(self.now, observation);
        self.judge_crash(crashed_before);
        self.count_crashes(crashed_before);
        let attempt = self.coordinator.attempt();
        if attempt < before.1 {
            self.store.harm(format!("attempt {attempt} follows {}", before.1));
        }
        for command in commands {
            self.judge(&command, before.0.is_end() || knew_of_success);
            let machine = self.machines.iter().find(|machine| machine.id == command.agent && !machine.is_cut_off);
            if let Some(link) = machine.and_then(|machine| machine.link) {
                self.commands.push((link, command));
            }
        }
        let is_taken_over = matches!(before.0, State::Waiting { .. })
            && *self.coordinator.state() == State::Running
            && attempt == before.1;
        if is_taken_over && self.aborted.iter().any(|(_, aborted)| *aborted == attempt) {
            self.store.harm(format!("attempt {attempt} was aborted, and taken over"));
        }
    }

    /// Ranks that are well count as hanging neither because nobody listened, nor because they cannot be heard.
    fn judge_crash(&mut self, crashed_before: Option<u64>) {
        let Some((_, why)) = self.coordinator.crash_of().filter(|(attempt, _)| crashed_before != Some(*attempt)) else {
            return;
        };
        let is_meant =
            |machine: &&Machine| why == format!("the ranks of {} hang: nothing is heard of them", machine.id);
        let Some(machine) = self.machines.iter().filter(|machine| !machine.is_cut_off).find(is_meant) else { return };
        if machine.told.is_cut_off || machine.ranks.last().is_some_and(|rank| rank.health == Health::Well) {
            self.store.harm(why.to_owned());
        }
    }

    /// A job that crashes again and again on its way to a checkpoint fails one day, however often its coordinator is replaced.
    fn count_crashes(&mut self, crashed_before: Option<u64>) {
        if self.coordinator.checkpoint() > self.told_checkpoint {
            self.told_checkpoint = self.coordinator.checkpoint();
            self.crashes = 0;
        }
        let crashed = self.coordinator.crash_of().map(|(attempt, _)| attempt);
        self.crashes += u32::from(crashed != crashed_before);
        let counted = self.coordinator.crashes();
        // One attempt may crash twice, where an agent that was taken for gone came back with its ranks.
        if self.has_status && counted < self.crashes {
            self.store.harm(format!("{counted} crashes are counted, and there were {}", self.crashes));
        }
        if self.has_status {
            self.status = (counted, self.coordinator.checkpoint());
        }
    }

    fn judge(&mut self, command: &Command, was_over: bool) {
        let attempt = command.attempt;
        match command.order {
            Order::Join { first_rank, local_ranks, world } => {
                self.places.push((command.agent.clone(), attempt, Place { first_rank, local_ranks, world }));
                if world as usize != self.agents {
                    self.store.harm(format!("attempt {attempt} has {world} of {} ranks", self.agents));
                }
                self.known = self.known.max(attempt - 1);
                if attempt <= self.known {
                    self.store.harm(format!("attempt {attempt} is begun although {} is known", self.known));
                }
                if let Some(leaving) =
                    self.machines.iter().find(|machine| machine.told.is_leaving && !machine.is_cut_off)
                {
                    self.store.harm(format!("attempt {attempt} is begun while {} is being taken away", leaving.id));
                }
                if was_over {
                    self.store.harm(format!("attempt {attempt} follows the end"));
                }
                if self.faults > 0 && self.random.below(10) == 0 {
                    self.faults -= 1;
                    self.is_about_to_restart = true;
                }
                let is_running = |machine: &&Machine| {
                    machine.link.is_some()
                        && !machine.is_cut_off
                        && machine.ranks.iter().any(|rank| !rank.is_late && rank.attempt < attempt)
                };
                if let Some(machine) = self.machines.iter().find(is_running) {
                    let id = &machine.id;
                    self.store.harm(format!("attempt {attempt} is begun while {id} still runs another"));
                }
            }
            Order::Abort => {
                self.aborted.insert((command.agent.clone(), attempt));
            }
            Order::RunPlan | Order::Checkpoint | Order::Drain => {}
        }
    }

    pub(super) fn dial(&mut self, index: usize) {
        if self.machines[index].is_cut_off || self.machines[index].dials_at > self.now {
            return;
        }
        self.links += 1;
        self.machines[index].link = Some(self.links);
        self.machines[index].told.is_cut_off = false;
        let id = self.machines[index].id.clone();
        self.aborted.retain(|(aborted, _)| *aborted != id);
        let greeting = self.machines[index].agent.greeting();
        if let Standing::Running { attempt } = greeting.standing {
            self.known = self.known.max(attempt);
        }
        self.observe(Observation::Attached { agent: id.clone(), local_ranks: 1, standing: greeting.standing });
        if let Some((attempt, report)) = greeting.end {
            self.reports.push((self.links, id, attempt, report));
        }
    }

    /// Mostly the oldest; now and then another one comes first, or it comes twice.
    fn deliver_report(&mut self) {
        if self.reports.is_empty() {
            return;
        }
        let index = if self.random.below(10) == 0 { self.random.below(self.reports.len() as u64) as usize } else { 0 };
        let (_, agent, attempt, report) = self.reports[index].clone();
        if self.faults == 0 || self.random.below(10) > 0 {
            self.reports.remove(index);
        }
        self.observe(Observation::Reported { agent, attempt, report });
    }

    fn deliver_command(&mut self) {
        if self.commands.is_empty() {
            return;
        }
        let index = if self.random.below(4) == 0 { self.random.below(self.commands.len() as u64) as usize } else { 0 };
        let (link, command) = self.commands[index].clone();
        if self.faults == 0 || self.random.below(10) > 0 {
            self.commands.remove(index);
        }
        let meant = |machine: &Machine| machine.id == command.agent && !machine.is_cut_off;
        let Some(index) = self.machines.iter().position(meant) else { return };
        let is_late = self.machines[index].link != Some(link);
        self.command(index, &command, is_late);
    }

    /// Another coordinator takes over, and has nothing but what it can read back.
    pub(super) fn restart_coordinator(&mut self) {
        self.is_about_to_restart = false;
        let known = self.store.newest_attempt();
        let last_attempt = if self.guards.stands(Guard::AttemptFromStore) { known } else { 0 };
        let (crashes, checkpoint) = self.status;
        let config = Config {
            crashes: if self.guards.stands(Guard::CrashesReadBack) { crashes } else { 0 },
            checkpoint,
            ..mk_config(self.agents, last_attempt)
        };
        self.coordinator = Coordinator::guarded(config, self.now, self.guards);
        self.known = known;
        self.aborted.clear();
        self.reports.clear();
        for index in 0..self.machines.len() {
            self.machines[index].link = None;
            self.machines[index].told = Told::default();
        }
        self.lose_commands(|_| true);
    }

    /// Commands that are under way are lost, or come late.
    pub(super) fn lose_commands(&mut self, is_meant: impl Fn(&Command) -> bool) {
        let random = &mut self.random;
        self.commands.retain(|(_, command)| !is_meant(command) || random.below(2) == 0);
    }
}

fn mk_config(agents: usize, last_attempt: u64) -> Config {
    Config {
        agents,
        last_attempt,
        checkpoint: None,
        crashes: 0,
        crashed: None,
        under_way: None,
        backoff_limit: 1000,
        start_timeout: Duration::from_secs(1_000_000),
        active_deadline: None,
        termination: Duration::from_secs(30),
        patience: Patience {
            first_sign: Duration::from_secs(150),
            silence: Duration::from_secs(150),
            first_step: Duration::from_secs(400),
            step: Duration::from_secs(300),
        },
    }
}
