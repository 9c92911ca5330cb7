//! What an earlier run left, and how to go on.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The newest checkpoint of a folder.
#[derive(Debug)]
pub(super) struct Newest {
    /// The steps that it holds.
    pub(super) step: u64,
    /// The threads it was computed with.
    pub(super) threads: Option<u32>,
}

/// The newest whole checkpoint of a folder, if there is one.
pub(super) fn newest_checkpoint(folder: &Path) -> Option<Newest> {
    let manifests = fs::read_dir(folder).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let step: u64 = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        let manifest: Value = serde_json::from_slice(&fs::read(path.join("manifest.json")).ok()?).ok()?;
        Some((step, manifest))
    });
    let (step, manifest) = manifests.max_by_key(|(step, _)| *step)?;
    let threads = manifest["fingerprint"]["threads"].as_u64();
    Some(Newest {
        step,
        threads: threads.and_then(|threads| u32::try_from(threads).ok()).filter(|threads| *threads > 0),
    })
}

/// The command line of this process, fit for a shell.
pub(super) fn own_command_line() -> String {
    let arguments = std::env::args_os().skip(1).map(|argument| quote(&argument.to_string_lossy()));
    ["palimpsest".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}

fn quote(argument: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_would_change_them() {
        assert_eq!(quote("runs/a-b.yaml"), "runs/a-b.yaml");
        assert_eq!(quote("spec.stages[0].budget={steps: 4}"), "'spec.stages[0].budget={steps: 4}'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }

    #[test]
    fn the_newest_whole_checkpoint_counts() {
        let folder = tempfile::tempdir().unwrap();
        for (step, manifest) in [(2, Some(r#"{"fingerprint":{"threads":3}}"#)), (10, Some("{}")), (11, None)] {
            let path = folder.path().join(format!("step-{step:08}"));
            fs::create_dir(&path).unwrap();
            if let Some(manifest) = manifest {
                fs::write(path.join("manifest.json"), manifest).unwrap();
            }
        }
        let newest = newest_checkpoint(folder.path()).unwrap();
        assert_eq!((newest.step, newest.threads), (10, None));
        fs::remove_file(folder.path().join("step-00000010/manifest.json")).unwrap();
        let newest = newest_checkpoint(folder.path()).unwrap();
        assert_eq!((newest.step, newest.threads), (2, Some(3)));
        assert!(newest_checkpoint(&folder.path().join("none")).is_none());
    }
}
