//! `engine`: the process that computes, at a Unix socket.

use std::path::PathBuf;
use std::process::ExitCode;

use palimpsest_infer::{Grammars, Limits, Model};
use palimpsest_model::{CachedDecoder, Decoder};
use palimpsest_serve::{EngineSettings, Formats};
use palimpsest_train::{Error, Result};
use palimpsest_vocab::Tokenizer;
use tch::{Device, Kind};
use tokio::signal::unix::{SignalKind, signal};

use super::memory;
use super::model::{Served, end_ids};
use crate::device::{parse_device, set_threads};

/// The share of the memory that is left which a cache takes where its size is not given.
const SHARE: f64 = 0.5;

/// What a cache takes at most where its size is not given: writing to more would make every start longer.
const MOST: u64 = 4 << 30;

/// What no cache takes: what else the process and its neighbours come to need.
const RESERVE: u64 = 256 << 20;

/// What is served, and where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    settings: EngineSettings,
    /// The Unix socket.
    #[arg(long)]
    socket: PathBuf,
}

/// Serves until it is asked to end, or whoever started it has gone; says why not in one sentence.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Err(error) = serve(arguments) else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    let is_users = error.downcast_ref::<Error>().is_some_and(Error::is_users);
    ExitCode::from(if is_users { 2 } else { 1 })
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = &arguments.settings;
    // The tokenizer is read while the weights are, and what reads formats is made while requests are served.
    let (ready, texts) = std::thread::scope(|scope| {
        let texts = scope.spawn(|| -> anyhow::Result<_> {
            let tokenizer = Tokenizer::open(&settings.model).map_err(Error::from)?;
            let end_ids = end_ids(&settings.model, &tokenizer)?;
            Ok((end_ids, palimpsest_serve::token_bytes(&settings.model, tokenizer)?))
        });
        (load(settings), texts.join())
    });
    let Ready { model, limits, compute } = ready?;
    let (end_ids, tokens) = texts.map_err(|_| anyhow::anyhow!("the tokenizer cannot be read"))??;
    let (vocabulary, ends) = (model.vocabulary(), end_ids.clone());
    let served = palimpsest_serve::Served {
        device: settings.device.clone(),
        precision: if compute == Kind::Float { "float32" } else { "bfloat16" }.to_owned(),
        formats: Some(Formats::made_by(move || Grammars::new(tokens(vocabulary), &ends))),
        end_ids,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_over = async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            () = palimpsest_serve::parent_gone() => {}
        }
        std::io::Result::Ok(())
    };
    let is_over = async { drop(is_over.await) };
    runtime.block_on(palimpsest_serve::serve_engine(model, limits, served, &arguments.socket, is_over))?;
    Ok(())
}

/// An engine's parts, ready to serve.
pub(crate) struct Ready {
    pub(crate) model: Served,
    pub(crate) limits: Limits,
    compute: Kind,
}

/// Loads a model and makes its cache, as large as there is memory for.
pub(crate) fn load(settings: &EngineSettings) -> Result<Ready> {
    let device = parse_device(&settings.device)?;
    set_threads(settings.threads)?;
    let compute = match (settings.precision.as_str(), device) {
        ("auto", Device::Cpu) | ("float32", _) => Kind::Float,
        ("auto" | "bfloat16", _) => Kind::BFloat16,
        (other, _) => return Err(Error::User(format!("--precision {other}: use auto, float32 or bfloat16"))),
    };
    if settings.quantization.is_some() && compute != Kind::BFloat16 {
        let sentence = "--quantization int8: its products are made in bfloat16; add --precision bfloat16";
        return Err(Error::User(sentence.to_owned()));
    }
    palimpsest_torch::keep_freed_memory();
    let decoder = Decoder::open(&settings.model, device, compute)?;
    let block_bytes = CachedDecoder::block_bytes(&decoder, compute);
    let trained = decoder.config.cached_context() as usize;
    let context = settings.max_context.unwrap_or(trained);
    if context > trained {
        let sentence =
            format!("--max-context {context}: {trained} positions of this model can be served; ask for no more");
        return Err(Error::User(sentence));
    }
    let mut limits = Limits {
        blocks: 1,
        block_tokens: CachedDecoder::BLOCK_TOKENS,
        step_tokens: settings.max_batch_tokens.max(settings.max_sequences),
        // One for each that draws a token, and as many for prompts whose log-probabilities are asked for.
        step_rows: settings.max_sequences.saturating_mul(2),
        running: settings.max_sequences,
        waiting_requests: settings.max_queued_requests,
        waiting_tokens: settings.max_queued_tokens,
        context,
        reuses_prefixes: !settings.no_prefix_cache,
    };
    // Once now, so that what steps take is taken before the cache is.
    let mut cached = CachedDecoder::new(decoder, compute, Served::blocks_of_largest_step(&limits))?;
    if settings.quantization.is_some() {
        cached = cached.quantized()?;
    }
    if settings.deterministic {
        cached = cached.deterministic();
    }
    let mut model = Served::new(cached);
    model.try_largest_step(&limits)?;
    limits.blocks = cache_blocks(settings, &limits, block_bytes, device)?;
    model.resize(limits.blocks.max(Served::blocks_of_largest_step(&limits)))?;
    // And once more beside it: whatever comes later takes no more than this.
    model.try_largest_step(&limits)?;
    Ok(Ready { model, limits, compute })
}

/// How many blocks the cache has.
fn cache_blocks(settings: &EngineSettings, limits: &Limits, block_bytes: u64, device: Device) -> Result<usize> {
    let most = limits.running.saturating_mul(limits.context.div_ceil(limits.block_tokens));
    let left = if device.is_cuda() { None } else { memory::available() };
    let least = limits.context.min(limits.block_tokens * 4).div_ceil(limits.block_tokens) as u64;
    let bytes = match (settings.cache_memory, left) {
        (Some(mebibytes), _) => (mebibytes as u64) << 20,
        (None, Some(left)) => ((left.saturating_sub(RESERVE) as f64 * SHARE) as u64).min(MOST),
        (None, None) => {
            return Err(Error::User(
                "--cache-memory: how much memory there is cannot be told here; name it".to_owned(),
            ));
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
