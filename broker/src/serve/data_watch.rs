//! The data directory may be deleted, moved or replaced while the broker writes into the files that it has open: what is
//! answered then is nowhere. A thread looks, and ends the process at once when a path leads elsewhere than at the start.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::output::say;

/// Nothing is acknowledged for longer than this after the directory is gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A directory, and which one it was.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl Watched {
    fn look(path: PathBuf) -> io::Result<Self> {
        let device_and_inode = device_and_inode(&path)?;
        Ok(Self { path, device_and_inode })
    }

    /// Why it is not what it was; none when it is, or cannot be told.
    fn change(&self) -> Option<String> {
        let path = self.path.display();
        match device_and_inode(&self.path) {
            Ok(now) if now == self.device_and_inode => None,
            Ok(_) => Some(format!("{path} was replaced while the broker used it")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("{path} was deleted or moved while the broker used it"))
            }
            Err(error) => {
                tracing::warn!(%path, %error, "whether the data are there is not known");
                None
            }
        }
    }
}

fn device_and_inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The data directory and the logs in it, which must be there.
fn watched(data: &Path) -> io::Result<Vec<Watched>> {
    let mut watched = vec![Watched::look(data.to_owned())?];
    for entry in fs::read_dir(data)? {
        let log = entry?.path().join("log");
        if log.is_dir() {
            watched.push(Watched::look(log)?);
        }
    }
    Ok(watched)
}

/// Watches the data from now on, once the logs are open.
///
/// # Errors
/// Those of the system.
pub(crate) fn begin(data: &Path) -> io::Result<()> {
    let watched = watched(data)?;
    let watch = move || {
        loop {
            std::thread::sleep(LOOK_EVERY);
            if let Some(change) = watched.iter().find_map(Watched::change) {
                let text =
                    format!("{change}; what is answered now would be lost, so the broker ends");
                tracing::error!("{text}");
                say(format_args!("error: {text}"));
                // Without a farewell: until its end clients would be told that things are stored.
                std::process::exit(1);
            }
        }
    };
    std::thread::Builder::new().name("data-watch".to_owned()).spawn(watch).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_replaced_or_gone_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (data, log) = (folder.path().join("data"), folder.path().join("data/shard-0/log"));
        fs::create_dir_all(&log).unwrap();
        let seen = watched(&data).unwrap();
        assert_eq!((seen.len(), seen.iter().find_map(Watched::change)), (2, None));
        fs::rename(&log, data.join("elsewhere")).unwrap();
        assert!(seen[1].change().is_some_and(|change| change.contains("deleted or moved")));
        fs::create_dir(&log).unwrap();
        assert!(seen[1].change().is_some_and(|change| change.contains("replaced")));
        assert_eq!(seen[0].change(), None);
    }
}
