//! TensorBoard's own reader sees what was written, and only the newer attempt of steps that were done twice.

use std::path::PathBuf;
use std::process::Command;

use palimpsest_events::EventWriter;

const READER: &str = r#"
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1])
events.Reload()
for tag in sorted(events.Tags()["scalars"]):
    for event in events.Scalars(tag):
        print(tag, event.step, event.wall_time, event.value)
"#;

#[test]
fn tensorboard_reads_the_newest_attempt() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut first = EventWriter::create(folder.path(), 1, 1000.0).unwrap();
    for step in 1..=4 {
        let loss = 5.0 - step as f64;
        first.scalars(step, 1000.5 + step as f64, &[("train/loss", loss), ("train/learningRate", 0.5)]).unwrap();
    }
    let mut second = EventWriter::create(folder.path(), 3, 2000.0).unwrap();
    second.scalar("train/loss", 3, 2000.5, 2.25).unwrap();
    second.scalar("train/lossOfZh", 3, 2000.5, f64::NAN).unwrap();

    let output = Command::new(python).args(["-c", READER]).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = "train/learningRate 1 1001.5 0.5\n\
                    train/learningRate 2 1002.5 0.5\n\
                    train/loss 1 1001.5 4.0\n\
                    train/loss 2 1002.5 3.0\n\
                    train/loss 3 2000.5 2.25\n\
                    train/lossOfZh 3 2000.5 nan\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

/// The Python of the parity environment. Where it is absent the test is skipped, but in CI it fails.
fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("PALIMPSEST_CACHE").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(home?.join(".cache/palimpsest")))?;
    let python = cache.join("venv/bin/python");
    if python.exists() {
        return Some(python);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", python.display());
    eprintln!("skipped: {} is missing, which `make test` installs", python.display());
    None
}
