//! Repetitions, timed: of a given number, or when a peer's turn is over.

use std::io::BufRead;
use std::time::Instant;

use palimpsest_torch::{HostMemory, host_memory, reset_host_peak};
use palimpsest_train::{Error, Result, matrix_flops_per_second};
use serde::Serialize;
use tch::{Device, Kind};

/// How often and for whom.
#[derive(Debug, clap::Args)]
pub(super) struct TurnArguments {
    /// Repetitions that are measured, after as many again, at most 3, that are not.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    repetitions: u64,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
    /// Take turns with another program: read numbers of repetitions, line by line, and answer each with a JSON object.
    #[arg(long)]
    turns: bool,
}

/// What repetitions took.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Turn {
    /// Of each repetition.
    seconds: Vec<f64>,
    /// What all threads of the process ran for in all repetitions: other processes on the machine hardly lengthen it.
    cpu_seconds: f64,
    /// The loss before the last.
    loss: f64,
    /// Resident before the first repetition of all, with what it works on.
    resident_before: u64,
    /// The most that was resident since.
    peak: u64,
    /// Operators of libtorch in one repetition.
    operators: u64,
}

/// What one repetition does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// Tokens that it works on.
    pub(super) tokens: u64,
    /// Floating-point operations of the model, as docs/metrics.md counts them; absent where they are not counted.
    pub(super) flops: Option<f64>,
    /// The kind that it computes in.
    pub(super) compute: Kind,
    /// Where.
    pub(super) device: Device,
}

/// What is known before the first turn.
struct Measure {
    before: HostMemory,
    operators: u64,
}

/// Measures `body`, which gives the loss.
pub(super) fn measure(arguments: &TurnArguments, work: &Work, mut body: impl FnMut() -> Result<f64>) -> Result<()> {
    // As ranks do; but what loading freed would hide what the repetitions take.
    palimpsest_torch::keep_freed_memory();
    reset_host_peak();
    let before = host_memory().unwrap_or_default();
    body()?;
    let (counted, operators) = palimpsest_torch::count_operators(&mut body)?;
    counted?;
    let measure = Measure { before, operators };
    if arguments.turns {
        return take_turns(&measure, body);
    }
    for _ in 0..arguments.repetitions.min(3) {
        body()?;
    }
    let turn = measure.turn(arguments.repetitions, &mut body)?;
    if arguments.json {
        print_json(&turn);
        return Ok(());
    }
    let median = median(&turn.seconds);
    println!(
        "{:>12} {:>12} {:>12} {:>12} {:>12} {:>8}",
        "seconds", "tokens/s", "operators", "peak MB", "GFLOP/s", "MFU"
    );
    let (mut rate, mut mfu) = ("-".to_owned(), "-".to_owned());
    if let Some(flops) = work.flops {
        let most = matrix_flops_per_second(work.compute, work.device)?;
        rate = format!("{:.1}", flops / median / 1e9);
        mfu = format!("{:.1} %", 100.0 * flops / median / most);
    }
    println!(
        "{median:>12.6} {:>12.0} {operators:>12} {:>12.0} {rate:>12} {mfu:>8}",
        work.tokens as f64 / median,
        turn.peak as f64 / 1e6
    );
    Ok(())
}

fn take_turns(measure: &Measure, mut body: impl FnMut() -> Result<f64>) -> Result<()> {
    println!("ready");
    for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
        let repetitions = line.trim().parse().map_err(|_| {
            Error::User(format!("--turns: \"{line}\" on standard input is no number of repetitions; write one a line"))
        })?;
        print_json(&measure.turn(repetitions, &mut body)?);
    }
    Ok(())
}

fn print_json(turn: &Turn) {
    println!("{}", serde_json::json!(turn));
}

impl Measure {
    fn turn(&self, repetitions: u64, body: &mut impl FnMut() -> Result<f64>) -> Result<Turn> {
        let mut loss = f64::NAN;
        let cpu_before = cpu_seconds();
        let mut seconds = Vec::with_capacity(repetitions as usize);
        for _ in 0..repetitions {
            let started = Instant::now();
            loss = body()?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        let cpu_seconds = cpu_seconds() - cpu_before;
        let peak = host_memory().unwrap_or_default().peak;
        Ok(Turn { seconds, cpu_seconds, loss, resident_before: self.before.resident, peak, operators: self.operators })
    }
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The seconds that all threads have run; 0 where the kernel does not tell.
fn cpu_seconds() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let nanoseconds = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}
