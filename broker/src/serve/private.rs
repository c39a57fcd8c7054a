//! Nobody but the broker reads its data: directories 0700, files 0600. What an earlier version made is tightened at the start;
//! what belongs to somebody else, such as the root of a volume that Kubernetes gave to a group, stays as it is.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Bits of the group and of all others.
const OTHERS: u32 = 0o077;

/// Whatever this process makes from now on is its user's alone.
pub(crate) fn make_private_files() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(OTHERS));
}

/// Tightens what is in a data directory already. What cannot be tightened is told of in the log.
pub(crate) fn tighten(data: &Path) {
    let ours = rustix::process::geteuid().as_raw();
    let mut directories = vec![data.to_owned()];
    let mut tightened = 0_u64;
    while let Some(directory) = directories.pop() {
        match tighten_all_in(&directory, ours, &mut directories) {
            Ok(count) => tightened += count,
            Err(error) => {
                let directory = directory.display();
                tracing::warn!(%directory, %error, "others may be able to read the data here");
            }
        }
    }
    if tightened > 0 {
        tracing::info!(
            count = tightened,
            "files and directories are no longer open to other users"
        );
    }
}

fn tighten_all_in(
    directory: &Path,
    ours: u32,
    directories: &mut Vec<std::path::PathBuf>,
) -> io::Result<u64> {
    let mut tightened = tighten_one(directory, &fs::metadata(directory)?, ours)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Links are not followed: they may lead to what is not ours to change.
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            directories.push(entry.path());
        } else if metadata.is_file() {
            tightened += tighten_one(&entry.path(), &metadata, ours)?;
        }
    }
    Ok(tightened)
}

fn tighten_one(path: &Path, metadata: &Metadata, ours: u32) -> io::Result<u64> {
    let mode = metadata.mode();
    if metadata.uid() != ours || mode & OTHERS == 0 {
        return Ok(0);
    }
    fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)).map(|()| 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_was_open_to_others_is_tightened_and_nothing_else_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("data/shard-0/log");
        fs::create_dir_all(&log).unwrap();
        let (segment, outside) = (log.join("0.seg"), folder.path().join("outside"));
        for (path, open) in [(&segment, 0o644), (&outside, 0o644)] {
            fs::write(path, "bodies").unwrap();
            fs::set_permissions(path, Permissions::from_mode(open)).unwrap();
        }
        fs::set_permissions(&log, Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&outside, log.join("link")).unwrap();
        tighten(&folder.path().join("data"));
        assert_eq!((mode(&segment), mode(&log), mode(&outside)), (0o600, 0o700, 0o644));
    }
}
