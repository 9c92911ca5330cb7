//! An engine's process whose model computes the next token from the last one: what tests start, kill and start anew.
//!
//! `arithmetic_engine [--dies] [--pause-ms N] --socket PATH`

#[path = "../tests/support/arithmetic.rs"]
mod arithmetic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use arithmetic::{Arithmetic, mk_limits, mk_served};
use palimpsest_serve::{parent_gone, serve_engine};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    if arguments.iter().any(|argument| argument == "--dies") {
        eprintln!("arithmetic_engine: asked to die");
        return ExitCode::from(3);
    }
    let Some(socket) = after("--socket").map(PathBuf::from) else {
        eprintln!("usage: arithmetic_engine [--dies] [--pause-ms N] --socket PATH");
        return ExitCode::from(2);
    };
    let pause = after("--pause-ms").and_then(|text| text.parse().ok()).unwrap_or(0);
    let model = Arithmetic::new(Duration::from_millis(pause), true);
    match serve_engine(model, mk_limits(), mk_served(), &socket, parent_gone()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("arithmetic_engine: {error}");
            ExitCode::FAILURE
        }
    }
}
