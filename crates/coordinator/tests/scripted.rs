//! Scripts: what is seen, line by line, and what is told.

use std::time::Duration;

use palimpsest_coordinator::{
    AgentId, Cause, Command, Config, Coordinator, Observation, Order, Outcome, Patience, Report, Standing, State,
};

struct Script {
    coordinator: Coordinator,
    now: u64,
}

fn mk_config(agents: usize) -> Config {
    Config {
        agents,
        last_attempt: 0,
        checkpoint: None,
        crashes: 0,
        crashed: None,
        under_way: None,
        backoff_limit: 3,
        start_timeout: Duration::from_secs(60),
        active_deadline: None,
        termination: Duration::from_secs(30),
        patience: Patience { step: Duration::from_secs(60), ..Patience::default() },
    }
}

impl Script {
    fn new(config: Config) -> Self {
        Self { coordinator: Coordinator::new(config, Duration::ZERO), now: 0 }
    }

    /// Observes and gives the commands in words.
    fn see(&mut self, observation: Observation) -> Vec<String> {
        let commands = self.coordinator.observe(Duration::from_secs(self.now), observation);
        commands.iter().map(in_words).collect()
    }

    fn attach(&mut self, agent: &str) -> Vec<String> {
        self.attach_as(agent, Standing::Idle)
    }

    fn attach_as(&mut self, agent: &str, standing: Standing) -> Vec<String> {
        self.see(Observation::Attached { agent: AgentId(agent.to_owned()), local_ranks: 1, standing })
    }

    fn report(&mut self, agent: &str, attempt: u64, report: Report) -> Vec<String> {
        self.see(Observation::Reported { agent: AgentId(agent.to_owned()), attempt, report })
    }

    fn finish(&mut self, agent: &str, attempt: u64, outcome: Outcome) -> Vec<String> {
        self.report(agent, attempt, Report::Finished { outcome })
    }

    fn crash(&mut self, agent: &str, attempt: u64) -> Vec<String> {
        self.report(agent, attempt, Report::Failed { cause: Cause::Internal, message: "it crashed".to_owned() })
    }

    fn commit(&mut self, agent: &str, attempt: u64, step: u64) -> Vec<String> {
        self.report(agent, attempt, Report::CheckpointCommitted { step })
    }

    fn wait(&mut self, seconds: u64) -> Vec<String> {
        self.now += seconds;
        self.see(Observation::TimePassed)
    }

    fn state(&self) -> &State {
        self.coordinator.state()
    }
}

fn in_words(command: &Command) -> String {
    let order = match command.order {
        Order::Join { first_rank, local_ranks, world } => format!("join {first_rank}+{local_ranks} of {world}"),
        Order::RunPlan => "run".to_owned(),
        Order::Checkpoint => "checkpoint".to_owned(),
        Order::Drain => "drain".to_owned(),
        Order::Abort => "abort".to_owned(),
    };
    format!("{} #{}: {order}", command.agent, command.attempt)
}

#[test]
fn one_agent_runs_the_job_to_its_end() {
    let mut script = Script::new(mk_config(1));
    assert_eq!(script.attach("a"), ["a #1: join 0+1 of 1", "a #1: run"]);
    assert!(script.report("a", 1, Report::Progress { step: 1 }).is_empty());
    assert!(script.commit("a", 1, 10).is_empty());
    assert!(script.finish("a", 1, Outcome::Succeeded).is_empty());
    assert_eq!(script.state(), &State::Succeeded { already: false });
    assert_eq!((script.coordinator.step(), script.coordinator.checkpoint()), (10, Some(10)));
}

#[test]
fn ranks_are_given_in_the_order_of_names_once_all_are_there() {
    let mut script = Script::new(mk_config(3));
    assert!(script.attach("c").is_empty());
    assert!(script.attach("a").is_empty());
    assert!(script.attach("a").is_empty(), "dialling again changes nothing");
    let commands =
        script.see(Observation::Attached { agent: AgentId("b".to_owned()), local_ranks: 4, standing: Standing::Idle });
    let expected =
        ["a #1: join 0+1 of 6", "a #1: run", "b #1: join 1+4 of 6", "b #1: run", "c #1: join 5+1 of 6", "c #1: run"];
    assert_eq!(commands, expected);
    for agent in ["b", "a"] {
        script.finish(agent, 1, Outcome::Succeeded);
        assert_eq!(script.state(), &State::Running);
    }
    script.finish("c", 1, Outcome::Succeeded);
    assert_eq!(script.state(), &State::Succeeded { already: false });
}

