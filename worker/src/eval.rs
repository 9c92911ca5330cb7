//! `eval`: bits per byte of files of text.

use std::path::{Path, PathBuf};

use palimpsest_api::Fields;
use palimpsest_corpus::{dataset_of, documents, left_out_files, left_out_warning};
use palimpsest_eval::{Document, Options, Score, bits_per_byte};
use palimpsest_model::{Decoder, ForwardOptions};
use palimpsest_store::Mounts;
use palimpsest_train::{Error, Result};
use palimpsest_vocab::Tokenizer;
use tch::Kind;

use crate::device::{parse_device, set_threads};

/// What to measure, and on what.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A Hugging Face folder, or a checkpoint's.
    #[arg(long)]
    model: PathBuf,
    /// JSONL of `{"target": text, "source": prompt}`, Parquet or text; may be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    bits_per_byte: Vec<PathBuf>,
    /// Positions of a window; default: the model's context, at most 4096.
    #[arg(long)]
    sequence_length: Option<usize>,
    /// Print a JSON object a file.
    #[arg(long)]
    json: bool,
    /// Threads to compute with; default: all cores.
    #[arg(long)]
    threads: Option<usize>,
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Measures each file and prints a line of it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let device = parse_device(&arguments.device)?;
    set_threads(arguments.threads)?;
    let tokenizer = Tokenizer::open(&arguments.model)?;
    let compute = if device.is_cuda() { Kind::BFloat16 } else { Kind::Float };
    let model = Decoder::open(&arguments.model, device, compute)?;
    let context = model.config.max_position_embeddings as usize;
    let window = arguments.sequence_length.unwrap_or(context.min(4096));
    if window == 0 || window > context {
        return Err(Error::User(format!(
            "--sequence-length: {window} does not fit the model's context of {context} positions; choose 1 to {context}"
        )));
    }
    let forward = ForwardOptions { compute, ..ForwardOptions::default() };
    let options = Options { window, rows: 8, first_new_id: None, forward };
    if !arguments.json {
        println!("{:>12} {:>12} {:>12} {:>12}  file", "bits/byte", "loss", "tokens", "documents");
    }
    for path in &arguments.bits_per_byte {
        let score = measure(&model, &tokenizer, path, &options)?;
        if arguments.json {
            let line = serde_json::json!({ "file": path, "score": score });
            println!("{line}");
        } else {
            let Score { bits_per_byte, loss, tokens, documents, .. } = score;
            println!("{bits_per_byte:>12.4} {loss:>12.4} {tokens:>12} {documents:>12}  {}", path.display());
        }
    }
    Ok(())
}

fn measure(model: &Decoder, tokenizer: &Tokenizer, path: &Path, options: &Options) -> Result<Score> {
    let dataset = dataset_of(path, Fields::default())?;
    let left_out = left_out_files(&dataset, &Mounts::default())?;
    if let Some(warning) = left_out_warning(&dataset.name, dataset.format, &left_out) {
        eprintln!("warning: {warning}");
    }
    let documents = documents(&dataset, &Mounts::default(), tokenizer)?.map(|document| -> Result<Document> {
        let document = document?;
        Ok(Document { ids: document.ids, unmeasured: document.prompt_ids, text_bytes: document.text_bytes })
    });
    let score = bits_per_byte(model, documents, options)?;
    if score.bytes == 0 {
        let sentence = format!("--bits-per-byte {}: there is no text in it; name a file with text", path.display());
        return Err(Error::User(sentence));
    }
    Ok(score)
}
