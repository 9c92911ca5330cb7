//! Random lives of an engine: requests come, are given up and end, under limits that are tight. Each is told just what it would be told alone.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use palimpsest_infer::{
    Engine, Error, Event, Figures, Finish, Limits, Logprobs, Model, Request, RequestId, Sampling, Task, Wanted, Work,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Few, so that requests come to be alike.
const VOCABULARY: usize = 4;

/// What keys and values of a position depend on: all tokens up to it.
fn mix(past: u64, token: u32) -> u64 {
    (past ^ u64::from(token).wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
}

/// The logits that a model gives after a past; now and then what is no number.
fn row(past: u64) -> [f32; VOCABULARY] {
    let damage = if past.is_multiple_of(499) { f32::NAN } else { 0.0 };
    std::array::from_fn(|token| (mix(past, token as u32) >> 54) as f32 / 256.0 + damage)
}

/// A model whose keys and values are the pasts of their positions: what is read at a wrong place, or too early, shows in what it gives.
struct Remembering {
    limits: Limits,
    cache: Vec<u64>,
    logits: Vec<f32>,
}

impl Remembering {
    fn new(limits: Limits) -> Self {
        Self { limits, cache: vec![0; limits.blocks * limits.block_tokens], logits: Vec::new() }
    }

    fn slot(&self, work: &Work<'_>, position: usize) -> usize {
        work.blocks[position / self.limits.block_tokens] as usize * self.limits.block_tokens
            + position % self.limits.block_tokens
    }
}

impl Model for Remembering {
    type Error = String;

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn step(&mut self, step: &[Work<'_>]) -> Result<&[f32], String> {
        let tokens: usize = step.iter().map(|work| work.tokens.len()).sum();
        let rows: usize = step.iter().map(Work::rows).sum();
        let requests: HashSet<RequestId> = step.iter().map(|work| work.id).collect();
        let limits = &self.limits;
        if tokens > limits.step_tokens || rows > limits.step_rows || step.len() > limits.running {
            return Err(format!("{tokens} tokens, {rows} rows and {} requests are above {limits:?}", step.len()));
        }
        if requests.len() < step.len() || step.iter().any(|work| work.tokens.is_empty()) {
            return Err(format!("a request comes twice, or with nothing to compute: {step:?}"));
        }
        // All of a step write before any reads, as in a layer; and each reads again what it wrote, which none but itself may have changed.
        self.logits.clear();
        for work in step {
            let first = work.position;
            let mut past = if first == 0 { 0 } else { self.cache[self.slot(work, first - 1)] };
            for (offset, token) in work.tokens.iter().enumerate() {
                past = mix(past, *token);
                let slot = self.slot(work, first + offset);
                self.cache[slot] = past;
            }
        }
        for work in step {
            let wanted = match work.wanted {
                Wanted::None => 0..0,
                Wanted::Last => work.tokens.len() - 1..work.tokens.len(),
                Wanted::All => 0..work.tokens.len(),
            };
            for offset in wanted {
                let past = self.cache[self.slot(work, work.position + offset)];
                self.logits.extend(row(past));
            }
        }
        Ok(&self.logits)
    }
}

/// What happens between two steps.
#[derive(Clone, Debug)]
struct Turn {
    arrivals: Vec<Task>,
    leaves: Option<prop::sample::Index>,
}

fn lives() -> impl Strategy<Value = (Limits, Vec<Turn>)> {
    (limits(), vec(turn(), 1..32))
}

prop_compose! {
    fn limits()(
        blocks in 4usize..24, block_tokens in 1usize..6, step_tokens in 1usize..24, step_rows in 1usize..12, running in 1usize..9,
        waiting_requests in 1usize..13, waiting_tokens in 20usize..120, context in 1usize..60, reuses_prefixes in prop::bool::weighted(0.8),
    ) -> Limits {
        Limits { blocks, block_tokens, step_tokens, step_rows, running, waiting_requests, waiting_tokens, context, reuses_prefixes }
    }
}

prop_compose! {
    fn turn()(arrivals in vec(task(), 0..4), leaves in prop::option::weighted(0.25, any::<prop::sample::Index>())) -> Turn {
        Turn { arrivals, leaves }
    }
}

prop_compose! {
    fn task()(
        prompt in vec(0u32..2, 0..30), new_tokens in 0usize..20, priority in 0i32..3, prompt_logprobs in prop::bool::weighted(0.2),
        logprobs in prop::option::weighted(0.3, 0usize..3), temperature in prop::sample::select(vec![0.0, 1.0]), seed in 0u64..3,
        ends in prop::sample::select(vec![vec![], vec![], vec![], vec![3]]),
    ) -> Task {
        Task {
            request: Request { prompt, new_tokens, priority, prompt_logprobs },
            sampling: Sampling { temperature, seed, ..Sampling::default() },
            ends,
            logprobs,
            ..Task::default()
        }
    }
}

/// What is told of a request but where it found something in the cache: the prompt's, each token, and how it ends.
#[derive(Debug, Default, PartialEq)]
struct Told {
    prompt: Vec<Logprobs>,
    tokens: Vec<(u32, Option<Logprobs>)>,
    end: Option<Result<(Finish, usize), Error>>,
}

/// What a task is told alone, with all that it needs at once.
fn alone(task: &Task) -> Result<Told, TestCaseError> {
    let prompt = task.request.prompt.len();
    let limits = Limits {
        blocks: 1,
        block_tokens: 60,
        step_tokens: prompt,
        step_rows: prompt,
        running: 1,
        waiting_requests: 1,
        waiting_tokens: prompt,
        context: 60,
        reuses_prefixes: false,
    };
    let mut engine = Engine::new(Remembering::new(limits), limits);
    engine.submit(task.clone()).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let mut told = Told::default();
    while engine.step(|_, event| take(&mut told, event)).map_err(TestCaseError::fail)? {}
    Ok(told)
}

fn take(told: &mut Told, event: Event) {
    match event {
        Event::Started { .. } => {}
        Event::Prompt(part) => told.prompt.extend(part),
        Event::Token { token, logprobs } => told.tokens.push((token, logprobs)),
        Event::Finished { reason, tokens, .. } => told.end = Some(Ok((reason, tokens))),
        Event::Failed(error) => told.end = Some(Err(error)),
    }
}

#[derive(Debug)]
struct Taken {
    task: Task,
    is_cancelled: bool,
    /// Tokens found in the cache, each time that it started.
    found: Vec<usize>,
    told: Told,
}

fn live(limits: Limits, turns: &[Turn]) -> Result<Figures, TestCaseError> {
    let mut engine = Engine::new(Remembering::new(limits), limits);
    let mut taken: HashMap<RequestId, Taken> = HashMap::new();
    let mut asked_for = 0;
    for turn in turns {
        for task in &turn.arrivals {
            let Request { prompt, new_tokens, prompt_logprobs, .. } = &task.request;
            let before = engine.figures();
            match engine.submit(task.clone()) {
                Ok(id) => {
                    asked_for += prompt.len() + new_tokens;
                    let told = Told::default();
                    taken.insert(id, Taken { task: task.clone(), is_cancelled: false, found: Vec::new(), told });
                }
                Err(Error::EmptyPrompt) => prop_assert!(prompt.is_empty()),
                Err(Error::NothingAskedFor) => prop_assert!(*new_tokens == 0 && !prompt_logprobs),
                Err(Error::TooLong { context, .. }) => prop_assert!(prompt.len() + new_tokens > context),
                Err(Error::Full { .. }) => prop_assert!(
                    before.waiting >= limits.waiting_requests
                        || before.waiting > 0 && before.waiting_tokens + prompt.len() > limits.waiting_tokens
                ),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        step(&mut engine, &mut taken)?;
        let mut ids: Vec<RequestId> = taken.keys().copied().collect();
        ids.sort_unstable();
        if let Some(index) = turn.leaves.filter(|_| !ids.is_empty()) {
            let id = *index.get(&ids);
            engine.cancel(id);
            taken.entry(id).and_modify(|taken| taken.is_cancelled = true);
        }
    }
    // Each step computes something. What is computed again, because it had to make room, is no more than a few times all.
    let mut steps = 0;
    while step(&mut engine, &mut taken)? {
        steps += 1;
        prop_assert!(steps <= 4 * asked_for, "it doesn't come to an end: {:?}", engine.figures());
    }
    let figures = engine.figures();
    prop_assert_eq!((figures.running, figures.waiting), (0, 0), "it stands still");
    prop_assert_eq!(figures.cache_tokens_used, 0, "blocks are lost");
    for (id, taken) in taken.iter().filter(|(_, taken)| !taken.is_cancelled) {
        prop_assert_eq!(&taken.told, &alone(&taken.task)?, "{:?}", id);
        prop_assert_eq!(taken.found.len(), 1);
    }
    let found: usize = taken.values().flat_map(|taken| &taken.found).sum();
    let given: usize = taken.values().map(|taken| taken.told.tokens.len()).sum();
    prop_assert_eq!((figures.found_tokens, figures.generated_tokens), (found as u64, given as u64));
    Ok(figures)
}

fn step(engine: &mut Engine<Remembering>, taken: &mut HashMap<RequestId, Taken>) -> Result<bool, TestCaseError> {
    let mut wrong = None;
    let is_going_on = engine.step(|id, event| {
        let Some(taken) = taken.get_mut(&id) else { return };
        if taken.is_cancelled || taken.told.end.is_some() {
            wrong = Some(format!("{id:?} is over, but {event:?} came"));
        }
        match event {
            Event::Started { cached_tokens } => taken.found.push(cached_tokens),
            Event::Finished { cached_tokens, .. } if taken.found != [cached_tokens] => {
                wrong = Some(format!("{id:?} found {cached_tokens} in the end, but {:?} at first", taken.found));
            }
            _ => {}
        }
        take(&mut taken.told, event);
    });
    match wrong {
        Some(wrong) => Err(TestCaseError::fail(wrong)),
        None => is_going_on.map_err(TestCaseError::fail),
    }
}

#[test]
fn every_request_is_told_what_it_would_be_alone_and_no_block_is_lost() {
    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let sum = RefCell::new(Figures::default());
    runner
        .run(&lives(), |(limits, turns)| {
            let figures = live(limits, &turns)?;
            let mut sum = sum.borrow_mut();
            sum.preemptions += figures.preemptions;
            sum.found_tokens += figures.found_tokens;
            sum.generated_tokens += figures.generated_tokens;
            Ok(())
        })
        .unwrap();
    // The lives have in them what they are to try.
    let sum = sum.into_inner();
    assert!(sum.preemptions > 1_000 && sum.found_tokens > 10_000 && sum.generated_tokens > 100_000, "{sum:?}");
}
