//! Requests against a model that says one more than the last token.

use super::{Engine, Event, Finish, Model, Task};
use crate::error::Error;
use crate::limits::Limits;
use crate::sampler::Sampling;
use crate::scheduler::{Request, RequestId, Work};

const VOCABULARY: usize = 20;

/// After token t comes t + 1, and after the last the first. After a damaged token comes nothing that is a number.
struct Counting {
    damaged: u32,
    is_gone: bool,
}

impl Model for Counting {
    type Error = &'static str;

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn step(&mut self, step: &[Work], logits: &mut Vec<f32>) -> Result<(), Self::Error> {
        if self.is_gone {
            return Err("the device is gone");
        }
        logits.clear();
        for work in step.iter().filter(|work| work.is_sampled) {
            let last = *work.tokens.last().unwrap();
            let next = (last as usize + 1) % VOCABULARY;
            let damage = if last == self.damaged { f32::NAN } else { 0.0 };
            logits.extend((0..VOCABULARY).map(|token| if token == next { 9.0 } else { damage }));
        }
        Ok(())
    }
}

fn mk_engine() -> Engine<Counting> {
    let limits = Limits {
        blocks: 40,
        block_tokens: 4,
        step_tokens: 16,
        running: 8,
        waiting_requests: 100,
        waiting_tokens: 1000,
        context: 100,
        reuses_prefixes: true,
    };
    Engine::new(Counting { damaged: 15, is_gone: false }, limits)
}

fn mk_task(prompt: &[u32], new_tokens: usize) -> Task {
    Task {
        request: Request { prompt: prompt.to_vec(), new_tokens, priority: 0 },
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        ends: vec![12],
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

#[test]
fn each_request_ends_for_its_own_reason() {
    let mut engine = mk_engine();
    let by_length = engine.submit(mk_task(&[1, 2], 3)).unwrap();
    let by_end = engine.submit(mk_task(&[9, 9, 10], 30)).unwrap();
    let by_both = engine.submit(mk_task(&[11], 1)).unwrap();
    let by_damage = engine.submit(mk_task(&[3, 13], 30)).unwrap();
    let told = run(&mut engine);
    let token = |token| Event::Token(token, None);
    assert_eq!(of(&told, by_length), [token(3), token(4), Event::Token(5, Some(Finish::Length))]);
    assert_eq!(of(&told, by_end), [token(11), Event::Token(12, Some(Finish::Stop))]);
    assert_eq!(of(&told, by_both), [Event::Token(12, Some(Finish::Stop))]);
    assert_eq!(of(&told, by_damage), [token(14), token(15), Event::Failed(Error::NoNumbers)]);
    let figures = engine.figures();
    assert_eq!((figures.running, figures.waiting, figures.blocks_held), (0, 0, 0));
    assert!(engine.running.is_empty());
}

#[test]
fn nothing_comes_of_what_was_cancelled() {
    let mut engine = mk_engine();
    let gone = engine.submit(mk_task(&[1], 30)).unwrap();
    let stays = engine.submit(mk_task(&[1], 2)).unwrap();
    let mut told = Vec::new();
    assert_eq!(engine.step(|id, event| told.push((id, event))), Ok(true));
    engine.cancel(gone);
    told.clear();
    told.extend(run(&mut engine));
    assert!(of(&told, gone).is_empty());
    assert!(of(&told, stays).contains(&Event::Token(3, Some(Finish::Length))));
    assert_eq!(engine.figures().blocks_held, 0);
}

#[test]
fn what_cannot_be_served_is_refused_and_a_lost_model_is_told_of() {
    let mut engine = mk_engine();
    let mut refused = |task: Task| engine.submit(task).unwrap_err().to_string();
    assert_eq!(refused(mk_task(&[20], 1)), "the prompt holds token 20, but the model's vocabulary has 20");
    assert_eq!(refused(mk_task(&[1], 0)), "no token is asked for; ask for one at least");
    let mut hot = mk_task(&[1], 1);
    hot.sampling.temperature = -1.0;
    assert_eq!(refused(hot), "temperature is -1; it must be 0 or more");
    engine.submit(mk_task(&[1], 5)).unwrap();
    engine.model.is_gone = true;
    assert_eq!(engine.step(|_, _| {}), Err("the device is gone"));
}
