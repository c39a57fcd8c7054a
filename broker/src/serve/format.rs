//! The storage format version that a data directory says it holds, so that a binary that is too old says so before it
//! touches anything. A directory without the file is of version 1.

use std::io;
use std::path::{Path, PathBuf};

use broker_store::frame::FORMAT_VERSION;

use super::whole_file;

const FILE_NAME: &str = "format";
const PREFIX: &str = "pinnace storage format ";

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    #[error(
        "the data directory {directory} holds storage format {found}; this version of Pinnace reads up to {known}: \
         start the version that wrote it, nothing was changed"
    )]
    TooNew { directory: PathBuf, found: u32, known: u8 },
    #[error(
        "{0} does not say which storage format the data directory holds; restore it from a copy"
    )]
    Illegible(PathBuf),
    #[error("cannot use {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
}

/// Checks what the directory holds. Changes nothing.
///
/// # Errors
/// [`FormatError`].
pub(crate) fn check(directory: &Path) -> Result<(), FormatError> {
    read(directory).map(|_version| ())
}

/// Checks what the directory holds, and notes our version there when it has an earlier one or none.
///
/// # Errors
/// [`FormatError`].
pub(crate) fn check_and_note(directory: &Path) -> Result<(), FormatError> {
    let known = u32::from(FORMAT_VERSION);
    if read(directory)? == Some(known) {
        return Ok(());
    }
    let path = directory.join(FILE_NAME);
    let text = format!("{PREFIX}{known}\n");
    whole_file::replace(directory, FILE_NAME, text.as_bytes())
        .map_err(|error| FormatError::Io { path, error })
}

fn read(directory: &Path) -> Result<Option<u32>, FormatError> {
    let path = directory.join(FILE_NAME);
    let bytes = match whole_file::read(directory, FILE_NAME) {
        Ok(None) => return Ok(None),
        Ok(Some(bytes)) => bytes,
        Err(error) => return Err(FormatError::Io { path, error }),
    };
    let text = std::str::from_utf8(&bytes).ok();
    let version = text.and_then(|text| text.strip_prefix(PREFIX)?.trim_end().parse().ok());
    match version {
        None => Err(FormatError::Illegible(path)),
        Some(found) if found > u32::from(FORMAT_VERSION) => {
            let directory = directory.to_owned();
            Err(FormatError::TooNew { directory, found, known: FORMAT_VERSION })
        }
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_the_file_gets_it_and_a_later_version_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        check(folder.path()).unwrap();
        assert!(!path.exists());
        check_and_note(folder.path()).unwrap();
        let ours = std::fs::read_to_string(&path).unwrap();
        assert_eq!(ours, format!("{PREFIX}{FORMAT_VERSION}\n"));
        check_and_note(folder.path()).unwrap();
        std::fs::write(&path, format!("{PREFIX}{}\n", u32::from(FORMAT_VERSION) + 1)).unwrap();
        for refused in [check(folder.path()), check_and_note(folder.path())] {
            let text = refused.unwrap_err().to_string();
            let (later, ours) = (u32::from(FORMAT_VERSION) + 1, FORMAT_VERSION);
            for part in [format!("holds storage format {later}"), format!("reads up to {ours}")] {
                assert!(text.contains(&part), "{text}");
            }
        }
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("4\n"));
        std::fs::write(&path, "").unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("restore it"));
    }
}
