//! Placeholder until the first path is wired.

fn main() {}
