//! Small files that are there whole or not at all, whatever happens while they are written.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Writes `bytes` as `name` in `directory`, durably, in place of what was there.
///
/// # Errors
/// Those of the system; the old file is then still there.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}.unfinished"));
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(name))?;
    File::open(directory)?.sync_all()
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
}
