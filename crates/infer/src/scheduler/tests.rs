use std::collections::HashMap;

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

    fn slot(&mut self, work: &Work<'_>, position: usize) -> &mut u64 {
        let block = work.blocks[position / self.block_tokens] as usize;
        &mut self.cache[block * self.block_tokens + position % self.block_tokens]
    }

    /// Computes a step, and says how each request goes on.
    fn compute(&mut self, step: &[Work<'_>]) -> Vec<Next> {
        let mut next = Vec::new();
        // All of a step write before any reads, as in a layer.
        for work in step {
            let tokens = self.requests[&work.id].clone();
            assert_eq!(work.tokens, &tokens[work.position..work.position + work.tokens.len()], "{work:?}");
            self.computed_tokens += work.tokens.len();
            let mut past = tokens[..work.position].iter().fold(0, |past, token| mix(past, *token));
            for (offset, token) in work.tokens.iter().enumerate() {
                past = mix(past, *token);
                *self.slot(work, work.position + offset) = past;
            }
            assert_eq!(work.is_sampled, work.position + work.tokens.len() == tokens.len(), "{work:?}");
            next.push(if work.is_sampled { Next::Token(token_after(past)) } else { Next::More });
        }
        for work in step {
            let tokens = self.requests[&work.id].clone();
            let mut past = 0;
            for (position, token) in tokens[..work.position + work.tokens.len()].iter().enumerate() {
                past = mix(past, *token);
                assert_eq!(*self.slot(work, position), past, "position {position} of {work:?}");
            }
        }
        for (work, next) in step.iter().zip(&next) {
            if let Next::Token(token) = next {
                self.requests.entry(work.id).or_default().push(*token);
            }
        }
        next
    }
}

fn limits() -> Limits {
    Limits {
        blocks: 64,
        block_tokens: 16,
        step_tokens: 128,
        step_rows: 32,
        running: 32,
        waiting_requests: 100,
        waiting_tokens: 10_000,
        context: 1024,
        reuses_prefixes: true,
    }
}

fn request(prompt: &[u32], new_tokens: usize) -> Request {
    Request { prompt: prompt.to_vec(), new_tokens, ..Request::default() }
}

/// Makes one step; false where there was nothing to do.
fn step(scheduler: &mut Scheduler, model: &mut Model) -> bool {
    let next = model.compute(&scheduler.plan());
    scheduler.complete(&next);
    !next.is_empty()
}

fn submit(scheduler: &mut Scheduler, model: &mut Model, request: Request) -> RequestId {
    let id = scheduler.submit(request.clone()).unwrap();
    model.requests.insert(id, request.prompt);
    id
}

