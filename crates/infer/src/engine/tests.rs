//! Requests against a model that says one more than the last token.

use super::Engine;
use crate::error::Error;
use crate::format::Format;
use crate::limits::Limits;
use crate::logprobs::Logprobs;
use crate::model::Model;
use crate::request::{Request, RequestId};
use crate::sampler::Sampling;
use crate::task::{Event, Finish, Task};
use crate::work::{Wanted, Work};

const VOCABULARY: usize = 20;

/// After token t comes t + 1, and after the last the first. After a damaged token comes nothing that is a number.
struct Counting {
    damaged: u32,
    is_gone: bool,
    logits: Vec<f32>,
    most_rows: usize,
}

/// The logits after a token.
fn row(token: u32, damaged: u32) -> [f32; VOCABULARY] {
    let next = (token as usize + 1) % VOCABULARY;
    let other = if token == damaged { f32::NAN } else { 0.0 };
    std::array::from_fn(|token| if token == next { 9.0 } else { other })
}

impl Model for Counting {
    type Error = &'static str;

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn step(&mut self, step: &[Work<'_>]) -> Result<&[f32], Self::Error> {
        if self.is_gone {
            return Err("the device is gone");
        }
        self.logits.clear();
        for work in step {
            let wanted = match work.wanted {
                Wanted::None => &[],
                Wanted::Last => &work.tokens[work.tokens.len() - 1..],
                Wanted::All => work.tokens,
            };
            self.logits.extend(wanted.iter().flat_map(|token| row(*token, self.damaged)));
        }
        self.most_rows = self.most_rows.max(self.logits.len() / VOCABULARY);
        Ok(&self.logits)
    }
}

fn mk_engine() -> Engine<Counting> {
    let limits = Limits {
        blocks: 40,
        block_tokens: 4,
        step_tokens: 16,
        step_rows: 8,
        running: 8,
        waiting_requests: 100,
        waiting_tokens: 1000,
        context: 100,
        reuses_prefixes: true,
    };
    Engine::new(Counting { damaged: 15, is_gone: false, logits: Vec::new(), most_rows: 0 }, limits)
}

fn mk_task(prompt: &[u32], new_tokens: usize) -> Task {
    Task {
        request: Request { prompt: prompt.to_vec(), new_tokens, ..Request::default() },
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        ends: vec![12],
        ..Task::default()
    }
}

fn run(engine: &mut Engine<Counting>) -> Vec<(RequestId, Event)> {
    let mut told = Vec::new();
    while engine.step(|id, event| told.push((id, event))).unwrap() {}
    told
}

fn of(told: &[(RequestId, Event)], id: RequestId) -> Vec<Event> {
    told.iter().filter(|(told, _)| *told == id).map(|(_, event)| event.clone()).collect()
}

fn token(token: u32) -> Event {
    Event::Token { token, logprobs: None }
}

fn finished(reason: Finish, tokens: usize, cached_tokens: usize) -> Event {
    Event::Finished { reason, tokens, cached_tokens }
}

const STARTED: Event = Event::Started { cached_tokens: 0 };

#[test]
fn each_request_ends_for_its_own_reason() {
    let mut engine = mk_engine();
    let by_length = engine.submit(mk_task(&[1, 2], 3)).unwrap();
    let by_end = engine.submit(mk_task(&[9, 9, 10], 30)).unwrap();
    let by_both = engine.submit(mk_task(&[11], 1)).unwrap();
    let by_damage = engine.submit(mk_task(&[3, 13], 30)).unwrap();
    // The model's ends are tokens as any other where none are given.
    let ends = Vec::new();
    let endless = engine.submit(Task { ends, ..mk_task(&[11], 2) }).unwrap();
    let told = run(&mut engine);
    assert_eq!(of(&told, by_length), [STARTED, token(3), token(4), token(5), finished(Finish::Length, 3, 0)]);
    assert_eq!(of(&told, by_end), [STARTED, token(11), token(12), finished(Finish::Stop, 2, 0)]);
    assert_eq!(of(&told, by_both), [STARTED, token(12), finished(Finish::Stop, 1, 0)]);
    assert_eq!(of(&told, by_damage), [STARTED, token(14), token(15), Event::Failed(Error::NoNumbers)]);
    assert_eq!(of(&told, endless), [STARTED, token(12), token(13), finished(Finish::Length, 2, 0)]);
    let figures = engine.figures();
    assert_eq!((figures.running, figures.waiting, figures.cache_tokens_used), (0, 0, 0));
    assert_eq!((figures.prompt_tokens, figures.generated_tokens), (9, 10));
    assert!(engine.served.is_empty());
}

#[test]
fn nothing_comes_of_what_was_cancelled() {
    let mut engine = mk_engine();
    let gone = engine.submit(mk_task(&[1], 30)).unwrap();
    let stays = engine.submit(mk_task(&[1], 2)).unwrap();
    let mut told = Vec::new();
    assert_eq!(engine.step(|id, event| told.push((id, event))), Ok(true));
    engine.cancel(gone);
    let waits = engine.submit(mk_task(&[1], 2)).unwrap();
    engine.cancel(waits);
    told.clear();
    told.extend(run(&mut engine));
    assert!(of(&told, gone).is_empty() && of(&told, waits).is_empty());
    assert!(of(&told, stays).contains(&finished(Finish::Length, 2, 0)));
    assert_eq!(engine.figures().cache_tokens_used, 0);
}

#[test]
fn log_probabilities_of_a_prompt_come_once_each_whatever_the_cache_holds() {
    let mut engine = mk_engine();
    let prompt: Vec<u32> = (0..30).map(|index| index * 7 % 13).collect();
    engine.submit(mk_task(&prompt, 1)).unwrap();
    run(&mut engine);
    let mut task = mk_task(&prompt, 2);
    task.request.prompt_logprobs = true;
    task.logprobs = Some(3);
    let scored = engine.submit(task.clone()).unwrap();
    let plain = engine.submit(mk_task(&prompt, 1)).unwrap();
    // So many rows at once, and no more, even though a step has room for twice as many tokens.
    let told = run(&mut engine);
    assert_eq!(engine.model.most_rows, 8);
    let expected: Vec<Logprobs> =
        prompt.windows(2).map(|pair| Logprobs::of(&row(pair[0], 99), pair[1], 3).unwrap()).collect();
    let events = of(&told, scored);
    let parts = events.iter().filter_map(|event| match event {
        Event::Prompt(part) => Some(part.clone()),
        _ => None,
    });
    let parts: Vec<Vec<Logprobs>> = parts.collect();
    assert!(parts.len() >= 4, "{parts:?}");
    assert_eq!(parts.concat(), expected);
    let last = events.last().unwrap();
    assert_eq!(*last, finished(Finish::Length, 2, 0), "nothing is taken from the cache");
    let Event::Token { token, logprobs: Some(logprobs) } = &events[parts.len() + 1] else { panic!("{events:?}") };
    assert_eq!(*logprobs, Logprobs::of(&row(*prompt.last().unwrap(), 99), *token, 3).unwrap());
    assert_eq!(*of(&told, plain).last().unwrap(), finished(Finish::Length, 1, 28), "others take what there is");
    // With no token to give, the prompt's are all; and of a single token there are none.
    task.request.new_tokens = 0;
    let only = engine.submit(task.clone()).unwrap();
    task.request.prompt = vec![4];
    let single = engine.submit(task).unwrap();
    let told = run(&mut engine);
    assert_eq!(of(&told, only)[1..].len(), parts.len() + 1);
    assert_eq!(*of(&told, only).last().unwrap(), finished(Finish::Length, 0, 0));
    assert_eq!(of(&told, single), [STARTED, finished(Finish::Length, 0, 0)]);
    assert_eq!(engine.figures().cache_tokens_used, 0);
}

#[test]
fn what_is_no_number_ends_its_own_request_even_in_a_prompt() {
    let mut engine = mk_engine();
    let mut scored = mk_task(&[&[15; 1][..], &[3; 20]].concat(), 5);
    let unscored = engine.submit(scored.clone()).unwrap();
    scored.request.prompt_logprobs = true;
    let failing = engine.submit(scored).unwrap();
    let mut other = mk_task(&[4; 20], 1);
    other.request.prompt_logprobs = true;
    let other = engine.submit(other).unwrap();
    let told = run(&mut engine);
    assert_eq!(of(&told, failing), [STARTED, Event::Failed(Error::NoNumbers)]);
    assert_eq!(of(&told, other).last(), Some(&finished(Finish::Length, 1, 0)));
    // Nobody asked for those logits.
    assert_eq!(of(&told, unscored).last(), Some(&finished(Finish::Length, 5, 0)));
    assert_eq!(engine.figures().cache_tokens_used, 0);
}

#[test]
fn what_cannot_be_served_is_refused_and_a_lost_model_is_told_of() {
    let mut engine = mk_engine();
    let mut refused = |task: Task| engine.submit(task).unwrap_err().to_string();
    assert_eq!(refused(mk_task(&[20], 1)), "the prompt holds token 20, but the model's vocabulary has 20");
    assert_eq!(refused(mk_task(&[1], 0)), "no token is asked for; ask for one at least");
    let many = Task { logprobs: Some(129), ..mk_task(&[1], 1) };
    assert_eq!(refused(many), "logprobs is 129; it must be at most 128");
    assert!(
        refused(mk_task(&[1; 60], 41))
            .starts_with("the prompt has 60 tokens and 41 are asked for, but the context has 100")
    );
    let formed = Task { format: Some(Format::Regex("a".to_owned())), ..mk_task(&[1], 1) };
    assert_eq!(refused(formed), "regex is given, but this engine knows no text of its tokens; ask for no format");
    let mut hot = mk_task(&[1], 1);
    hot.sampling.temperature = -1.0;
    assert_eq!(refused(hot), "temperature is -1; it must be 0 or more");
    engine.submit(mk_task(&[1], 5)).unwrap();
    engine.model.is_gone = true;
    assert_eq!(engine.step(|_, _| {}), Err("the device is gone"));
}