#[test]
fn a_users_error_fails_the_job_at_once() {
    let mut script = Script::new(mk_config(2));
    script.attach("a");
    script.attach("b");
    let failure = Report::Failed { cause: Cause::User, message: "no such file".to_owned() };
    assert_eq!(script.report("a", 1, failure), ["b #1: abort"]);
    assert_eq!(script.state(), &State::Failed { cause: Cause::User, message: "no such file".to_owned() });
    assert!(script.crash("b", 1).is_empty());
    assert!(script.attach("a").is_empty());
    assert_eq!(script.coordinator.next_deadline(), None);
}

#[test]
fn a_crash_is_followed_by_the_next_attempt_with_growing_delays_up_to_the_limit() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    assert_eq!(script.crash("a", 1), ["a #2: join 0+1 of 1", "a #2: run"], "the first time at once");
    assert!(script.crash("a", 2).is_empty());
    assert_eq!(script.coordinator.next_deadline(), Some(Duration::from_secs(1)));
    assert!(script.wait(0).is_empty());
    assert_eq!(script.wait(1), ["a #3: join 0+1 of 1", "a #3: run"]);
    script.crash("a", 3);
    assert!(script.wait(1).is_empty(), "the second delay is twice as long");
    assert_eq!(script.wait(1), ["a #4: join 0+1 of 1", "a #4: run"]);
    script.crash("a", 4);
    let message = "it crashed (after 3 restarts without a new checkpoint)".to_owned();
    assert_eq!(script.state(), &State::Failed { cause: Cause::Internal, message });
    assert_eq!(script.coordinator.restarts(), 3);
}

#[test]
fn only_a_newer_checkpoint_makes_up_for_crashes() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    for attempt in 1..=5 {
        script.commit("a", attempt, 10 * attempt);
        assert_eq!(script.crash("a", attempt).len(), 2, "attempt {attempt}");
    }
    for attempt in 6..=9 {
        // The same one again.
        script.commit("a", attempt, 50);
        script.crash("a", attempt);
        script.wait(10);
    }
    assert!(matches!(script.state(), State::Failed { cause: Cause::Internal, .. }), "{:?}", script.state());
}

#[test]
fn ranks_whose_agent_is_cut_off_are_judged_once_it_attaches_again() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    script.report("a", 1, Report::Alive { takes_steps: true });
    script.see(Observation::CutOff { agent: AgentId("a".to_owned()) });
    assert_eq!(script.coordinator.next_deadline(), None);
    assert!(script.wait(3600).is_empty());
    assert!(script.attach_as("a", Standing::Running { attempt: 1 }).is_empty());
    script.report("a", 1, Report::Alive { takes_steps: true });
    assert_eq!((script.state(), script.coordinator.restarts()), (&State::Running, 0));
    assert_eq!(script.wait(15), ["a #1: abort"]);
}

#[test]
fn a_new_coordinator_goes_on_counting_crashes() {
    let mut script = Script::new(Config { last_attempt: 3, checkpoint: Some(50), crashes: 2, ..mk_config(1) });
    script.attach_as("a", Standing::Running { attempt: 3 });
    // Told again to whoever takes over.
    script.commit("a", 3, 50);
    assert_eq!(script.coordinator.crashes(), 2);
    script.crash("a", 3);
    assert_eq!(script.wait(4), ["a #4: join 0+1 of 1", "a #4: run"]);
    script.crash("a", 4);
    let message = "it crashed (after 3 restarts without a new checkpoint)".to_owned();
    assert_eq!(script.state(), &State::Failed { cause: Cause::Internal, message });
}

#[test]
fn a_crash_that_was_counted_is_not_counted_again() {
    let config = Config { last_attempt: 3, crashes: 3, crashed: Some(3), ..mk_config(1) };
    let mut script = Script::new(config);
    script.attach_as("a", Standing::Running { attempt: 3 });
    script.crash("a", 3);
    assert_eq!(script.coordinator.crashes(), 3);
    script.wait(4);
    assert_eq!((script.coordinator.attempt(), script.coordinator.restarts()), (4, 0));
    script.crash("a", 4);
    assert!(matches!(script.state(), State::Failed { cause: Cause::Internal, .. }), "{:?}", script.state());
}

