//! `bench train`: whole training steps on one batch.

use std::path::{Path, PathBuf};

use palimpsest_api::Optimizer;
use palimpsest_model::{Batch, Config, Decoder, ForwardOptions, IGNORED, read_tensors};
use palimpsest_train::{BenchmarkModel, Error, Result};
use tch::{Device, Kind, Tensor};

use super::turns::{self, TurnArguments, Work};
use crate::device::{parse_device, set_threads};

/// What to train, and on what.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) source: Source,
    #[command(flatten)]
    turns: TurnArguments,
}

/// The model, the batch and how to compute.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// A Hugging Face folder; absent: random weights of --shape.
    #[arg(long)]
    model: Option<PathBuf>,
    /// A Hugging Face config.json, whose weights are random: the shape of LLaMA-2 7B with fewer layers, say.
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    config: Option<PathBuf>,
    /// Hidden size, layers and vocabulary of random weights; heads are 32 wide.
    #[arg(long, default_value = "256x6x8192", value_name = "HxLxV", conflicts_with_all = ["model", "config"])]
    shape: String,
    /// A safetensors file with int64 `input_ids` and `labels` [rows, positions]; absent: --rows of --positions random ids.
    #[arg(long)]
    batch: Option<PathBuf>,
    /// Rows of the batch.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i64).range(1..))]
    rows: i64,
    /// Positions of a row.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(i64).range(1..))]
    positions: i64,
    /// float32 or bfloat16.
    #[arg(long, default_value = "float32")]
    precision: String,
    /// Positions whose logits are held at once; absent: as many as a run holds.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "POSITIONS")]
    loss_chunk: usize,
    /// Threads to compute with; default: all cores.
    #[arg(long)]
    threads: Option<usize>,
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (model, batch, forward) = arguments.source.open()?;
    let targets = i64::try_from(batch.labels.ne(IGNORED).sum(Kind::Int64)).unwrap_or(0).unsigned_abs();
    let size = batch.input_ids.size();
    let (compute, device) = (forward.compute, batch.input_ids.device());
    let mut model = BenchmarkModel::new(model, Optimizer::default(), forward)?;
    let work = Work {
        tokens: batch.input_ids.numel() as u64,
        flops: Some(model.flops_of_step(size[0], size[1])?),
        compute,
        device,
    };
    turns::measure(&arguments.turns, &work, || model.take_step(&batch, targets))
}

impl Source {
    /// The model, its batch and how a pass computes.
    pub(super) fn open(&self) -> Result<(Decoder, Batch, ForwardOptions)> {
        let device = parse_device(&self.device)?;
        set_threads(self.threads)?;
        let compute = match self.precision.as_str() {
            "float32" => Kind::Float,
            "bfloat16" => Kind::BFloat16,
            other => return Err(Error::User(format!("--precision {other}: use float32 or bfloat16"))),
        };
        let model = match (&self.model, &self.config) {
            (Some(folder), _) => Decoder::open(folder, device, Kind::Float)?,
            (None, Some(file)) => Decoder::random(&Config::read_file(file)?, 1, device, Kind::Float)?,
            (None, None) => Decoder::random(&shape(&self.shape, self.positions)?, 1, device, Kind::Float)?,
        };
        let batch = match &self.batch {
            Some(path) => read_batch(path, device)?,
            None => {
                let size = [self.rows, self.positions + 1];
                let ids = Tensor::randint(model.config.vocab_size, size, (Kind::Int64, device));
                batch_of(&ids.narrow(1, 0, self.positions), &ids.narrow(1, 1, self.positions))
            }
        };
        Ok((model, batch, ForwardOptions { compute, loss_chunk: self.loss_chunk, ..ForwardOptions::default() }))
    }
}

fn batch_of(ids: &Tensor, labels: &Tensor) -> Batch {
    let mut batch = Batch::of_documents(&ids.contiguous());
    batch.labels = labels.contiguous();
    batch
}

fn read_batch(path: &Path, device: Device) -> Result<Batch> {
    let tensors = read_tensors(path)?;
    let tensor = |name: &str| {
        let found = tensors.iter().find(|(key, tensor)| key.as_str() == name && tensor.kind() == Kind::Int64);
        found.map(|(_, tensor)| tensor.to_device(device)).ok_or_else(|| {
            Error::User(format!("--batch: {} has no int64 tensor {name}; write input_ids and labels", path.display()))
        })
    };
    Ok(batch_of(&tensor("input_ids")?, &tensor("labels")?))
}

/// `256x6x8192`: heads are 32 wide, the MLP 8/3 as wide as the model.
fn shape(text: &str, positions: i64) -> Result<Config> {
    let sizes: Vec<i64> = text.split('x').filter_map(|size| size.parse().ok()).collect();
    let &[hidden, layers, vocabulary] = sizes.as_slice() else {
        return Err(Error::User(format!(
            "--shape {text}: write hidden size, layers and vocabulary, such as 256x6x8192"
        )));
    };
    let fields = serde_json::json!({
        "vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": hidden * 8 / 3 / 32 * 32,
        "num_hidden_layers": layers, "num_attention_heads": (hidden / 32).max(1), "max_position_embeddings": positions.max(2048),
    });
    Ok(Config::from_json(fields.as_object().unwrap_or(&serde_json::Map::new()), "--shape")?)
}