#[test]
fn a_beginning_that_many_share_is_computed_once() {
    let limits = Limits {
        blocks: 1_000,
        block_tokens: 16,
        step_tokens: 512,
        step_rows: 64,
        running: 64,
        waiting_tokens: 100_000,
        ..limits()
    };
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
fn sequences_of_one_prompt_compute_it_once() {
    let limits = Limits { blocks: 1_000, step_tokens: 256, context: 2_000, ..limits() };
    let (mut scheduler, mut model) = (Scheduler::new(limits), Model::new(&limits));
    let prompt: Vec<u32> = (0..1_000).collect();
    for _ in 0..8 {
        submit(&mut scheduler, &mut model, request(&prompt, 4));
    }
    while step(&mut scheduler, &mut model) {}
    let figures = scheduler.figures();
    assert_eq!(figures.prompt_tokens, 1_000 + 7 * 8);
    assert_eq!((figures.generated_tokens, figures.cache_tokens_used), (32, 0));
    // One that waits for another goes by itself when that is given up.
    let other: Vec<u32> = (2_000..3_000).collect();
    let gone = submit(&mut scheduler, &mut model, request(&other, 4));
    let waits = submit(&mut scheduler, &mut model, request(&other, 4));
    step(&mut scheduler, &mut model);
    assert_eq!(scheduler.figures().waiting, 1);
    scheduler.cancel(gone);
    while step(&mut scheduler, &mut model) {}
    assert_eq!(model.requests[&waits].len(), 1_004);
    assert_eq!(scheduler.figures().prompt_tokens - figures.prompt_tokens, 1_000);
}

#[test]
fn one_that_owes_logits_of_its_prompt_neither_waits_for_others_nor_keeps_them_waiting() {
    let limits = Limits { step_tokens: 256, step_rows: 8, ..limits() };
    let (mut scheduler, mut model) = (Scheduler::new(limits), Model::new(&limits));
    let prompt: Vec<u32> = (0..300).collect();
    let scored = || Request { prompt_logprobs: true, ..request(&prompt, 1) };
    submit(&mut scheduler, &mut model, scored());
    step(&mut scheduler, &mut model);
    submit(&mut scheduler, &mut model, request(&prompt, 1));
    submit(&mut scheduler, &mut model, scored());
    step(&mut scheduler, &mut model);
    assert_eq!((scheduler.figures().running, scheduler.figures().waiting), (3, 0));
    while step(&mut scheduler, &mut model) {}
    assert_eq!(scheduler.figures().queried_tokens, 300);
    assert_eq!(scheduler.figures().prompt_tokens, 900);
}

#[test]
fn the_most_urgent_runs_first_and_of_equals_the_first_to_come() {
    let limits = Limits { running: 1, ..limits() };
    let (mut scheduler, mut model) = (Scheduler::new(limits), Model::new(&limits));
    let priorities = [0, 2, i32::MIN, 1, 2, i32::MAX];
    let ids = priorities.map(|priority| {
        let prompt = [priority as u32, 1];
        submit(&mut scheduler, &mut model, Request { priority, ..request(&prompt, 1) })
    });
    let mut order = Vec::new();
    while scheduler.figures().waiting > 0 {
        let plan = scheduler.plan();
        order.push(ids.iter().position(|id| *id == plan[0].id).unwrap());
        let next = model.compute(&plan);
        scheduler.complete(&next);
    }
    assert_eq!(order, [5, 1, 4, 3, 0, 2]);
}

#[test]
fn figures_say_what_waits_and_what_is_held() {
    let limits = Limits { running: 1, reuses_prefixes: false, ..limits() };
    let (mut scheduler, mut model) = (Scheduler::new(limits), Model::new(&limits));
    submit(&mut scheduler, &mut model, request(&[1; 20], 3));
    submit(&mut scheduler, &mut model, request(&[2; 30], 3));
    step(&mut scheduler, &mut model);
    let expected = Figures {
        running: 1,
        waiting: 1,
        waiting_tokens: 30,
        cache_tokens: 1_024,
        cache_tokens_used: 32,
        prompt_tokens: 20,
        generated_tokens: 1,
        ..Figures::default()
    };
    assert_eq!(scheduler.figures(), expected);
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
    let next = model.compute(&plan);
    scheduler.complete(&next);
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

#[test]
fn a_prompt_that_is_longer_than_all_that_may_wait_waits_alone() {
    let limits = Limits { waiting_tokens: 100, running: 1, ..limits() };
    let (mut scheduler, mut model) = (Scheduler::new(limits), Model::new(&limits));
    submit(&mut scheduler, &mut model, request(&[1; 500], 1));
    assert_eq!(
        scheduler.submit(request(&[1], 1)),
        Err(Error::Full { requests: 1, tokens: 500 }),
        "nothing waits beside it"
    );
    while step(&mut scheduler, &mut model) {}
    submit(&mut scheduler, &mut model, request(&[2; 90], 1));
    assert!(matches!(scheduler.submit(request(&[1; 500], 1)), Err(Error::Full { requests: 1, .. })));
}

#[test]
fn those_who_wait_for_what_another_computes_keep_back_nobody() {
    let limits =
        Limits { blocks: 1_000, step_tokens: 64, running: 64, context: 2_000, waiting_tokens: 100_000, ..limits() };
    let (mut scheduler, mut model) = (Scheduler::new(limits), Model::new(&limits));
    let shared: Vec<u32> = (0..1_000).collect();
    for own in 0..LOOK_AHEAD as u32 + 8 {
        submit(&mut scheduler, &mut model, request(&[&shared[..], &[5_000 + own]].concat(), 1));
    }
    let other = submit(&mut scheduler, &mut model, request(&[7; 20], 1));
    step(&mut scheduler, &mut model);
    assert_eq!(model.requests[&other].len(), 21);
    while step(&mut scheduler, &mut model) {}
    assert!(scheduler.figures().prompt_tokens < 2 * 1_000);
}

#[test]
fn prompts_whose_logits_are_all_wanted_go_on_whoever_else_runs_and_keep_back_nobody() {
    let limits = Limits { step_rows: 8, blocks: 200, ..limits() };
    let (mut scheduler, mut model) = (Scheduler::new(limits), Model::new(&limits));
    // As many draw as a step has rows.
    for number in 0..8 {
        submit(&mut scheduler, &mut model, request(&[number; 3], 500));
    }
    step(&mut scheduler, &mut model);
    step(&mut scheduler, &mut model);
    let scored = |prompt: &[u32]| Request { prompt_logprobs: true, ..request(prompt, 1) };
    let late = submit(&mut scheduler, &mut model, scored(&[50; 30]));
    for _ in 0..40 {
        step(&mut scheduler, &mut model);
    }
    assert_eq!(model.requests[&late].len(), 31);

    // Two share what is left, and one that only draws waits for neither.
    let (mut scheduler, mut model) = (Scheduler::new(limits), Model::new(&limits));
    let long = submit(&mut scheduler, &mut model, scored(&[1; 800]));
    let short = submit(&mut scheduler, &mut model, scored(&[2; 12]));
    let drawn = submit(&mut scheduler, &mut model, request(&[3; 20], 1));
    step(&mut scheduler, &mut model);
    assert_eq!(model.requests[&drawn].len(), 21);
    for _ in 0..5 {
        step(&mut scheduler, &mut model);
    }
    assert_eq!((model.requests[&short].len(), model.requests[&long].len()), (13, 800));
}
