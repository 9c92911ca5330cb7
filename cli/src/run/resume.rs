//! What an earlier run left, and how to go on.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The threads that the newest checkpoint of a folder was computed with, if there is one and it tells.
pub(super) fn threads_of_newest_checkpoint(folder: &Path) -> Option<u32> {
    let manifests = fs::read_dir(folder).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let step: u64 = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        let manifest: Value = serde_json::from_slice(&fs::read(path.join("manifest.json")).ok()?).ok()?;
        Some((step, manifest))
    });
    let (_, manifest) = manifests.max_by_key(|(step, _)| *step)?;
    let threads = u32::try_from(manifest["fingerprint"]["threads"].as_u64()?).ok()?;
    (threads > 0).then_some(threads)
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
        for (step, manifest) in
            [(2, Some(r#"{"fingerprint":{"threads":3}}"#)), (10, Some(r#"{"fingerprint":{"threads":2}}"#)), (11, None)]
        {
            let path = folder.path().join(format!("step-{step:08}"));
            fs::create_dir(&path).unwrap();
            if let Some(manifest) = manifest {
                fs::write(path.join("manifest.json"), manifest).unwrap();
            }
        }
        assert_eq!(threads_of_newest_checkpoint(folder.path()), Some(2));
        fs::remove_file(folder.path().join("step-00000010/manifest.json")).unwrap();
        assert_eq!(threads_of_newest_checkpoint(folder.path()), Some(3));
        assert_eq!(threads_of_newest_checkpoint(&folder.path().join("none")), None);
    }
}
