//! How many threads a command computes on.

use std::thread;

/// What the command line says about threads.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Threads {
    /// How many threads compute; default: one for each processor.
    #[arg(long = "threads", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) asked: Option<u32>,
}

impl Threads {
    /// Their number.
    pub(crate) fn count(self) -> u32 {
        self.asked.unwrap_or_else(|| thread::available_parallelism().map_or(1, |count| count.get() as u32))
    }
}
