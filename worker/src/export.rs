//! `export`: turns a checkpoint into a Hugging Face folder.

use std::path::PathBuf;

use palimpsest_api::OutputDtype;
use palimpsest_train::{Result, export};

/// Which checkpoint, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder that holds checkpoints: DIR/checkpoints of a run.
    #[arg(long)]
    checkpoint: PathBuf,
    /// The checkpoint's step; default: the newest.
    #[arg(long)]
    step: Option<u64>,
    /// The type of the weights.
    #[arg(long, value_enum, default_value_t = Dtype::Float32)]
    dtype: Dtype,
    /// The folder to make.
    #[arg(long)]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Dtype {
    #[value(name = "bfloat16", alias = "BFloat16")]
    BFloat16,
    #[value(name = "float16", alias = "Float16")]
    Float16,
    #[value(name = "float32", alias = "Float32")]
    Float32,
}

/// Writes the folder and says so.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let dtype = match arguments.dtype {
        Dtype::BFloat16 => OutputDtype::BFloat16,
        Dtype::Float16 => OutputDtype::Float16,
        Dtype::Float32 => OutputDtype::Float32,
    };
    let warn = |warning| eprintln!("warning: {warning}");
    let step = export(&arguments.checkpoint, arguments.step, Some(dtype), &arguments.output, warn)?;
    println!("exported step {step} to {}", arguments.output.display());
    Ok(())
}
