//! `bench infer`: requests that come at once, through the engine, without a server.

use std::io::BufRead;
use std::time::Instant;

use palimpsest_infer::{Engine, Event, Model, Request, Sampling, Task};
use palimpsest_serve::EngineSettings;
use palimpsest_torch::host_memory;
use palimpsest_train::{Error, Result};
use serde_json::json;

use crate::serving::{Served, load_engine};

/// The model, and what is asked of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    settings: EngineSettings,
    /// Requests that come at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Tokens of each prompt.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..))]
    prompt: u64,
    /// Tokens that each is given.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    new: u64,
    /// How often; the first is not measured.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(2..))]
    rounds: u64,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
    /// Take turns with another program: each line of standard input is a round, answered with a JSON object.
    #[arg(long)]
    turns: bool,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let ready = load_engine(&arguments.settings)?;
    let mut engine = Engine::new(ready.model, ready.limits);
    let peak = || host_memory().unwrap_or_default().peak;
    if arguments.turns {
        println!("ready");
        for (round, _) in std::io::stdin().lock().lines().map_while(std::io::Result::ok).enumerate() {
            let seconds = take_round(&mut engine, arguments, round as u64)?;
            println!("{}", json!({"seconds": seconds, "peak": peak()}));
        }
        return Ok(());
    }
    let mut seconds = Vec::new();
    for round in 0..arguments.rounds {
        seconds.push(take_round(&mut engine, arguments, round)?);
    }
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let tokens_per_second = (arguments.requests * arguments.new) as f64 / median;
    if arguments.json {
        println!("{}", json!({"seconds": seconds, "tokensPerSecond": tokens_per_second, "peak": peak()}));
    } else {
        println!("{:>12} {:>12} {:>12}", "seconds", "tokens/s", "peak MB");
        println!("{median:>12.3} {tokens_per_second:>12.1} {:>12.0}", peak() as f64 / 1e6);
    }
    Ok(())
}

/// The seconds that all requests of a round take.
fn take_round(engine: &mut Engine<Served>, arguments: &Arguments, round: u64) -> Result<f64> {
    let refused = |error: palimpsest_infer::Error| Error::User(error.to_string());
    let vocabulary = engine.model().vocabulary() as u64;
    let began = Instant::now();
    for request in 0..arguments.requests {
        // No two prompts begin alike, so that nothing is found in the cache.
        let first = round * arguments.requests + request + 1;
        let id = |index: u64| (first * 7919 + index * index * 31 + index * 17) % vocabulary;
        let task = Task {
            request: Request {
                prompt: (0..arguments.prompt).map(|index| id(index) as u32).collect(),
                new_tokens: arguments.new as usize,
                ..Request::default()
            },
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            ..Task::default()
        };
        engine.submit(task).map_err(refused)?;
    }
    let mut failure = None;
    while engine.step(|_, event| {
        if let Event::Failed(error) = event {
            failure = Some(error);
        }
    })? {}
    failure.map_or_else(|| Ok(began.elapsed().as_secs_f64()), |error| Err(refused(error)))
}
