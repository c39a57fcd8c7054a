//! How much memory the process may have: what the control groups that it is in leave it, else a share of the machine's.
//! Read once, at the start; what is done with it is decided in `broker_replication::memory`.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Linux shows its control groups.
const GROUPS: &str = "/sys/fs/cgroup";
/// Without a limit, the broker takes itself for one of several programs of the machine.
const MACHINE_PERCENT: u64 = 50;
/// What a machine is taken to have that does not tell.
const MACHINE_BYTES_DEFAULT: u64 = 2 << 30;
/// Version 1 says "no limit" with a number near 2^63.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// Tells a debug build how much memory it has.
#[cfg(debug_assertions)]
const TEST_BYTES: &str = "PINNACE_TEST_MEMORY_BYTES";

/// Bytes that the process may have.
pub(crate) fn process_bytes() -> u64 {
    #[cfg(debug_assertions)]
    if let Some(bytes) = std::env::var(TEST_BYTES).ok().and_then(|text| text.parse().ok()) {
        return bytes;
    }
    let machine_bytes = fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine(&text));
    let machine_bytes = machine_bytes.unwrap_or(MACHINE_BYTES_DEFAULT);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    match limit(Path::new(GROUPS), &own) {
        Some(bytes) => bytes.min(machine_bytes),
        None => machine_bytes / 100 * MACHINE_PERCENT,
    }
}

/// `MemTotal:       16266340 kB`
fn machine(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The least limit of the groups that `own`, the text of `/proc/self/cgroup`, names, and of those around them.
fn limit(groups: &Path, own: &str) -> Option<u64> {
    let limits = own.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (kind, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
        let (root, file) = match kind {
            "" => (groups.to_owned(), "memory.max"),
            _ if kind.split(',').any(|controller| controller == "memory") => {
                (groups.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        around(&root, path).iter().filter_map(|folder| read(&folder.join(file))).collect()
    });
    limits.min()
}

/// The folder of a group and those around it. In a container the path may be the one outside of it, which is not there; its
/// root is the group itself then.
fn around(root: &Path, path: &str) -> Vec<PathBuf> {
    let own = root.join(path.trim_start_matches('/'));
    own.ancestors().take_while(|folder| folder.starts_with(root)).map(Path::to_owned).collect()
}

fn read(file: &Path) -> Option<u64> {
    let bytes: u64 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (bytes < NO_LIMIT_BYTES).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(files: &[(&str, &str)]) -> tempfile::TempDir {
        let groups = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = groups.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        groups
    }

    #[test]
    fn the_least_limit_around_the_process_counts() {
        let files = [
            ("pod/memory.max", "1000000\n"),
            ("pod/box/memory.max", "max\n"),
            ("other/memory.max", "5\n"),
        ];
        let groups = groups(&files);
        assert_eq!(limit(groups.path(), "0::/pod/box\n"), Some(1_000_000));
        assert_eq!(limit(groups.path(), "0::/\n"), None);
        // Inside of a container the root is the group, whatever the path says.
        fs::write(groups.path().join("memory.max"), "7000\n").unwrap();
        assert_eq!(limit(groups.path(), "0::/kubepods/elsewhere\n"), Some(7_000));
    }

    #[test]
    fn the_older_version_is_read_too() {
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/pod/memory.limit_in_bytes", "268435456\n"),
        ];
        let groups = groups(&files);
        let own = "5:cpu,cpuacct:/pod\n4:memory:/pod\n0::/\n";
        assert_eq!(limit(groups.path(), own), Some(256 << 20));
        assert_eq!(limit(groups.path(), "4:memory:/\n"), None);
    }

    #[test]
    fn the_machine_tells_its_memory() {
        let text = "MemFree: 5 kB\nMemTotal:       16266340 kB\nBuffers: 1 kB\n";
        assert_eq!(machine(text), Some(16_266_340 * 1024));
        assert_eq!(machine("MemTotal: much"), None);
        assert!(process_bytes() > 1 << 20);
    }
}
