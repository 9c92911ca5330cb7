//! The state machine.

mod crashes;
mod hangs;
mod takeover;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::guards::{Guard, Guards};
use crate::pulse::Pulse;
use crate::{AgentId, Cause, Command, Config, Observation, Order, Outcome, Report, Standing, State};

/// How long ranks that are told to stop at once may take.
const ABORT_GRACE: Duration = Duration::from_secs(10);

/// Decides what the agents of one job do next.
#[derive(Clone, Debug)]
pub struct Coordinator {
    config: Config,
    state: State,
    agents: BTreeMap<AgentId, Agent>,
    attempt: u64,
    /// The newest attempt that anybody was heard to run: a coordinator before this one may have begun more than it knew of.
    heard: u64,
    started: Duration,
    /// Crashes since a checkpoint was committed that was newer than any before.
    crashes: u32,
    restarts: u32,
    disruptions: u32,
    /// Why the newest attempt ends, where an agent of it is taken away.
    disruption: Option<String>,
    /// Why the newest attempt that crashed did so.
    crash: Option<(u64, String)>,
    step: u64,
    checkpoint: Option<u64>,
    /// Whether ranks have told that the output is published, and if so, whether it was there before.
    success: Option<bool>,
    guards: Guards,
}

#[derive(Clone, Debug)]
struct Agent {
    local_ranks: u32,
    doing: Doing,
    /// Whether it was told to abort since it attached.
    is_aborting: bool,
    /// Whether its machine is being taken away.
    is_leaving: bool,
    /// Whether nothing can be heard of it until it attaches again, whatever its ranks do.
    is_cut_off: bool,
    pulse: Pulse,
}

/// What is known of an agent's ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Idle,
    Running { attempt: u64 },
}

impl Coordinator {
    /// Of a job that begins, or goes on, at `now`.
    pub fn new(config: Config, now: Duration) -> Self {
        Self::guarded(config, now, Guards::default())
    }

    pub(crate) fn guarded(config: Config, now: Duration, guards: Guards) -> Self {
        Self {
            state: State::Waiting { until: now + config.start_timeout },
            attempt: config.last_attempt,
            heard: config.last_attempt,
            agents: BTreeMap::new(),
            started: now,
            crashes: config.crashes,
            restarts: 0,
            disruptions: 0,
            disruption: None,
            crash: None,
            step: 0,
            checkpoint: config.checkpoint,
            success: None,
            guards,
            config,
        }
    }

    /// Where the job stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The newest attempt.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// How often the whole was, or is to be, started anew after a crash.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// How often the whole was, or is to be, started anew because a machine was taken away.
    pub fn disruptions(&self) -> u32 {
        self.disruptions
    }

    /// How often something crashed since a checkpoint was committed that was newer than any before.
    pub fn crashes(&self) -> u32 {
        self.crashes
    }

    /// The newest crash: its attempt, or the one before where that was not begun yet, and why.
    pub fn crash_of(&self) -> Option<(u64, &str)> {
        self.crash.as_ref().map(|(attempt, message)| (*attempt, message.as_str()))
    }

    /// The newest step that was reported.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The step of the newest checkpoint that was reported.
    pub fn checkpoint(&self) -> Option<u64> {
        self.checkpoint
    }

    /// Whether it was told that the output is published.
    #[cfg(test)]
    pub(crate) fn knows_of_success(&self) -> bool {
        self.success.is_some()
    }

    /// When time alone changes something: [`Observation::TimePassed`] is due then.
    pub fn next_deadline(&self) -> Option<Duration> {
        let of_state = match &self.state {
            State::Waiting { until }
            | State::BackingOff { until, .. }
            | State::Draining { until }
            | State::Aborting { until } => Some(*until),
            State::Running => self.next_hang().map(|(due, ..)| due),
            State::Succeeded { .. } | State::Failed { .. } | State::Stopped => return None,
        };
        of_state.into_iter().chain(self.active_deadline()).min()
    }

