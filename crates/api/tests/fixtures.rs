//! Job files that are right, and job files that break one rule each with the exact sentence that refuses them.
//!
//! A file in `bad` and `unsupported` begins with `# expect: SENTENCE` lines, and perhaps `# set: PATH=VALUE` ones; where
//! a cluster's sentences are others, they stand at its end as `# cluster: SENTENCE`. A file in `good` that has them is good
//! on a machine alone. What a real API server says (`# server: `) is compared in `tests/tests/trainingjob.rs`.
//! With `UPDATE_FIXTURES=1` the sentences are written anew, to be read in the diff.

use std::fs;
use std::path::{Path, PathBuf};

use palimpsest_api::{Place, Violation, differing_fields, load, result_digest, unsupported, validate};

fn fixtures(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(&folder).into_iter().flatten().flatten().map(|item| item.path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
    assert!(!files.is_empty(), "nothing in {}", folder.display());
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap_or_default())).collect()
}

/// The values of the comment lines `# NAME: VALUE`.
fn comments(text: &str, name: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix(&format!("# {name}: "))).map(str::to_owned).collect()
}

fn sentences(violations: Vec<Violation>) -> Vec<String> {
    violations.iter().map(Violation::to_string).collect()
}

/// Compares every file's sentences with those of its comments called `name`; where there are none, with `otherwise`.
fn check(folder: &str, name: &str, otherwise: Option<&str>, refuse: impl Fn(&str, &[String]) -> Vec<String>) {
    let mut differences = String::new();
    for (path, text) in fixtures(folder) {
        let same = otherwise.map(|name| comments(&text, name)).unwrap_or_default();
        let mut expected = comments(&text, name);
        if expected.is_empty() {
            expected.clone_from(&same);
        }
        let actual = refuse(&text, &comments(&text, "set"));
        if actual == expected {
            continue;
        }
        differences.push_str(&format!("{}\n  expected {expected:#?}\n  actual {actual:#?}\n", path.display()));
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            let prefix = format!("# {name}: ");
            let written = if actual == same { Vec::new() } else { actual };
            let written = written.iter().map(|sentence| format!("{prefix}{sentence}"));
            let rest = text.lines().filter(|line| !line.starts_with(&prefix)).map(str::to_owned);
            // Sentences name lines, so that only the first of these comments stand above.
            let lines: Vec<String> =
                if name == "expect" { written.chain(rest).collect() } else { rest.chain(written).collect() };
            fs::write(path, lines.join("\n") + "\n").expect("a fixture can be written");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// What `palimpsest validate` says of a job.
fn refuse(text: &str, overrides: &[String], place: Place) -> Vec<String> {
    match load(text, overrides) {
        Err(error) => vec![error.to_string()],
        Ok(job) => sentences(validate(&job, place)),
    }
}

#[test]
fn good_jobs_are_accepted() {
    for (path, text) in fixtures("fixtures/good").into_iter().chain(fixtures("../../examples")) {
        let job = load(&text, &[]).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(sentences(validate(&job, Place::Machine)), [""; 0], "{}", path.display());
        // What is written is read again as the same job.
        let again = load(&serde_json::to_string_pretty(&job).unwrap(), &[]).unwrap();
        assert_eq!(again, job, "{}", path.display());
        assert_eq!(result_digest(&again), result_digest(&job));
        assert!(differing_fields(&job, &again).is_empty());
    }
}

#[test]
fn bad_jobs_are_refused_with_exactly_this() {
    check("fixtures/bad", "expect", None, |text, overrides| refuse(text, overrides, Place::Machine));
}

#[test]
fn on_a_cluster_jobs_are_refused_with_exactly_this() {
    for folder in ["fixtures/bad", "fixtures/good"] {
        check(folder, "cluster", Some("expect"), |text, overrides| refuse(text, overrides, Place::Cluster));
    }
}

#[test]
fn jobs_beyond_this_engine_are_refused_with_exactly_this() {
    check("fixtures/unsupported", "expect", None, |text, overrides| {
        let job = load(text, overrides).unwrap();
        assert_eq!(sentences(validate(&job, Place::Machine)), [""; 0]);
        sentences(unsupported(&job))
    });
}
