//! Bad input gives one clear sentence and exit code 2, and leaves what was there intact.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use palimpsest_tests::{SMALL_JOB, repository, run, succeed, write_job};

/// Runs a job and expects exit code 2 with one sentence on standard error that holds all of `expected`.
fn refused(folder: &Path, yaml: &str, expected: &[&str]) -> String {
    let job = write_job(folder, yaml);
    let output = folder.join("out");
    let ended = run(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{}\n{}", ended.stdout, ended.stderr);
    let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", ended.stderr);
    for part in expected {
        assert!(errors[0].contains(part), "{part:?} is not in {:?}", errors[0]);
    }
    assert!(!output.join("model").exists());
    errors[0].to_owned()
}

/// Every file below a folder, but for those that tell who works on it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if ![".lock", ".coordinator", ".worker", "worker.log"].iter().any(|name| path.ends_with(name)) {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// The small job over a dataset of the given text.
fn with_dataset(folder: &Path, text: &str) -> String {
    fs::write(folder.join("data.jsonl"), text).unwrap();
    SMALL_JOB.replace("file://CORPORA/en/recipes.jsonl", "file://data.jsonl")
}

fn records(count: usize) -> String {
    (0..count).map(|i| format!("{{\"target\": \"some text number {i}, and more of it to be read\"}}\n")).collect()
}

/// A trained model and its tokenizer, made once.
fn model() -> &'static Path {
    static MODEL: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, model) = MODEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let job = write_job(folder.path(), SMALL_JOB);
        let output = folder.path().join("out");
        succeed(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
        let model = output.join("model");
        (folder, model)
    });
    model
}

/// The small job that goes on from a copy of the model, which `change` has spoiled.
fn from_model(folder: &Path, change: impl FnOnce(&Path)) -> String {
    let copy = folder.join("base");
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(model()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    change(&copy);
    let architecture = SMALL_JOB.lines().find(|line| line.contains("architecture:")).unwrap();
    let learn = SMALL_JOB.lines().find(|line| line.contains("learn:")).unwrap();
    SMALL_JOB
        .replace(architecture, "    uri: \"file://base\"")
        .replace("  tokenizer:\n", "")
        .replace(&format!("{learn}\n"), "")
}

#[test]
fn a_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), &SMALL_JOB.replace("recipes.jsonl", "nothing.jsonl"), &["nothing.jsonl"]);
    let ended = run(&["run", "nothing.yaml"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("nothing.yaml"), "{}", ended.stderr);
}

#[test]
fn malformed_json_names_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = with_dataset(folder.path(), &format!("{}{{\"target\": \n", records(3)));
    refused(folder.path(), &yaml, &["data.jsonl", "line 4"]);
}

#[test]
fn a_record_without_text_names_the_line_and_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = with_dataset(folder.path(), &format!("{}{{\"text\": \"x\"}}\n", records(2)));
    refused(folder.path(), &yaml, &["data.jsonl", "line 3", "target"]);
}

#[test]
fn an_empty_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = with_dataset(folder.path(), "");
    refused(folder.path(), &yaml, &["data.jsonl"]);
}

#[test]
fn a_weight_of_zero() {
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), &SMALL_JOB.replace("weight: 3", "weight: 0"), &["stages[0].mixture[0].weight"]);
}

#[test]
fn a_budget_that_no_data_can_fill_names_the_largest_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = with_dataset(folder.path(), &records(200)).replace("tokens: 20000", "tokens: 20000000");
    let yaml = yaml.replace("vocabularySize: 512", "vocabularySize: 300");
    let sentence = refused(folder.path(), &yaml, &["recipes", "maxRepeats", "write at most "]);
    let after = sentence.split("write at most ").nth(1).unwrap();
    let most: u64 = after.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    assert!(most < 20_000_000, "{sentence}");
    // The job runs once it is mended, in the folder where it was refused.
    let job = write_job(folder.path(), &yaml.replace("tokens: 20000000", &format!("tokens: {most}")));
    let output = folder.path().join("out");
    succeed(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
}

#[test]
fn a_missing_model_folder() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = from_model(folder.path(), |base| fs::remove_dir_all(base).unwrap());
    refused(folder.path(), &yaml, &["spec.model.uri: there is no folder", "base", "check the path"]);
}

