use std::collections::{HashMap, HashSet};

use palimpsest_random::Stream;

use super::*;

/// What keys and values of a position depend on: all tokens up to it.
fn mix(past: u64, token: u32) -> u64 {
    (past ^ u64::from(token).wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
}

/// The token that a model gives after a past: few, so that requests come to be alike.
fn token_after(past: u64) -> u32 {
    (past >> 40) as u32 % 3
}

/// A model whose keys and values are the pasts of their positions: what is read at a wrong place, or too early, shows.
struct Model {
    block_tokens: usize,
    cache: Vec<u64>,
    /// The tokens of each request as it has to be.
    requests: HashMap<RequestId, Vec<u32>>,
    computed_tokens: usize,
}

impl Model {
    fn new(limits: &Limits) -> Self {
        Self {
            block_tokens: limits.block_tokens,
            cache: vec![0; limits.blocks * limits.block_tokens],
            requests: HashMap::new(),
            computed_tokens: 0,
        }
    }

    fn slot(&mut self, work: &Work, position: usize) -> &mut u64 {
        let block = work.blocks[position / self.block_tokens] as usize;
        &mut self.cache[block * self.block_tokens + position % self.block_tokens]
    }

    /// Computes a step, and gives the past of each request from which a token is drawn.
    fn compute(&mut self, step: &[Work]) -> HashMap<RequestId, u64> {
        let mut drawn = HashMap::new();
        // All of a step write before any reads, as in a layer.
        for work in step {
            let tokens = self.requests[&work.id].clone();
            assert_eq!(work.tokens, tokens[work.position..work.position + work.tokens.len()], "{work:?}");
            self.computed_tokens += work.tokens.len();
            let mut past = tokens[..work.position].iter().fold(0, |past, token| mix(past, *token));
            for (offset, token) in work.tokens.iter().enumerate() {
                past = mix(past, *token);
                *self.slot(work, work.position + offset) = past;
            }
            assert_eq!(work.is_sampled, work.position + work.tokens.len() == tokens.len(), "{work:?}");
            if work.is_sampled {
                drawn.insert(work.id, past);
            }
        }
        for work in step {
            let tokens = self.requests[&work.id].clone();
            let mut past = 0;
            for (position, token) in tokens[..work.position + work.tokens.len()].iter().enumerate() {
                past = mix(past, *token);
                assert_eq!(*self.slot(work, position), past, "position {position} of {work:?}");
            }
        }
        drawn
    }
}

fn limits() -> Limits {
    Limits {
        blocks: 64,
        block_tokens: 16,
        step_tokens: 128,
        running: 32,
        waiting_requests: 100,
        waiting_tokens: 10_000,
        context: 1024,
        reuses_prefixes: true,
    }
}

fn request(prompt: &[u32], new_tokens: usize) -> Request {
    Request { prompt: prompt.to_vec(), new_tokens, priority: 0 }
}

/// Makes one step; false where there was nothing to do.
fn step(scheduler: &mut Scheduler, model: &mut Model) -> bool {
    let step = scheduler.plan();
    let drawn = model.compute(&step);
    scheduler.complete(&step, |id| {
        let token = token_after(drawn[&id]);
        model.requests.entry(id).or_default().push(token);
        Next::Token(token)
    });
    !step.is_empty()
}

fn submit(scheduler: &mut Scheduler, model: &mut Model, request: Request) -> RequestId {
    let id = scheduler.submit(request.clone()).unwrap();
    model.requests.insert(id, request.prompt);
    id
}

#[derive(Debug)]
struct Expected {
    prompt: Vec<u32>,
    new_tokens: usize,
    is_cancelled: bool,
}

/// A random life: requests come, are given up and end, under limits that are tight. Each is given just the tokens that it would be alone.
fn live(seed: u64) -> Figures {
    let mut random = Stream::new(seed, "scheduler", &[]);
    let mut pick = |bound: u64| random.below(bound) as usize;
    let block_tokens = 1 + pick(5);
    let limits = Limits {
        blocks: 4 + pick(20),
        block_tokens,
        step_tokens: 1 + pick(24),
        running: 1 + pick(8),
        waiting_requests: 1 + pick(12),
        waiting_tokens: 20 + pick(100),
        context: 1 + pick(60),
        reuses_prefixes: pick(4) > 0,
    };
    let (mut scheduler, mut model) = (Scheduler::new(limits), Model::new(&limits));
    let mut expected: HashMap<RequestId, Expected> = HashMap::new();
    let arrivals = 1 + pick(40);
    let mut steps = 0;
    loop {
        let is_arriving = steps < arrivals;
        for _ in 0..if is_arriving { pick(4) } else { 0 } {
            let prompt: Vec<u32> = (0..pick(30)).map(|_| pick(2) as u32).collect();
            let (new_tokens, priority) = (pick(20), pick(3) as i32);
            let request = Request { prompt: prompt.clone(), new_tokens, priority };
            match scheduler.submit(request) {
                Ok(id) => {
                    model.requests.insert(id, prompt.clone());
                    expected.insert(id, Expected { prompt, new_tokens, is_cancelled: false });
                }
                Err(Error::EmptyPrompt) => assert!(prompt.is_empty()),
                Err(Error::TooLong { .. }) => assert!(prompt.len() + new_tokens > limits.longest()),
                Err(Error::Full { requests, tokens }) => {
                    assert!(requests >= limits.waiting_requests || tokens + prompt.len() > limits.waiting_tokens);
                }
                Err(error) => panic!("{error}"),
            }
        }
        let plan = scheduler.plan();
        let computed: usize = plan.iter().map(|work| work.tokens.len()).sum();
        assert!(computed <= limits.step_tokens && plan.len() <= limits.running, "{plan:?}");
        assert_eq!(plan.iter().map(|work| work.id).collect::<HashSet<_>>().len(), plan.len());
        let drawn = model.compute(&plan);
        // Somebody leaves while the step is under way.
        if pick(4) == 0 && !expected.is_empty() {
            let ids: Vec<RequestId> = expected.keys().copied().collect();
            let id = *ids.iter().min_by_key(|id| id.arrival.wrapping_mul(seed | 1) % 97).unwrap();
            scheduler.cancel(id);
            expected.get_mut(&id).unwrap().is_cancelled = true;
        }
        scheduler.complete(&plan, |id| {
            let wanted = &expected[&id];
            assert!(!wanted.is_cancelled, "{id:?} was given up");
            let tokens = model.requests.get_mut(&id).unwrap();
            if tokens.len() < wanted.prompt.len() + wanted.new_tokens {
                tokens.push(token_after(drawn[&id]));
            }
            Next::Token(token_after(drawn[&id]))
        });
        let figures = scheduler.figures();
        assert!(
            !plan.is_empty() || figures.running + figures.waiting == 0 || is_arriving,
            "it stands still: {figures:?}"
        );
        steps += 1;
        assert!(steps < 20_000, "it does not come to an end: {figures:?}");
        if !is_arriving && figures.running + figures.waiting == 0 {
            assert_eq!(figures.blocks_held, 0, "blocks are lost");
            break;
        }
    }
    for (id, wanted) in expected.iter().filter(|(_, wanted)| !wanted.is_cancelled) {
        let mut alone = wanted.prompt.clone();
        for _ in 0..wanted.new_tokens {
            alone.push(token_after(alone.iter().fold(0, |past, token| mix(past, *token))));
        }
        assert_eq!(model.requests[id], alone, "{id:?}");
    }
    scheduler.figures()
}

#[test]
fn every_request_is_given_what_it_would_be_alone_and_no_block_is_lost() {
    let mut sum = Figures::default();
    for seed in 0..10_000 {
        let figures = live(seed);
        sum.preemptions += figures.preemptions;
        sum.found_tokens += figures.found_tokens;
    }
    // The lives have in them what they are to try.
    assert!(sum.preemptions > 1_000 && sum.found_tokens > 10_000, "{sum:?}");
}

#[test]
fn a_beginning_that_many_share_is_computed_once() {
    let limits =
        Limits { blocks: 1_000, block_tokens: 16, step_tokens: 512, running: 64, waiting_tokens: 100_000, ..limits() };
    let limits = Limits { context: 2_000, ..limits };
    let (mut scheduler, mut model) = (Scheduler::new(limits), Model::new(&limits));
    let shared: Vec<u32> = (0..1_000).collect();
    for own in 0..64 {
        submit(&mut scheduler, &mut model, request(&[&shared[..], &[5_000 + own; 8]].concat(), 4));
    }
    while step(&mut scheduler, &mut model) {}
    assert!(model.computed_tokens < 64 * 1_000 / 10, "{} tokens were computed", model.computed_tokens);
    let figures = scheduler.figures();
    assert_eq!((figures.queried_tokens, figures.found_tokens), (64 * 1_008, 63 * 992));
}

#[test]
fn a_long_prompt_delays_neither_those_that_run_nor_those_that_come() {
    let (mut scheduler, mut model) = (Scheduler::new(limits()), Model::new(&limits()));
    let runs = submit(&mut scheduler, &mut model, request(&[1, 2, 3], 50));
    step(&mut scheduler, &mut model);
    submit(&mut scheduler, &mut model, request(&(0..800).collect::<Vec<_>>(), 10));
    step(&mut scheduler, &mut model);
    let comes = submit(&mut scheduler, &mut model, request(&[7; 20], 5));
    let plan = scheduler.plan();
    let of = |id| plan.iter().find(|work| work.id == id).unwrap();
    assert_eq!((of(runs).tokens.len(), of(comes).tokens.len(), of(comes).is_sampled), (1, 20, true));
    assert_eq!(plan.iter().map(|work| work.tokens.len()).sum::<usize>(), 128);
}

#[test]
fn the_more_urgent_goes_first_and_one_without_room_is_passed_over_for_a_while_only() {
    let limits = Limits { blocks: 10, running: 4, ..limits() };
    let (mut scheduler, mut model) = (Scheduler::new(limits), Model::new(&limits));
    submit(&mut scheduler, &mut model, request(&[1; 10], 5));
    step(&mut scheduler, &mut model);
    let large = submit(&mut scheduler, &mut model, request(&[2; 120], 4));
    let urgent = submit(&mut scheduler, &mut model, Request { priority: 1, ..request(&[3; 10], 2) });
    let plan = scheduler.plan();
    assert!(plan.iter().any(|work| work.id == urgent) && !plan.iter().any(|work| work.id == large), "{plan:?}");
    let drawn = model.compute(&plan);
    scheduler.complete(&plan, |id| {
        model.requests.entry(id).or_default().push(token_after(drawn[&id]));
        Next::Token(token_after(drawn[&id]))
    });
    // Small ones keep coming. It gets its turn all the same.
    for number in 0..1_000 {
        if scheduler.figures().waiting < 3 {
            submit(&mut scheduler, &mut model, request(&[10 + number; 10], 2 + number as usize % 4));
        }
        step(&mut scheduler, &mut model);
        if model.requests[&large].len() == 124 {
            return;
        }
    }
    panic!("it never gets its turn");
}

#[test]
fn what_cannot_be_taken_is_refused_with_the_numbers() {
    let limits = Limits { waiting_requests: 1, ..limits() };
    let mut scheduler = Scheduler::new(limits);
    let mut refusal =
        |prompt: usize, new| scheduler.submit(request(&vec![1; prompt], new)).map_err(|error| error.to_string());
    assert_eq!(refusal(0, 1), Err("the prompt is empty; give it one token at least".to_owned()));
    let too_long = "the prompt has 1000 tokens and 25 are asked for, but the context has 1024; shorten the prompt or ask for fewer";
    assert_eq!(refusal(1_000, 25), Err(too_long.to_owned()));
    assert!(refusal(1_000, usize::MAX).is_err());
    assert!(refusal(1_000, 24).is_ok());
    assert_eq!(refusal(1, 1), Err("1 requests with 1000 tokens wait already; try again later".to_owned()));
}
