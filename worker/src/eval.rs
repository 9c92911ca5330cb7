//! `eval`: bits per byte of files of text.

use std::path::{Path, PathBuf};

use palimpsest_api::{Dataset, DatasetFormat, Fields};
use palimpsest_corpus::documents;
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
    let absolute = std::path::absolute(path).map_err(|source| palimpsest_store::Error::io("find", path, source))?;
    let dataset = Dataset {
        name: path.display().to_string(),
        uri: format!("file://{}", absolute.display()),
        format: format_of(path),
        fields: Fields::default(),
        language: None,
        hold_out: None,
        preparation: None,
    };
    let documents = documents(&dataset, &Mounts::default(), tokenizer)?.map(|document| -> Result<Document> {
        let document = document?;
        Ok(Document { ids: document.ids, unmeasured: document.prompt_ids, text_bytes: document.text_bytes })
    });
    bits_per_byte(model, documents, options)
}

/// Parquet and text by their endings; everything else is JSON lines.
fn format_of(path: &Path) -> DatasetFormat {
    let name = path.to_string_lossy();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    if name.ends_with(".parquet") {
        DatasetFormat::Parquet
    } else if name.ends_with(".txt") || name.ends_with(".md") {
        DatasetFormat::Text
    } else {
        DatasetFormat::Jsonl
    }
}
