//! `engine`: the process that computes, at a Unix socket.

use std::path::{Path, PathBuf};

use palimpsest_infer::Limits;
use palimpsest_model::{CachedDecoder, Decoder};
use palimpsest_torch::host_memory;
use palimpsest_train::{Error, Result};
use palimpsest_vocab::Tokenizer;
use tch::{Device, Kind};

use super::memory;
use super::model::{Served, end_ids};
use crate::device::{parse_device, set_threads};

/// The share of the memory that is left which a cache takes where its size is not given.
const SHARE: f64 = 0.5;

/// What no cache takes: what else the process and its neighbours come to need.
const RESERVE: u64 = 256 << 20;

/// What is served, and within which bounds. The server hands them on as they are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// A Hugging Face folder, or a checkpoint's.
    #[arg(long)]
    pub(crate) model: PathBuf,
    /// auto, float32 or bfloat16; auto: float32 on a CPU, bfloat16 on a GPU.
    #[arg(long, default_value = "auto")]
    pub(crate) precision: String,
    /// Threads to compute with; default: all cores.
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Tokens that a step computes at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = at_least_one)]
    pub(crate) max_batch_tokens: usize,
    /// Requests that run at once.
    #[arg(long, value_name = "REQUESTS", default_value_t = 64, value_parser = at_least_one)]
    pub(crate) max_sequences: usize,
    /// Tokens that a request may have, prompt and output; default: as many as the model was trained on.
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub(crate) max_context: Option<usize>,
    /// Memory of the cache of keys and values, in MiB; default: half of what is left, at most what the requests can fill.
    #[arg(long, value_name = "MIB", value_parser = at_least_one)]
    pub(crate) cache_memory: Option<usize>,
    /// Compute the beginnings that requests share anew for each.
    #[arg(long)]
    pub(crate) no_prefix_cache: bool,
    /// Requests that wait at most; more are answered 429.
    #[arg(long, value_name = "REQUESTS", default_value_t = 512, value_parser = at_least_one)]
    pub(crate) max_queued_requests: usize,
    /// Tokens of the prompts that wait at most; more are answered 429.
    #[arg(long, value_name = "TOKENS", default_value_t = 1_000_000, value_parser = at_least_one)]
    pub(crate) max_queued_tokens: usize,
}

/// What is served, and where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// The Unix socket.
    #[arg(long)]
    socket: PathBuf,
}

fn at_least_one(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "write a whole number, 1 at least".to_owned())
}

/// An engine's parts, ready to serve.
pub(crate) struct Ready {
    pub(crate) model: Served,
    pub(crate) limits: Limits,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) end_ids: Vec<u32>,
    pub(crate) compute: Kind,
}

/// Loads a model and makes its cache, as large as there is memory for.
pub(crate) fn load(settings: &Settings) -> Result<Ready> {
    let device = parse_device(&settings.device)?;
    set_threads(settings.threads)?;
    let compute = match (settings.precision.as_str(), device) {
        ("auto", Device::Cpu) | ("float32", _) => Kind::Float,
        ("auto" | "bfloat16", _) => Kind::BFloat16,
        (other, _) => return Err(Error::User(format!("--precision {other}: use auto, float32 or bfloat16"))),
    };
    palimpsest_torch::keep_freed_memory();
    let tokenizer = Tokenizer::open(&settings.model)?;
    let decoder = Decoder::open(&settings.model, device, compute)?;
    let block_bytes = CachedDecoder::block_bytes(&decoder, compute);
    let trained = decoder.config.context() as usize;
    let context = settings.max_context.unwrap_or(trained);
    if context > trained {
        let sentence = format!("--max-context {context}: the model knows {trained} positions; ask for no more");
        return Err(Error::User(sentence));
    }
    let mut limits = Limits {
        blocks: 1,
        block_tokens: CachedDecoder::BLOCK_TOKENS,
        step_tokens: settings.max_batch_tokens.max(settings.max_sequences),
        step_rows: settings.max_sequences,
        running: settings.max_sequences,
        waiting_requests: settings.max_queued_requests,
        waiting_tokens: settings.max_queued_tokens,
        context,
        reuses_prefixes: !settings.no_prefix_cache,
    };
    // Computed once, so that what steps take is taken before the cache is.
    let mut model = Served::new(decoder, compute, Served::blocks_of_largest_step(&limits))?;
    model.take_largest_step(&limits)?;
    limits.blocks = cache_blocks(settings, &limits, block_bytes, device)?;
    model.resize(limits.blocks.max(Served::blocks_of_largest_step(&limits)))?;
    // And once more beside it: whatever comes later takes no more than this.
    model.take_largest_step(&limits)?;
    let end_ids = end_ids(&settings.model, &tokenizer)?;
    Ok(Ready { model, limits, tokenizer, end_ids, compute })
}

/// How many blocks the cache has.
fn cache_blocks(settings: &Settings, limits: &Limits, block_bytes: u64, device: Device) -> Result<usize> {
    let most = limits.running.saturating_mul(limits.context.div_ceil(limits.block_tokens));
    let left = if device.is_cuda() { None } else { memory::available() };
    let least = limits.context.min(limits.block_tokens * 4).div_ceil(limits.block_tokens) as u64;
    let bytes = match (settings.cache_memory, left) {
        (Some(mebibytes), _) => (mebibytes as u64) << 20,
        (None, Some(left)) => (left.saturating_sub(RESERVE) as f64 * SHARE) as u64,
        (None, None) => {
            return Err(Error::User("--cache-memory: how much memory there is cannot be told here; name it".to_owned()));
        }
    };
    if let Some(left) = left.filter(|left| bytes > left.saturating_sub(RESERVE)) {
        let sentence = format!(
            "--cache-memory {}: {} MiB of memory are left, of which {} are kept free; ask for less, or give the process more",
            bytes >> 20,
            left >> 20,
            RESERVE >> 20
        );
        return Err(Error::User(sentence));
    }
    let blocks = bytes / block_bytes;
    if blocks < least {
        let sentence = format!(
            "a cache of {} MiB holds {} tokens, too few to serve anything; give it {} MiB at least by --cache-memory",
            bytes >> 20,
            blocks * limits.block_tokens as u64,
            (least * block_bytes).div_ceil(1 << 20)
        );
        return Err(Error::User(sentence));
    }
    Ok(usize::try_from(blocks).unwrap_or(usize::MAX).min(most))
}
