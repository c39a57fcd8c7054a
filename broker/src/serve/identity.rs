//! Who this data directory belongs to: a file `identity`, written once and synced, never guessed again. It keeps the
//! data of one broker from being served as another's.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::whole_file;

/// Version of the directory's layout; docs/storage-format.md describes it.
const FORMAT: u32 = 1;
const FILE_NAME: &str = "identity";
const DISK_ID_BYTES: usize = 16;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// Number of the broker in it.
    pub(crate) broker: u32,
    /// Random, made with the directory: tells a new disk from the old one.
    pub(crate) disk: String,
}

/// Why the directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("cannot read or write {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "{path} is damaged: {reason}; restore it from a backup, or use another --data directory"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{path} was written by format {found}; this version reads format {FORMAT}, use the version that wrote it"
    )]
    Format { path: PathBuf, found: u32 },
    #[error("the data in {path} belongs to broker {} of cluster {:?}, but this is broker {broker} of cluster {cluster:?}; use another --data directory", .found.broker, .found.cluster)]
    Other { path: PathBuf, found: Identity, cluster: String, broker: u32 },
}

/// Reads the identity of the directory, or gives it one when it has none.
///
/// # Errors
/// [`IdentityError`]; the directory is then left as it is.
pub(crate) fn read_or_create(
    directory: &Path,
    cluster: &str,
    broker: u32,
) -> Result<Identity, IdentityError> {
    let path = directory.join(FILE_NAME);
    let failed = |error| IdentityError::Io { path: path.clone(), error };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let disk = random_id().map_err(failed)?;
            let identity = Identity { cluster: cluster.to_owned(), broker, disk };
            whole_file::replace(directory, FILE_NAME, text(&identity).as_bytes())
                .map_err(failed)?;
            return Ok(identity);
        }
        Err(error) => return Err(failed(error)),
    };
    let found = parse(&path, &text)?;
    if found.cluster != cluster || found.broker != broker {
        return Err(IdentityError::Other { path, found, cluster: cluster.to_owned(), broker });
    }
    Ok(found)
}

fn parse(path: &Path, text: &str) -> Result<Identity, IdentityError> {
    let damaged =
        |reason: &str| IdentityError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        line.ok_or_else(|| damaged(&format!("no line {key:?}")))
    };
    let found = value("format")?.parse().map_err(|_| damaged("the format is no number"))?;
    if found != FORMAT {
        return Err(IdentityError::Format { path: path.to_owned(), found });
    }
    let broker = value("broker")?.parse().map_err(|_| damaged("the broker is no number"))?;
    let disk = value("disk")?;
    if disk.len() != 2 * DISK_ID_BYTES {
        return Err(damaged("the disk id has the wrong length"));
    }
    Ok(Identity { cluster: value("cluster")?.to_owned(), broker, disk: disk.to_owned() })
}

fn text(identity: &Identity) -> String {
    let Identity { cluster, broker, disk } = identity;
    format!("format: {FORMAT}\ncluster: {cluster}\nbroker: {broker}\ndisk: {disk}\n")
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0; DISK_ID_BYTES];
    // Up to 256 bytes are given whole or not at all (getrandom(2)).
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").map_err(io::Error::other)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_given_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = read_or_create(folder.path(), "default", 0).unwrap();
        assert_eq!(first.disk.len(), 32);
        assert_eq!(read_or_create(folder.path(), "default", 0).unwrap(), first);
    }

    #[test]
    fn the_data_of_another_broker_or_format_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        read_or_create(folder.path(), "default", 0).unwrap();
        let text = read_or_create(folder.path(), "default", 1).unwrap_err().to_string();
        assert!(text.contains("belongs to broker 0") && text.contains("--data"), "{text}");
        let path = folder.path().join(FILE_NAME);
        let newer = fs::read_to_string(&path).unwrap().replace("format: 1", "format: 2");
        fs::write(&path, newer).unwrap();
        let error = read_or_create(folder.path(), "default", 0).unwrap_err();
        assert!(matches!(error, IdentityError::Format { found: 2, .. }), "{error}");
        for damaged in ["", "format: x\n", "format: 1\ncluster: a\nbroker: 0\ndisk: 12\n"] {
            fs::write(&path, damaged).unwrap();
            let error = read_or_create(folder.path(), "default", 0).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
        }
    }
}