#[test]
fn a_changed_job_leaves_a_finished_and_a_half_done_run_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let output = folder.path().join("out");
    let arguments = ["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()];
    succeed(&arguments);
    let check = |what: &str, expected: &str| {
        let before = files(&output);
        let ended = run(&[arguments.as_slice(), &["--set", "spec.seed=7"]].concat());
        assert_eq!(ended.code, Some(2), "{what}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{what}: {}", ended.stderr);
        let after = files(&output);
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after), "{what}");
        assert!(before == after, "{what}");
    };
    check("finished", "onExisting");
    fs::remove_dir_all(output.join("model")).unwrap();
    fs::remove_file(output.join("summary.json")).unwrap();
    check("half done", "spec.seed");
}

#[test]
fn a_truncated_or_corrupt_model_file() {
    for cut in [0.3, 0.9] {
        let folder = tempfile::tempdir().unwrap();
        let yaml = from_model(folder.path(), |base| {
            let path = base.join("model.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..(bytes.len() as f64 * cut) as usize]).unwrap();
        });
        refused(folder.path(), &yaml, &["model.safetensors"]);
    }
    let folder = tempfile::tempdir().unwrap();
    let yaml = from_model(folder.path(), |base| {
        let path = base.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        bytes[..16].fill(0xff);
        fs::write(&path, bytes).unwrap();
    });
    refused(folder.path(), &yaml, &["model.safetensors"]);
}

#[test]
fn a_tensor_of_the_wrong_shape_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = from_model(folder.path(), |base| {
        let path = base.join("config.json");
        let config = fs::read_to_string(&path).unwrap();
        let changed = config.replace("\"intermediate_size\": 64", "\"intermediate_size\": 65");
        assert_ne!(config, changed);
        fs::write(&path, changed).unwrap();
    });
    refused(folder.path(), &yaml, &["model.safetensors", "mlp", "65"]);
}

#[test]
fn a_tokenizer_that_does_not_match_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = from_model(folder.path(), |_| {});
    let yaml = yaml.replace("  data:\n", "  tokenizer: {uri: \"file://other\"}\n  data:\n");
    let (text, other) = (repository().join("examples/corpora/en/recipes.jsonl"), folder.path().join("other"));
    let paths = ["--output", other.to_str().unwrap(), text.to_str().unwrap()];
    succeed(&[&["tokenizer", "learn", "--size", "600"], paths.as_slice()].concat());
    refused(folder.path(), &yaml, &["spec.tokenizer", "600", "512"]);
}

#[test]
fn an_unknown_architecture() {
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), &SMALL_JOB.replace("model_type: llama", "model_type: mamba"), &["model_type", "mamba"]);
}

#[test]
fn a_sequence_longer_than_the_context() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = SMALL_JOB.replace("sequenceLength: 64", "sequenceLength: 128");
    refused(folder.path(), &yaml, &["spec.data.sequenceLength", "128", "64"]);
}

#[test]
fn a_uri_scheme_that_we_do_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = SMALL_JOB.replace("file://CORPORA/en", "ftp://example.org");
    refused(folder.path(), &yaml, &["spec.data.datasets[0].uri", "ftp"]);
}

#[test]
fn unknown_fields_and_bare_numbers_name_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = SMALL_JOB.replace("schedule: {kind: Linear}", "shedule: {kind: Linear}");
    refused(folder.path(), &yaml, &["shedule", "line"]);
    let yaml = SMALL_JOB.replace("learningRate: \"3e-3\"", "learningRate: 3e-3");
    refused(folder.path(), &yaml, &["spec.stages[0].optimizer.learningRate", "line", "\"3e-3\""]);
}

#[test]
fn an_existing_output_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let output = folder.path().join("out");
    fs::create_dir_all(output.join("model")).unwrap();
    fs::write(output.join("model/precious"), "kept").unwrap();
    let ended = run(&["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("onExisting"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(output.join("model/precious")).unwrap(), "kept");
}

/// A file system of two megabytes, which takes root to mount.
#[test]
fn a_full_disk_during_a_checkpoint_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("out/checkpoints");
    fs::create_dir_all(&small).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1300k", "tmpfs", small.to_str().unwrap()])
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "mounting a small file system takes root");
        eprintln!("skipped: mounting a small file system takes root");
        return;
    }
    let job = write_job(folder.path(), SMALL_JOB);
    let ended = run(&["run", job.to_str().unwrap(), "--output", folder.path().join("out").to_str().unwrap()]);
    let mut kept: Vec<PathBuf> = fs::read_dir(&small).unwrap().map(|entry| entry.unwrap().path()).collect();
    kept.retain(|path| !path.ends_with("attempts"));
    let whole = kept.iter().all(|checkpoint| checkpoint.join("manifest.json").exists());
    std::process::Command::new("umount").arg(&small).status().unwrap();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("disk") && ended.stderr.contains("checkpoints"), "{}", ended.stderr);
    assert!(!kept.is_empty() && whole, "{kept:?}");
}
