//! Small files that are there whole or not at all, whatever happens while they are written. What is there is replaced by
//! nothing that was not read back from the medium before.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Writes `bytes` as `name` in `directory`, durably, in place of what was there.
///
/// # Errors
/// Those of the system, and a new file that holds something else; the old file is then still there.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    replace_compared(directory, name, bytes, read_from_medium)
}

fn replace_compared(
    directory: &Path,
    name: &str,
    bytes: &[u8],
    read_back: impl FnOnce(&Path) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}.unfinished"));
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    if read_back(&unfinished)? != bytes {
        let text = "the new file does not hold what was written into it; look at the volume";
        return Err(io::Error::other(text));
    }
    fs::rename(&unfinished, directory.join(name))?;
    File::open(directory)?.sync_all()
}

/// Past the cache where that is possible: what a start will find is on the medium.
fn read_from_medium(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    // Without this advice it is compared with what the system remembers.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads `name` in `directory`; none when there is no such file.
///
/// # Errors
/// Those of the system.
pub(crate) fn read(directory: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    match fs::read(directory.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_an_unfinished_one_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), "map").unwrap(), None);
        fs::write(folder.path().join("map.unfinished"), "half").unwrap();
        assert_eq!(read(folder.path(), "map").unwrap(), None);
        replace(folder.path(), "map", b"first").unwrap();
        replace(folder.path(), "map", b"second").unwrap();
        assert_eq!(read(folder.path(), "map").unwrap(), Some(b"second".to_vec()));
    }

    #[test]
    fn a_file_that_the_medium_garbles_or_cannot_give_back_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        replace(folder.path(), "map", b"first").unwrap();
        let lost = |_: &Path| Err(io::Error::other("lost"));
        assert!(replace_compared(folder.path(), "map", b"second", lost).is_err());
        for garbled in [&b"sekond"[..], b"secon", b"second ", b""] {
            let garble = |path: &Path| {
                fs::write(path, garbled)?;
                read_from_medium(path)
            };
            let error = replace_compared(folder.path(), "map", b"second", garble).unwrap_err();
            assert!(error.to_string().contains("does not hold what was written"), "{error}");
            assert_eq!(read(folder.path(), "map").unwrap(), Some(b"first".to_vec()));
        }
        replace(folder.path(), "map", b"second").unwrap();
        assert_eq!(read(folder.path(), "map").unwrap(), Some(b"second".to_vec()));
    }
}
