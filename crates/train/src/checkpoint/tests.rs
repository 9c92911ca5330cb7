//! What an attempt whose time is over may still do to checkpoints: nothing.

use std::path::{Path, PathBuf};

use palimpsest_model::{Config, Decoder};
use palimpsest_store::Fence;
use serde_json::json;
use tch::{Device, Kind};

use super::folders::{check_job, committed, newest, prune};
use super::snapshot::Snapshot;
use super::{Identity, MANIFEST, State, TokenizerFiles};
use crate::fingerprint::Fingerprint;
use crate::optimizer::Moments;

fn mk_identity(root: &Path) -> Identity {
    Identity {
        root: root.to_owned(),
        keep: 2,
        fence: Fence::claim(root, "job", 1, "the first").unwrap(),
        job: "job".to_owned(),
        plan: "plan".to_owned(),
        fingerprint: Fingerprint::new(Kind::Float, Device::Cpu, 1).unwrap(),
        tokenizer: TokenizerFiles::Kept(Vec::new()),
    }
}

fn mk_snapshot(step: u64) -> Snapshot {
    let fields = json!({
        "vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
        "max_position_embeddings": 8,
    });
    let config = Config::from_json(fields.as_object().unwrap(), "test").unwrap();
    let model = Decoder::random(&config, 1, Device::Cpu, Kind::Float).unwrap();
    Snapshot::take(None, &model, &Moments::new(), &State { step, ..State::default() }).unwrap()
}

fn steps(root: &Path) -> Vec<u64> {
    committed(root).unwrap().into_iter().map(|(step, _)| step).collect()
}

/// The names in a folder.
fn names(root: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

#[test]
fn an_attempt_that_is_over_commits_no_checkpoint_and_deletes_none() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut identity = mk_identity(root);
    for step in 1..=3 {
        mk_snapshot(step).commit(&mut identity).unwrap();
    }
    assert_eq!(steps(root), [2, 3], "two are kept");

    Fence::claim(root, "job", 2, "the second").unwrap();
    let before = names(root);
    let over = "attempt 1 is over";
    let error = mk_snapshot(4).commit(&mut identity).unwrap_err().to_string();
    assert!(error.contains(over), "{error}");
    let error = prune(root, 3, 1, &identity.fence).unwrap_err().to_string();
    assert!(error.contains(over), "{error}");
    assert_eq!(names(root), before, "nothing came and nothing went");
}

#[test]
fn a_bit_that_flips_in_a_manifest_is_noticed_or_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    mk_snapshot(1).commit(&mut mk_identity(root)).unwrap();
    let path = committed(root).unwrap()[0].1.join(MANIFEST);
    let whole = newest(root, None, |_| {}).unwrap().unwrap().manifest;
    let bytes = std::fs::read(&path).unwrap();
    let mut noticed = 0;
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        // Never as if it were another job's.
        check_job(root, "job").unwrap();
        match newest(root, None, |_| {}) {
            Ok(found) => assert_eq!(found.unwrap().manifest, whole, "byte {place}"),
            Err(error) => {
                assert!(error.to_string().contains("is damaged"), "byte {place}: {error}");
                noticed += 1;
            }
        }
    }
    assert!(noticed > bytes.len() / 2, "{noticed} of {} bytes", bytes.len());
}
