//! `generate`: continues a prompt, printing the text as it comes.

use std::io::Write;
use std::path::PathBuf;

use palimpsest_infer::{Engine, Event, Limits, Request, Sampling, Task};
use palimpsest_model::{CachedDecoder, Decoder};
use palimpsest_train::{Error, Result};
use palimpsest_vocab::Tokenizer;
use tch::Kind;

use crate::device::{parse_device, set_threads};
use crate::serving::{Served, end_ids};

/// Tokens of a long prompt that are computed at once.
const STEP_TOKENS: usize = 512;

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
    /// Divides the logits; 0: take the likeliest id each time.
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
    let context = model.config.cached_context() as usize;
    let limits = Limits {
        blocks: prompt
            .len()
            .saturating_add(arguments.max_new_tokens)
            .min(context)
            .div_ceil(CachedDecoder::BLOCK_TOKENS),
        block_tokens: CachedDecoder::BLOCK_TOKENS,
        step_tokens: STEP_TOKENS,
        step_rows: 1,
        running: 1,
        waiting_requests: 1,
        waiting_tokens: prompt.len(),
        context,
        reuses_prefixes: false,
    };
    let task = Task {
        // As many as fit are given, and one at least is asked for.
        request: Request {
            prompt: prompt.clone(),
            new_tokens: arguments.max_new_tokens.min(context.saturating_sub(prompt.len())).max(1),
            ..Request::default()
        },
        sampling: Sampling {
            temperature: if arguments.greedy { 0.0 } else { arguments.temperature },
            top_k: arguments.top_k,
            top_p: arguments.top_p,
            seed: arguments.seed,
            ..Sampling::default()
        },
        ends: end_ids(&arguments.model, &tokenizer)?,
        ..Task::default()
    };
    let mut engine = Engine::new(Served::new(CachedDecoder::new(model, compute, limits.blocks)?), limits);
    let user = |error: palimpsest_infer::Error| Error::User(error.to_string());
    engine.submit(task).map_err(user)?;
    let mut ids = prompt;
    let mut shown = Shown::default();
    let mut stdout = std::io::stdout().lock();
    let mut show = |text: &str| {
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    };
    show(shown.next(&tokenizer.decode(&ids)));
    let mut failure = None;
    while failure.is_none() {
        let is_going_on = engine.step(|_, event| match event {
            Event::Token { token, .. } => {
                ids.push(token);
                show(shown.next(&tokenizer.decode(&ids)));
            }
            Event::Failed(error) => failure = Some(error),
            Event::Started { .. } | Event::Prompt(_) | Event::Finished { .. } => {}
        })?;
        if !is_going_on {
            break;
        }
    }
    if let Some(error) = failure {
        return Err(user(error));
    }
    show(shown.rest(&tokenizer.decode(&ids)));
    println!();
    Ok(())
}

/// What has been shown of a text that grows.
#[derive(Debug, Default)]
struct Shown(String);

impl Shown {
    /// What is new and can be shown now. The bytes of a character may come one id at a time: what is not whole yet waits,
    /// as does what no longer goes on from what was shown.
    fn next<'a>(&mut self, text: &'a str) -> &'a str {
        let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let Some(new) = whole.strip_prefix(self.0.as_str()) else { return "" };
        self.0.push_str(new);
        new
    }

    /// What is left to show of the whole text: all that follows what it has in common with what was shown.
    fn rest<'a>(&self, text: &'a str) -> &'a str {
        let pairs = self.0.chars().zip(text.chars());
        let common = pairs.take_while(|(shown, wanted)| shown == wanted).map(|(shown, _)| shown.len_utf8()).sum();
        &text[common..]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_text_is_shown_in_the_end() {
        let mut shown = Shown::default();
        assert_eq!(shown.next("a"), "a");
        assert_eq!(shown.next("a\u{fffd}"), "");
        assert_eq!(shown.next("a中"), "中");
        assert_eq!(shown.next("a中\u{fffd}\u{fffd}"), "");
        assert_eq!(shown.rest("a中\u{fffd}\u{fffd}"), "\u{fffd}\u{fffd}");
        // A decoder that cleans up changes what it gave before.
        assert_eq!(shown.next("a文 and more"), "");
        assert_eq!(shown.rest("a文 and more"), "文 and more");
        assert_eq!(shown.rest("a中"), "");
    }
}