#[test]
fn what_ends_before_its_ranks_are_begun_counts_as_a_crash_too() {
    let mut script = Script::new(mk_config(1));
    let ended = || Observation::CrashedBeforehand { message: "the pod failed".to_owned() };
    for delay in [0, 1, 2] {
        script.see(ended());
        let State::BackingOff { until, .. } = script.state().clone() else {
            assert_eq!((delay, matches!(script.state(), State::Waiting { .. })), (0, true));
            continue;
        };
        assert_eq!(until, Duration::from_secs(script.now + delay));
        script.wait(delay);
    }
    script.attach("a");
    script.crash("a", 1);
    let message = "it crashed (after 3 restarts without a new checkpoint)".to_owned();
    assert_eq!(script.state(), &State::Failed { cause: Cause::Internal, message });
}

#[test]
fn a_changed_limit_holds_from_the_next_crash_on() {
    let mut script = Script::new(Config { backoff_limit: 0, ..mk_config(1) });
    script.attach("a");
    script.see(Observation::LimitChanged { backoff_limit: 1 });
    assert_eq!(script.crash("a", 1).len(), 2);
    script.see(Observation::LimitChanged { backoff_limit: 0 });
    assert_eq!(script.state(), &State::Running);
    script.crash("a", 2);
    assert_eq!(script.state(), &State::Failed { cause: Cause::Internal, message: "it crashed".to_owned() });
}

#[test]
fn the_others_are_brought_down_and_waited_for_before_the_next_attempt() {
    let mut script = Script::new(mk_config(2));
    script.attach("a");
    script.attach("b");
    assert_eq!(script.crash("a", 1), ["b #1: abort"]);
    assert!(script.wait(5).is_empty(), "b still runs");
    assert_eq!(script.crash("b", 1).len(), 4);
    assert_eq!(script.coordinator.attempt(), 2);
    assert_eq!(script.coordinator.restarts(), 1, "one crash, however many ranks it brings down");
}

#[test]
fn an_agent_that_is_lost_counts_as_a_crash_and_is_waited_for() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    script.see(Observation::Lost { agent: AgentId("a".to_owned()) });
    assert!(matches!(script.state(), State::Waiting { .. }));
    assert_eq!(script.attach("a"), ["a #2: join 0+1 of 1", "a #2: run"]);
    // Its process came back, but the coordinator did not see it go.
    assert!(script.attach("a").is_empty());
    assert!(matches!(script.state(), State::BackingOff { .. }));
}

#[test]
fn reports_of_an_older_attempt_are_ignored() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    script.crash("a", 1);
    assert!(script.finish("a", 1, Outcome::Succeeded).is_empty());
    assert!(script.commit("a", 1, 99).is_empty());
    assert!(script.crash("a", 1).is_empty());
    assert_eq!((script.state(), script.coordinator.checkpoint()), (&State::Running, None));
}

#[test]
fn an_agent_that_stayed_behind_is_aborted_and_its_ranks_awaited() {
    let mut script = Script::new(Config { last_attempt: 7, ..mk_config(1) });
    assert_eq!(script.attach_as("a", Standing::Running { attempt: 6 }), ["a #6: abort"]);
    assert_eq!(script.crash("a", 6), ["a #8: join 0+1 of 1", "a #8: run"]);
}

#[test]
fn an_agent_that_is_taken_away_writes_a_checkpoint_and_counts_as_no_crash() {
    let mut script = Script::new(Config { backoff_limit: 0, ..mk_config(1) });
    let leaving = |agent: &str| Observation::Leaving { agent: AgentId(agent.to_owned()) };
    script.attach("a");
    assert_eq!(script.see(leaving("a")), ["a #1: drain"]);
    assert!(script.see(leaving("a")).is_empty(), "told once");
    script.commit("a", 1, 7);
    assert!(script.finish("a", 1, Outcome::Stopped).is_empty(), "nothing is begun where it would be taken away");
    assert!(script.attach("a").is_empty(), "nor when it dials again");
    assert!(script.see(Observation::Lost { agent: AgentId("a".to_owned()) }).is_empty());
    assert_eq!(script.attach("b"), ["b #2: join 0+1 of 1", "b #2: run"]);
    assert_eq!((script.coordinator.disruptions(), script.coordinator.restarts()), (1, 0));
    // Gone without a word, and the next one too: no limit on crashes is touched.
    for (agent, next) in [("b", "c"), ("c", "d")] {
        script.see(leaving(agent));
        script.see(Observation::Lost { agent: AgentId(agent.to_owned()) });
        assert_eq!(script.attach(next).len(), 2);
    }
    assert_eq!((script.coordinator.disruptions(), script.coordinator.restarts()), (3, 0));
    script.crash("d", 4);
    assert!(matches!(script.state(), State::Failed { .. }));
}

