//! The files of a manifest directory: which there are, what they hold, and whether that changed since it was read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use operator_api::limits::MANIFEST_BYTES_MAX;

use super::ManifestsError;

/// Files read from one directory.
const FILES_MAX: usize = 1000;

/// Tells one version of a file from the next, also when it is replaced by a rename.
type Version = (u64, i64, i64, u64);
type Versions = BTreeMap<String, Version>;

/// One directory.
#[derive(Debug)]
pub(super) struct Folder {
    directory: PathBuf,
    /// As of the last read; none when it could not be listed.
    versions: Option<Versions>,
}

impl Folder {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, versions: None }
    }

    /// Name and text of each file, in the order of their names.
    ///
    /// # Errors
    /// One line naming the directory or file.
    pub(super) fn read(&mut self) -> Result<Vec<(String, String)>, ManifestsError> {
        // Listed before reading: a file that changes meanwhile is read again next time.
        let versions = list(&self.directory);
        self.versions = versions.as_ref().ok().cloned();
        let versions = versions.map_err(|error| complain(&self.directory, &error))?;
        if versions.len() > FILES_MAX {
            let (count, directory) = (versions.len(), self.directory.display());
            return Err(ManifestsError::Wrong(format!(
                "the manifest directory {directory} has {count} files; at most {FILES_MAX} are read"
            )));
        }
        versions.into_iter().map(|(name, version)| self.read_file(name, version)).collect()
    }

    fn read_file(
        &self,
        name: String,
        (_, _, _, length_bytes): Version,
    ) -> Result<(String, String), ManifestsError> {
        if length_bytes > MANIFEST_BYTES_MAX as u64 {
            return Err(ManifestsError::Wrong(format!(
                "{name} has {length_bytes} bytes; at most {MANIFEST_BYTES_MAX} are read, split it"
            )));
        }
        match fs::read_to_string(self.directory.join(&name)) {
            Ok(text) => Ok((name, text)),
            Err(error) => Err(complain(&self.directory.join(name), &error)),
        }
    }

    /// Whether a read would give something else than the last one.
    pub(super) fn has_changed(&self) -> bool {
        list(&self.directory).ok() != self.versions
    }
}

fn list(directory: &Path) -> io::Result<Versions> {
    let mut versions = Versions::new();
    for entry in fs::read_dir(directory)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let is_manifest = Path::new(&name).extension().is_some_and(|e| e == "yaml" || e == "yml");
        // Names with a dot in front are editors' and, in mounted ConfigMaps, the kubelet's.
        if !is_manifest || name.starts_with('.') {
            continue;
        }
        match fs::metadata(directory.join(&name)) {
            Ok(metadata) if metadata.is_file() => {
                let version =
                    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size());
                versions.insert(name, version);
            }
            Ok(_) => {}
            // Gone since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(versions)
}

fn complain(path: &Path, error: &io::Error) -> ManifestsError {
    let hint = if error.kind() == io::ErrorKind::NotFound { "; create it" } else { "" };
    ManifestsError::Wrong(format!("cannot read manifests from {}: {error}{hint}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_manifests_are_read_and_changes_are_seen() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
        write("b.yaml", "b");
        write("a.yml", "a");
        write("notes.txt", "no");
        write(".hidden.yaml", "no");
        let mut folder = Folder::new(place.path().to_owned());
        assert!(folder.has_changed(), "never read");
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(folder.read().unwrap(), [pair("a.yml", "a"), pair("b.yaml", "b")]);
        assert!(!folder.has_changed());
        write("b.yaml", "longer");
        assert!(folder.has_changed());
        folder.read().unwrap();
        fs::remove_file(place.path().join("a.yml")).unwrap();
        assert!(folder.has_changed());
        assert_eq!(folder.read().unwrap().len(), 1);
        assert!(!folder.has_changed());
    }

    #[test]
    fn a_missing_directory_and_an_unreadable_file_are_named() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(place.path().join("absent"));
        let Err(ManifestsError::Wrong(text)) = folder.read() else { panic!("read nothing") };
        assert!(text.contains("absent"), "{text}");
        fs::write(place.path().join("binary.yaml"), [0xff, 0xfe]).unwrap();
        let mut folder = Folder::new(place.path().to_owned());
        let Err(ManifestsError::Wrong(text)) = folder.read() else { panic!("read nothing") };
        assert!(text.contains("binary.yaml"), "{text}");
    }
}
