//! The job files that `palimpsest validate` and the API server have to judge alike.

use std::fs;
use std::path::PathBuf;

use crate::repository;

/// A job file of `crates/api/fixtures`.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

impl Fixture {
    /// The files of a folder of the repository, by name.
    pub fn all(folder: &str) -> Vec<Self> {
        let folder = repository().join(folder);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        assert!(!paths.is_empty(), "nothing in {}", folder.display());
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            Self { path, text }
        };
        paths.into_iter().map(read).collect()
    }

    /// The values of its comment lines `# NAME: VALUE`.
    pub fn comments(&self, name: &str) -> Vec<&str> {
        let prefix = format!("# {name}: ");
        self.text.lines().filter_map(|line| line.strip_prefix(&prefix)).collect()
    }
}