#[test]
fn a_new_coordinator_takes_over_what_is_running() {
    let mut script = Script::new(Config { last_attempt: 3, ..mk_config(2) });
    assert!(script.attach_as("a", Standing::Running { attempt: 4 }).is_empty());
    assert!(matches!(script.state(), State::Waiting { .. }));
    assert!(script.attach_as("b", Standing::Running { attempt: 4 }).is_empty());
    assert_eq!((script.state(), script.coordinator.attempt()), (&State::Running, 4));
    script.finish("a", 4, Outcome::Succeeded);
    script.finish("b", 4, Outcome::Succeeded);
    assert_eq!(script.state(), &State::Succeeded { already: false });
}

#[test]
fn what_is_running_is_brought_down_where_not_all_of_it_is_found() {
    let mut script = Script::new(Config { last_attempt: 3, ..mk_config(2) });
    script.attach_as("a", Standing::Running { attempt: 4 });
    assert_eq!(script.attach("b"), ["a #4: abort"]);
    assert_eq!(script.crash("a", 4).len(), 4);
    assert_eq!(script.coordinator.attempt(), 5);
}

#[test]
fn a_stop_drains_and_then_stops() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    assert_eq!(script.see(Observation::StopRequested), ["a #1: drain"]);
    assert!(script.see(Observation::StopRequested).is_empty());
    script.commit("a", 1, 12);
    script.finish("a", 1, Outcome::Stopped);
    assert_eq!((script.state(), script.coordinator.checkpoint()), (&State::Stopped, Some(12)));
}

#[test]
fn a_job_that_came_to_its_end_while_it_was_told_to_stop_has_succeeded() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    script.see(Observation::StopRequested);
    script.finish("a", 1, Outcome::Succeeded);
    assert_eq!(script.state(), &State::Succeeded { already: false });
}

#[test]
fn a_drain_that_takes_too_long_or_is_not_wanted_is_aborted() {
    for by_time in [true, false] {
        let mut script = Script::new(mk_config(1));
        script.attach("a");
        script.see(Observation::StopRequested);
        let commands = if by_time { script.wait(30) } else { script.see(Observation::AbortRequested) };
        assert_eq!(commands, ["a #1: abort"]);
        assert!(matches!(script.state(), State::Aborting { .. }));
        if by_time {
            script.crash("a", 1);
        } else {
            // Not even that helps.
            script.wait(10);
        }
        assert_eq!(script.state(), &State::Stopped);
    }
}

#[test]
fn a_crash_while_draining_is_a_stop() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    script.see(Observation::StopRequested);
    assert!(script.crash("a", 1).is_empty());
    assert_eq!(script.state(), &State::Stopped);
}

#[test]
fn a_users_error_while_draining_is_told() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    script.see(Observation::StopRequested);
    script.report("a", 1, Report::Failed { cause: Cause::User, message: "the disk is full".to_owned() });
    assert!(matches!(script.state(), State::Failed { cause: Cause::User, .. }));
}

#[test]
fn a_stop_before_anything_runs_is_at_once() {
    let mut script = Script::new(mk_config(1));
    assert!(script.see(Observation::StopRequested).is_empty());
    assert_eq!(script.state(), &State::Stopped);
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    script.crash("a", 1);
    script.crash("a", 2);
    assert!(matches!(script.state(), State::BackingOff { .. }));
    script.see(Observation::StopRequested);
    assert_eq!(script.state(), &State::Stopped);
}

#[test]
fn a_world_that_does_not_gather_fails() {
    let mut script = Script::new(mk_config(2));
    script.attach("a");
    script.wait(59);
    assert!(matches!(script.state(), State::Waiting { .. }));
    script.wait(1);
    let message = "1 of 2 workers were ready after 60 seconds (runPolicy.startTimeoutSeconds)".to_owned();
    assert_eq!(script.state(), &State::Failed { cause: Cause::Internal, message });
}

#[test]
fn the_active_deadline_ends_a_job() {
    let mut script = Script::new(Config { active_deadline: Some(Duration::from_secs(100)), ..mk_config(1) });
    script.attach("a");
    assert_eq!(script.coordinator.next_deadline(), Some(Duration::from_secs(100)));
    assert_eq!(script.wait(100), ["a #1: abort"]);
    assert!(matches!(script.state(), State::Failed { cause: Cause::User, .. }));
}

