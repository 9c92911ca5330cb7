//! Job files that are right, and job files that break one rule each with the exact sentence that refuses them.
//!
//! A file in `bad` and `unsupported` begins with `# expect: SENTENCE` lines, and perhaps `# set: PATH=VALUE` ones.
//! With `UPDATE_FIXTURES=1` the sentences are written anew, to be read in the diff.

use std::fs;
use std::path::{Path, PathBuf};

use palimpsest_api::{Violation, differing_fields, load, result_digest, unsupported, validate};

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

/// Compares every file's sentences with those that it expects.
fn check(folder: &str, refuse: impl Fn(&str, &[String]) -> Vec<String>) {
    let fixtures = fixtures(folder);
    let mut differences = String::new();
    for (path, text) in fixtures {
        let expected = comments(&text, "expect");
        let actual = refuse(&text, &comments(&text, "set"));
        if actual == expected {
            continue;
        }
        differences.push_str(&format!("{}\n  expected {expected:#?}\n  actual {actual:#?}\n", path.display()));
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            let rest: String =
                text.lines().filter(|line| !line.starts_with("# expect: ")).map(|line| format!("{line}\n")).collect();
            let expects: String = actual.iter().map(|sentence| format!("# expect: {sentence}\n")).collect();
            fs::write(path, expects + &rest).expect("a fixture can be written");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn good_jobs_are_accepted() {
    for (path, text) in fixtures("fixtures/good").into_iter().chain(fixtures("../../examples")) {
        let job = load(&text, &[]).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(sentences(validate(&job)), [""; 0], "{}", path.display());
        // What is written is read again as the same job.
        let again = load(&serde_json::to_string_pretty(&job).unwrap(), &[]).unwrap();
        assert_eq!(again, job, "{}", path.display());
        assert_eq!(result_digest(&again), result_digest(&job));
        assert!(differing_fields(&job, &again).is_empty());
    }
}

#[test]
fn bad_jobs_are_refused_with_exactly_this() {
    check("fixtures/bad", |text, overrides| match load(text, overrides) {
        Err(error) => vec![error.to_string()],
        Ok(job) => sentences(validate(&job)),
    });
}

#[test]
fn jobs_beyond_this_engine_are_refused_with_exactly_this() {
    check("fixtures/unsupported", |text, overrides| {
        let job = load(text, overrides).unwrap();
        assert_eq!(sentences(validate(&job)), [""; 0]);
        sentences(unsupported(&job))
    });
}
