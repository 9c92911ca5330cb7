//! `generate`: continues a prompt, printing the text as it comes.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use palimpsest_model::{Decoder, GenerateOptions, generate};
use palimpsest_train::{Error, Result};
use palimpsest_vocab::Tokenizer;
use tch::Kind;

use crate::device::{parse_device, set_threads};

/// How to continue a prompt.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A Hugging Face folder, or a checkpoint's.
    #[arg(long)]
    model: PathBuf,
    /// The text to continue.
    #[arg(long)]
    prompt: String,
    /// The most ids to generate.
    #[arg(long, default_value_t = 128)]
    max_new_tokens: usize,
    /// Divides the logits.
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Draw among this many likeliest ids; 0: among all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Draw among the fewest likeliest ids whose probabilities sum to this.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// The seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Take the likeliest id each time.
    #[arg(long)]
    greedy: bool,
    /// Threads to compute with; default: all cores.
    #[arg(long)]
    threads: Option<usize>,
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Prints the prompt and what follows it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let device = parse_device(&arguments.device)?;
    set_threads(arguments.threads)?;
    let tokenizer = Tokenizer::open(&arguments.model)?;
    let compute = if device.is_cuda() { Kind::BFloat16 } else { Kind::Float };
    let model = Decoder::open(&arguments.model, device, compute)?;
    let mut prompt: Vec<u32> = tokenizer.bos().into_iter().collect();
    prompt.extend(tokenizer.encode(&arguments.prompt)?);
    let options = GenerateOptions {
        max_new_tokens: arguments.max_new_tokens,
        greedy: arguments.greedy,
        temperature: arguments.temperature,
        top_k: arguments.top_k,
        top_p: arguments.top_p,
        seed: arguments.seed,
        eos: tokenizer.eos().into_iter().collect(),
        compute,
    };
    let mut ids = prompt.clone();
    let mut printed = String::new();
    let mut stdout = std::io::stdout().lock();
    let mut show = |ids: &[u32]| {
        let text = tokenizer.decode(ids);
        // The bytes of a character may come one id at a time: what is not whole yet waits.
        let whole = text.trim_end_matches('\u{fffd}');
        if let Some(new) = whole.strip_prefix(printed.as_str()) {
            let _ = stdout.write_all(new.as_bytes()).and_then(|()| stdout.flush());
            printed = whole.to_owned();
        }
    };
    show(&ids);
    generate(&model, &prompt, &options, |id| {
        ids.push(id);
        show(&ids);
        ControlFlow::Continue(())
    })
    .map_err(|error| match error {
        palimpsest_model::Error::Invalid(problem) => Error::User(problem),
        error => error.into(),
    })?;
    println!();
    Ok(())
}