#[test]
fn ranks_that_stop_of_themselves_are_started_again() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    assert_eq!(script.finish("a", 1, Outcome::Stopped), ["a #2: join 0+1 of 1", "a #2: run"]);
    script.finish("a", 2, Outcome::AlreadyFinished);
    assert_eq!(script.state(), &State::Succeeded { already: true });
}

#[test]
fn ranks_of_which_nothing_is_heard_are_brought_down_and_started_again() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    assert!(script.wait(100).is_empty(), "it takes long to begin");
    script.report("a", 1, Report::Alive { takes_steps: false });
    assert_eq!(script.coordinator.next_deadline(), Some(Duration::from_secs(115)));
    assert!(script.wait(14).is_empty());
    assert_eq!(script.wait(1), ["a #1: abort"]);
    assert_eq!(script.crash("a", 1), ["a #2: join 0+1 of 1", "a #2: run"]);
}

#[test]
fn ranks_that_live_are_brought_down_only_where_steps_are_due() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    for _ in 0..1000 {
        assert!(script.wait(10).is_empty(), "preparing takes as long as it takes");
        script.report("a", 1, Report::Alive { takes_steps: false });
    }
    for step in 1..=10 {
        script.wait(1);
        script.report("a", 1, Report::Progress { step });
    }
    let mut seconds = 0;
    while script.wait(5).is_empty() {
        seconds += 5;
        script.report("a", 1, Report::Alive { takes_steps: true });
    }
    assert_eq!(seconds, 55);
}

#[test]
fn time_in_which_the_coordinator_itself_stood_still_counts_for_nothing() {
    let mut script = Script::new(mk_config(1));
    script.attach("a");
    script.report("a", 1, Report::Alive { takes_steps: false });
    assert!(script.wait(3600).is_empty());
    assert!(script.wait(14).is_empty());
    assert_eq!(script.wait(1), ["a #1: abort"]);
}

/// What a coordinator counts that finds an attempt left under way: restarts, disruptions, and what it leaves under way itself.
fn check_takeover(see: impl FnOnce(&mut Script), expected: (u32, u32, Option<u64>)) {
    let mut script = Script::new(Config { last_attempt: 3, under_way: Some(3), ..mk_config(1) });
    see(&mut script);
    let coordinator = &script.coordinator;
    assert_eq!((coordinator.restarts(), coordinator.disruptions(), coordinator.under_way()), expected);
}

#[test]
fn an_attempt_that_was_left_under_way_is_counted_once() {
    let agent = || AgentId("a".to_owned());
    let running = |attempt| Standing::Running { attempt };
    check_takeover(|_| {}, (0, 0, Some(3)));
    let disrupted = |script: &mut Script| {
        script.see(Observation::DisruptedBeforehand);
        script.see(Observation::DisruptedBeforehand);
    };
    check_takeover(disrupted, (0, 1, None));
    let next = |script: &mut Script| {
        disrupted(script);
        script.attach("b");
        script.see(Observation::DisruptedBeforehand);
    };
    check_takeover(next, (0, 1, Some(4)));
    let ended = |script: &mut Script| {
        script.see(Observation::CrashedBeforehand { message: "the pod failed".to_owned() });
        script.see(Observation::DisruptedBeforehand);
    };
    check_takeover(ended, (1, 0, None));
    let heard = |script: &mut Script| {
        script.attach_as("a", running(3));
        script.see(Observation::DisruptedBeforehand);
    };
    check_takeover(heard, (0, 0, Some(3)));
    let drained = |script: &mut Script| {
        script.attach_as("a", running(3));
        script.see(Observation::Leaving { agent: agent() });
        script.finish("a", 3, Outcome::Stopped);
        script.see(Observation::Lost { agent: agent() });
        script.see(Observation::DisruptedBeforehand);
    };
    check_takeover(drained, (0, 1, None));
    // The one before crashed, and that was not written down.
    check_takeover(|script| drop(script.attach_as("a", running(4))), (1, 0, Some(4)));
    let stopped = |script: &mut Script| {
        script.see(Observation::StopRequested);
        script.wait(10);
        script.see(Observation::DisruptedBeforehand);
    };
    check_takeover(stopped, (0, 0, None));
}
