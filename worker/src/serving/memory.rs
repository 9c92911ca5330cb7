//! How much memory a cache may take.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of the host's memory that this process may still take: what the machine has left, or the tightest of the control groups that
/// it is in, whichever is less. `None` where the system tells neither.
pub(crate) fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    let group = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| left_in_groups(Path::new("/sys/fs/cgroup"), &text));
    machine.into_iter().chain(group).min()
}

/// A figure in kB, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// What the tightest of the groups has left, of which `membership` names the innermost (version 2, "0::/a/b"). In a container, whose group
/// is mounted as the root of all, the name may lead nowhere; then the root counts.
fn left_in_groups(root: &Path, membership: &str) -> Option<u64> {
    let name = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let innermost = root.join(name);
    let groups = innermost.ancestors().take_while(|folder| folder.starts_with(root)).map(Path::to_owned);
    groups.filter_map(left_in_group).min()
}

/// The limit of a group less what it holds. Cached files go where memory is wanted, so they count as free.
fn left_in_group(folder: PathBuf) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    // "max" is no number and no limit.
    let (limit, held) = (number("memory.max")?, number("memory.current")?);
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok()).unwrap_or(0);
    Some(limit.saturating_sub(held.saturating_sub(files)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |folder: &str, limit: &str, held: u64, files: u64| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("memory.max"), format!("{limit}\n")).unwrap();
            fs::write(folder.join("memory.current"), format!("{held}\n")).unwrap();
            fs::write(folder.join("memory.stat"), format!("anon 5\ninactive_file {files}\n")).unwrap();
        };
        write("pods", "1000", 900, 50);
        write("pods/one", "max", 700, 0);
        assert_eq!(left_in_groups(root.path(), "0::/pods/one\n"), Some(150));
        write("pods/one", "800", 700, 10);
        assert_eq!(left_in_groups(root.path(), "0::/pods/one\n"), Some(110));
        assert_eq!(left_in_groups(root.path(), "0::/other\n"), None);
        write("", "500", 600, 0);
        assert_eq!(left_in_groups(root.path(), "0::/not/mounted/here\n"), Some(0));
    }

    #[test]
    fn this_machine_tells() {
        assert!(available().unwrap() > 1 << 20);
        assert_eq!(field("MemTotal: 9 kB\nMemAvailable:   12 kB\n", "MemAvailable:"), Some(12288));
    }
}
