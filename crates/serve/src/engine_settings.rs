//! What an engine's process is told on its command line.

use std::ffi::OsString;
use std::path::PathBuf;

/// What is served, and within which bounds. A server parses them as its own, and hands them on to the engine's process.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct EngineSettings {
    /// A Hugging Face folder, or a checkpoint's.
    #[arg(long)]
    pub model: PathBuf,
    /// auto, float32 or bfloat16; auto: float32 on a CPU, bfloat16 on a GPU.
    #[arg(long, default_value = "auto")]
    pub precision: String,
    /// int8: projections keep their weights as int8, a scale to a row. Takes bfloat16.
    #[arg(long, value_name = "KIND", value_parser = ["int8"])]
    pub quantization: Option<String>,
    /// Threads to compute with; default: all cores.
    #[arg(long)]
    pub threads: Option<usize>,
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Tokens that a step computes at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = at_least_one)]
    pub max_batch_tokens: usize,
    /// Requests that run at once.
    #[arg(long, value_name = "REQUESTS", default_value_t = 64, value_parser = at_least_one)]
    pub max_sequences: usize,
    /// Tokens that a request may have, prompt and output; default: as many as the model was trained on.
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub max_context: Option<usize>,
    /// Memory of the cache of keys and values, in MiB; default: half of what is left, at most 4096 and what the requests can fill.
    #[arg(long, value_name = "MIB", value_parser = at_least_one)]
    pub cache_memory: Option<usize>,
    /// Give a request the same bits whatever is computed with it. Steps of few tokens take as long as those of 64.
    #[arg(long)]
    pub deterministic: bool,
    /// Compute the beginnings that requests share anew for each.
    #[arg(long)]
    pub no_prefix_cache: bool,
    /// Requests that wait at most; more are answered 429.
    #[arg(long, value_name = "REQUESTS", default_value_t = 512, value_parser = at_least_one)]
    pub max_queued_requests: usize,
    /// Tokens of the prompts that wait at most; more are answered 429.
    #[arg(long, value_name = "TOKENS", default_value_t = 1_000_000, value_parser = at_least_one)]
    pub max_queued_tokens: usize,
}

impl EngineSettings {
    /// The same, as words of a command line.
    pub fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: OsString| words.extend([name.into(), value]);
        option("--model", self.model.clone().into());
        option("--precision", self.precision.clone().into());
        option("--device", self.device.clone().into());
        let numbers = [
            ("--threads", self.threads),
            ("--max-batch-tokens", Some(self.max_batch_tokens)),
            ("--max-sequences", Some(self.max_sequences)),
            ("--max-context", self.max_context),
            ("--cache-memory", self.cache_memory),
            ("--max-queued-requests", Some(self.max_queued_requests)),
            ("--max-queued-tokens", Some(self.max_queued_tokens)),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                option(name, number.to_string().into());
            }
        }
        if let Some(kind) = &self.quantization {
            option("--quantization", kind.into());
        }
        for (name, is_set) in [("--deterministic", self.deterministic), ("--no-prefix-cache", self.no_prefix_cache)] {
            if is_set {
                words.push(name.into());
            }
        }
        words
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "write a whole number, 1 at least".to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;

    /// A command line that has these settings alone.
    #[derive(Parser)]
    pub(crate) struct Line {
        #[command(flatten)]
        pub(crate) settings: EngineSettings,
    }

    #[test]
    fn what_is_handed_on_is_read_as_it_was() {
        let given = "x --model m --precision bfloat16 --threads 3 --device cuda --max-batch-tokens 7 --max-sequences 8 --max-context 9 \
            --cache-memory 10 --quantization int8 --deterministic --no-prefix-cache --max-queued-requests 11 --max-queued-tokens 12";
        for line in [given, "x --model m"] {
            let settings = Line::parse_from(line.split_whitespace()).settings;
            let words = [OsString::from("x")].into_iter().chain(settings.words());
            assert_eq!(Line::parse_from(words).settings, settings);
        }
    }
}
