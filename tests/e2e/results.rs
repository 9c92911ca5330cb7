//! What lies on the claim `results`.

use std::fs;
use std::path::PathBuf;

use palimpsest_tests::Kubectl;

/// Where the claim is read.
pub(crate) enum Results {
    /// A folder of this machine.
    Folder(PathBuf),
    /// The pod `files` of a cluster whose disks are elsewhere.
    Pod(Kubectl),
}

impl Results {
    /// A file's bytes; none where there is no such file yet.
    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        match self {
            Self::Folder(folder) => fs::read(folder.join(path)).unwrap_or_default(),
            Self::Pod(kubectl) => in_pod(kubectl, &["cat", &format!("/results/{path}")]),
        }
    }

    /// The names in a folder; none where there is no such folder yet.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        match self {
            Self::Folder(folder) => fs::read_dir(folder.join(path)).map_or_else(
                |_| Vec::new(),
                |entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
            ),
            Self::Pod(kubectl) => {
                let listed = in_pod(kubectl, &["ls", &format!("/results/{path}")]);
                String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect()
            }
        }
    }

    /// The lines of a file so far.
    pub(crate) fn lines(&self, path: &str) -> Vec<String> {
        String::from_utf8_lossy(&self.read(path)).lines().map(str::to_owned).collect()
    }
}

fn in_pod(kubectl: &Kubectl, command: &[&str]) -> Vec<u8> {
    kubectl.kubectl_command().args(["exec", "files", "--"]).args(command).output().unwrap().stdout
}