    /// Takes in what was seen at `now` and gives what the agents are to do, in order.
    pub fn observe(&mut self, now: Duration, observation: Observation) -> Vec<Command> {
        let mut commands = Vec::new();
        match observation {
            Observation::Attached { agent, local_ranks, standing } => {
                self.attach(now, agent, local_ranks, standing, &mut commands);
            }
            Observation::Leaving { agent } => self.leave(&agent, &mut commands),
            Observation::CutOff { agent } => {
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.is_cut_off = true;
                }
            }
            Observation::Lost { agent } => self.lose(now, &agent, &mut commands),
            Observation::Reported { agent, attempt, report } => {
                self.take_report(now, &agent, attempt, report, &mut commands);
            }
            Observation::CrashedBeforehand { message } => self.crash_beforehand(now, message, &mut commands),
            Observation::DisruptedBeforehand => self.disrupt_beforehand(),
            Observation::LimitChanged { backoff_limit } => self.config.backoff_limit = backoff_limit,
            Observation::StopRequested => self.stop(now, &mut commands),
            Observation::AbortRequested => self.abort(now, &mut commands),
            Observation::TimePassed => {}
        }
        self.settle(now, &mut commands);
        commands
    }

    fn attach(
        &mut self,
        now: Duration,
        id: AgentId,
        local_ranks: u32,
        standing: Standing,
        commands: &mut Vec<Command>,
    ) {
        let doing = match standing {
            Standing::Idle => Doing::Idle,
            Standing::Running { attempt } => Doing::Running { attempt },
        };
        // One that is taken away stays so, however often it dials.
        let is_leaving = self.agents.get(&id).is_some_and(|agent| agent.is_leaving);
        let agent =
            Agent { local_ranks, doing, is_aborting: false, is_leaving, is_cut_off: false, pulse: Pulse::new(now) };
        let before = self.agents.insert(id.clone(), agent);
        let was_running = before.is_some_and(|agent| agent.doing == Doing::Running { attempt: self.attempt });
        if was_running
            && doing != (Doing::Running { attempt: self.attempt })
            && self.guards.stands(Guard::CameBackWithout)
        {
            self.crash(now, format!("{id} came back without its ranks"), commands);
        }
        let Standing::Running { attempt } = standing else { return };
        self.take_up(attempt);
        if attempt > self.attempt && self.guards.stands(Guard::NewerAttempt) {
            // Whatever this coordinator began meanwhile is older, and ends.
            self.attempt = attempt;
            if !self.state.is_end() && !self.is_stopping() {
                self.state = State::Waiting { until: now + self.config.start_timeout };
            }
            self.abort_where(|running| running < attempt, commands);
        }
        match self.state {
            State::Waiting { .. } | State::Running => {}
            State::Draining { .. } => commands.push(Command { agent: id, attempt, order: Order::Drain }),
            _ => self.abort_late_comer(attempt, commands),
        }
    }

    fn abort_late_comer(&mut self, attempt: u64, commands: &mut Vec<Command>) {
        if !self.state.is_end() || self.guards.stands(Guard::NothingAfterTheEnd) {
            self.abort_where(|running| running == attempt, commands);
        }
    }

    /// The ranks of all write a checkpoint together while they still can.
    fn leave(&mut self, id: &AgentId, commands: &mut Vec<Command>) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        agent.is_leaving = true;
        let takes_part = agent.doing == (Doing::Running { attempt: self.attempt });
        if self.state == State::Running && takes_part && self.disruption.is_none() {
            self.disruption = Some(format!("{id} is taken away"));
            self.drain(commands);
        }
    }

    fn lose(&mut self, now: Duration, id: &AgentId, commands: &mut Vec<Command>) {
        let Some(agent) = self.agents.remove(id) else { return };
        if agent.doing == (Doing::Running { attempt: self.attempt }) {
            self.crash(now, format!("{id} is gone"), commands);
        }
    }

    fn take_report(&mut self, now: Duration, id: &AgentId, attempt: u64, report: Report, commands: &mut Vec<Command>) {
        if self.guards.stands(Guard::NumberHeardOf) {
            self.heard = self.heard.max(attempt);
        }
        let Some(agent) = self.agents.get_mut(id) else { return };
        if agent.doing != (Doing::Running { attempt }) && self.guards.stands(Guard::LateReport) {
            let lives = !matches!(report, Report::Finished { .. } | Report::Failed { .. });
            if self.state.is_end() && lives && self.guards.stands(Guard::NothingAfterTheEnd) {
                // Started by a command that a coordinator before this one gave.
                commands.push(Command { agent: id.clone(), attempt, order: Order::Abort });
            }
            return;
        }
        agent.pulse.hear(now);
        // An older attempt's report only tells that its ranks are gone.
        let is_newest = attempt == self.attempt || !self.guards.stands(Guard::LateReport);
        match report {
            Report::Alive { takes_steps } => agent.pulse.enter(now, takes_steps),
            Report::Progress { step } if is_newest => {
                agent.pulse.step(now);
                // It may come after one of a later step.
                self.step = self.step.max(step);
            }
            Report::CheckpointCommitted { step } if is_newest => {
                // A crash on the way to the same checkpoint again and again is not undone by reaching it.
                if self.checkpoint.is_none_or(|newest| step > newest) {
                    self.checkpoint = Some(step);
                    self.crashes = 0;
                }
                self.step = self.step.max(step);
            }
            Report::Progress { .. } | Report::CheckpointCommitted { .. } => {}
            Report::Finished { outcome } => {
                agent.doing = Doing::Idle;
                match outcome {
                    Outcome::Succeeded if is_newest => self.success = Some(false),
                    Outcome::AlreadyFinished if is_newest => self.success = self.success.or(Some(true)),
                    Outcome::Stopped if is_newest => {
                        self.crash(now, format!("the ranks of {id} stopped without being told to"), commands);
                    }
                    _ => {}
                }
            }
            Report::Failed { cause, message } => {
                agent.doing = Doing::Idle;
                if is_newest {
                    self.fail(now, cause, message, commands);
                }
            }
        }
    }

    fn fail(&mut self, now: Duration, cause: Cause, message: String, commands: &mut Vec<Command>) {
        match cause {
            Cause::User if !self.state.is_end() => self.end(State::Failed { cause, message }, commands),
            Cause::User => {}
            Cause::Internal => self.crash(now, message, commands),
        }
    }

    fn stop(&mut self, now: Duration, commands: &mut Vec<Command>) {
        match self.state {
            State::Running => {
                self.drain(commands);
                self.state = State::Draining { until: now + self.config.termination };
            }
            State::Waiting { .. } | State::BackingOff { .. } => self.abort(now, commands),
            _ => {}
        }
    }

    fn drain(&self, commands: &mut Vec<Command>) {
        for (id, agent) in &self.agents {
            if let Doing::Running { attempt } = agent.doing {
                commands.push(Command { agent: id.clone(), attempt, order: Order::Drain });
            }
        }
    }

    fn abort(&mut self, now: Duration, commands: &mut Vec<Command>) {
        if self.state.is_end() || matches!(self.state, State::Aborting { .. }) {
            return;
        }
        self.abort_where(|_| true, commands);
        self.state = State::Aborting { until: now + ABORT_GRACE };
    }

    /// Follows what the observation and the time have brought about.
    fn settle(&mut self, now: Duration, commands: &mut Vec<Command>) {
        if !self.state.is_end() && self.active_deadline().is_some_and(|deadline| now >= deadline) {
            let seconds = self.config.active_deadline.unwrap_or_default().as_secs();
            let message =
                format!("the job took longer than runPolicy.activeDeadlineSeconds ({seconds}); raise it to go on");
            return self.end(State::Failed { cause: Cause::User, message }, commands);
        }
        // It may be heard of after a crash: of another rank, or of the same one's twin.
        if let (State::Waiting { .. } | State::BackingOff { .. }, Some(already)) = (&self.state, self.success)
            && self.guards.stands(Guard::SuccessStays)
        {
            return self.end(State::Succeeded { already }, commands);
        }
        self.notice_hang(now, commands);
        if let State::BackingOff { until, .. } = self.state
            && now >= until
        {
            self.state = State::Waiting { until: now + self.config.start_timeout };
        }
        match self.state {
            State::Waiting { until } => self.start_or_fail(now, until, commands),
            State::Running if self.any_runs() => {}
            State::Running => self.conclude(),
            State::Draining { .. } | State::Aborting { .. } if !self.any_runs() => self.conclude(),
            State::Draining { until } if now >= until => self.abort(now, commands),
            State::Aborting { until } if now >= until => self.conclude(),
            State::Draining { .. } | State::Aborting { .. } => {}
            State::BackingOff { .. } | State::Succeeded { .. } | State::Failed { .. } | State::Stopped => {}
        }
    }

    fn start_or_fail(&mut self, now: Duration, until: Duration, commands: &mut Vec<Command>) {
        let is_complete = self.agents.len() == self.config.agents || !self.guards.stands(Guard::WholeWorld);
        let newest = Doing::Running { attempt: self.attempt };
        let running = self.agents.values().filter(|agent| matches!(agent.doing, Doing::Running { .. })).count();
        let is_aborting = |agent: &Agent| agent.is_aborting && self.guards.stands(Guard::AbortingIsNotRunning);
        if is_complete && self.agents.values().all(|agent| agent.doing == newest && !is_aborting(agent)) {
            self.config.under_way = None;
            self.state = State::Running;
        } else if is_complete
            && self.agents.values().any(|agent| agent.is_leaving)
            && self.guards.stands(Guard::WaitsForOneLeaving)
        {
            // It would be taken away from what is begun now.
        } else if is_complete && (running == 0 || !self.guards.stands(Guard::OldRanksGone)) {
            self.start(now, commands);
        } else if is_complete && self.guards.stands(Guard::PartOfAWorld) {
            // A part of a world can go nowhere, and an older one is to go nowhere.
            self.abort_where(|_| true, commands);
        } else if now >= until {
            let message = format!(
                "{} of {} workers were ready after {} seconds (runPolicy.startTimeoutSeconds)",
                self.agents.len() - running,
                self.config.agents,
                self.config.start_timeout.as_secs()
            );
            self.end(State::Failed { cause: Cause::Internal, message }, commands);
        }
    }

    /// Begins the next attempt. Ranks are given in the order of the agents' names.
    fn start(&mut self, now: Duration, commands: &mut Vec<Command>) {
        self.disruption = None;
        self.config.under_way = None;
        self.attempt = self.attempt.max(self.heard) + 1;
        self.step = self.checkpoint.unwrap_or(0);
        let attempt = self.attempt;
        let world = self.agents.values().map(|agent| agent.local_ranks).sum();
        let mut first_rank = 0;
        for (id, agent) in &mut self.agents {
            agent.doing = Doing::Running { attempt };
            agent.is_aborting = false;
            agent.pulse = Pulse::new(now);
            let join = Order::Join { first_rank, local_ranks: agent.local_ranks, world };
            first_rank += agent.local_ranks;
            for order in [join, Order::RunPlan] {
                commands.push(Command { agent: id.clone(), attempt, order });
            }
        }
        self.state = State::Running;
    }

    /// Ends as the ranks have told.
    fn conclude(&mut self) {
        self.state = match self.success {
            Some(already) => State::Succeeded { already },
            None => State::Stopped,
        };
    }

    fn end(&mut self, state: State, commands: &mut Vec<Command>) {
        self.abort_where(|_| true, commands);
        self.state = state;
    }

    /// Tells those to abort that run such an attempt and were not told yet.
    fn abort_where(&mut self, is_meant: impl Fn(u64) -> bool, commands: &mut Vec<Command>) {
        for (id, agent) in &mut self.agents {
            if let Doing::Running { attempt } = agent.doing
                && is_meant(attempt)
                && !agent.is_aborting
            {
                agent.is_aborting = true;
                commands.push(Command { agent: id.clone(), attempt, order: Order::Abort });
            }
        }
    }

    fn any_runs(&self) -> bool {
        self.agents.values().any(|agent| matches!(agent.doing, Doing::Running { .. }))
    }

    fn is_stopping(&self) -> bool {
        matches!(self.state, State::Draining { .. } | State::Aborting { .. })
    }

    fn active_deadline(&self) -> Option<Duration> {
        self.config.active_deadline.map(|deadline| self.started + deadline)
    }
}
