//! The files of a manifest directory and of the folders in it: their names, their texts, and which are not read. What is
//! wrong with one file is told beside the others; whether anything changed is seen by comparing what was read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use operator_api::limits::MANIFEST_BYTES_MAX;

/// Manifest files read from one directory and its folders.
const FILES_MAX: usize = 1000;
/// Names looked at there.
const ENTRIES_MAX: usize = 10_000;
/// Folders inside each other.
const LEVELS_MAX: usize = 8;
/// All files together.
const BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What a directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Texts by path below the directory, with `/` between folders.
    pub(super) files: BTreeMap<String, String>,
    /// Files and folders that are wanted and cannot be read, each with the reason.
    pub(super) unreadable: Vec<String>,
    /// Files that are none of ours.
    pub(super) not_read: Vec<String>,
}

/// Reads everything below a directory.
///
/// # Errors
/// One line when the directory cannot be read at all, or holds too much.
pub(super) fn read(directory: &Path) -> Result<Contents, String> {
    let mut walk = Walk::default();
    walk.folder(directory, "", &mut Vec::new()).map_err(|error| complain(directory, &error))?;
    let (entries, files) = (walk.entries, walk.contents.files.len());
    let name = directory.display();
    if entries > ENTRIES_MAX {
        return Err(format!(
            "the manifest directory {name} and its folders hold more than {ENTRIES_MAX} names; use one for manifests only"
        ));
    }
    if files > FILES_MAX || walk.bytes > BYTES_MAX {
        return Err(format!(
            "the manifest directory {name} and its folders hold more than {FILES_MAX} files or {BYTES_MAX} bytes, \
             which is all that is read"
        ));
    }
    Ok(walk.contents)
}

#[derive(Debug, Default)]
struct Walk {
    contents: Contents,
    entries: usize,
    bytes: u64,
}

impl Walk {
    fn is_full(&self) -> bool {
        self.entries > ENTRIES_MAX
            || self.contents.files.len() > FILES_MAX
            || self.bytes > BYTES_MAX
    }

    /// `prefix` is the path below the directory, `above` the folders that this one is in.
    fn folder(&mut self, path: &Path, prefix: &str, above: &mut Vec<(u64, u64)>) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        let identity = (metadata.dev(), metadata.ino());
        if above.contains(&identity) || above.len() >= LEVELS_MAX {
            self.contents.not_read.push(format!("{prefix} (too deep, or a link to where it is)"));
            return Ok(());
        }
        above.push(identity);
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            self.entries = self.entries.saturating_add(1);
            if self.is_full() {
                break;
            }
            names.push(entry?.file_name());
        }
        names.sort_unstable();
        for name in names {
            let Some(name) = name.to_str() else {
                self.contents.not_read.push(format!("{prefix}{} (no UTF-8)", name.display()));
                continue;
            };
            self.entry(path.join(name), name, prefix, above);
        }
        above.pop();
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, name: &str, prefix: &str, above: &mut Vec<(u64, u64)>) {
        let below = format!("{prefix}{name}");
        let is_manifest = is_manifest(name);
        // Names with a dot in front are editors' and, in mounted ConfigMaps, the kubelet's.
        if name.starts_with('.') {
            if is_manifest {
                self.contents.not_read.push(format!("{below} (hidden)"));
            }
            return;
        }
        let outcome = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => self.folder(&path, &format!("{below}/"), above),
            Ok(metadata) if metadata.is_file() && is_manifest => self.file(&path, &below),
            Ok(_) => {
                self.contents.not_read.push(below);
                return;
            }
            // Gone since it was listed, or a link to nowhere.
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            self.contents.unreadable.push(format!("{below}: cannot be read: {error}"));
        }
    }

    fn file(&mut self, path: &Path, below: &str) -> io::Result<()> {
        if self.is_full() {
            return Ok(());
        }
        // One byte more tells a file that is too long; the loader says so.
        let mut text = String::new();
        let bytes_max = MANIFEST_BYTES_MAX as u64;
        let read =
            fs::File::open(path)?.take(bytes_max.saturating_add(1)).read_to_string(&mut text);
        self.bytes = self.bytes.saturating_add(read? as u64);
        self.contents.files.insert(below.to_owned(), text);
        Ok(())
    }
}

fn is_manifest(name: &str) -> bool {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ["yaml", "yml", "json"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

fn complain(path: &Path, error: &io::Error) -> String {
    let hint = if error.kind() == io::ErrorKind::NotFound { "; create it" } else { "" };
    format!("cannot read manifests from {}: {error}{hint}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_and_folders_are_read_and_the_rest_is_named() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for name in ["b.yaml", "a.YML", "c.json", "orders/d.YAML", "orders/deep/e.yml"] {
            write(name, name);
        }
        for name in ["notes.txt", ".hidden.yaml", "..data/f.yaml", "orders/README"] {
            write(name, "no");
        }
        symlink(place.path(), place.path().join("orders/loop")).unwrap();
        symlink(place.path().join("b.yaml"), place.path().join("link.yaml")).unwrap();
        let contents = read(place.path()).unwrap();
        let names: Vec<_> = contents.files.keys().map(String::as_str).collect();
        let read_names =
            ["a.YML", "b.yaml", "c.json", "link.yaml", "orders/d.YAML", "orders/deep/e.yml"];
        assert_eq!(names, read_names);
        assert_eq!(contents.files["orders/d.YAML"], "orders/d.YAML");
        let named = contents.not_read.join(", ");
        for name in
            [".hidden.yaml (hidden)", "notes.txt", "orders/README", "orders/loop/ (too deep"]
        {
            assert!(named.contains(name), "{named}");
        }
        assert_eq!(contents.not_read.len(), 4, "{named}");
        assert!(contents.unreadable.is_empty());
    }

    #[test]
    fn a_change_is_seen_by_content_and_not_by_time_or_size() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.yaml");
        fs::write(&path, "queues: 4").unwrap();
        let before = read(place.path()).unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "queues: 5").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_ne!(read(place.path()).unwrap(), before);
        fs::write(&path, "queues: 4").unwrap();
        assert_eq!(read(place.path()).unwrap(), before, "touched only");
    }

    #[test]
    fn a_missing_directory_is_an_error_and_a_file_that_cannot_be_read_is_named() {
        let place = tempfile::tempdir().unwrap();
        let text = read(&place.path().join("absent")).unwrap_err();
        assert!(text.contains("absent") && text.contains("create it"), "{text}");
        fs::write(place.path().join("binary.yaml"), [0xff, 0xfe]).unwrap();
        fs::write(place.path().join("good.yaml"), "a").unwrap();
        symlink("nowhere.yaml", place.path().join("broken.yaml")).unwrap();
        let contents = read(place.path()).unwrap();
        assert_eq!(contents.files.len(), 1);
        let named = contents.unreadable.join("\n");
        assert!(named.contains("binary.yaml: cannot") && named.contains("broken.yaml"), "{named}");
    }

    #[test]
    fn too_many_names_are_refused_and_not_walked_for_ever() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..=FILES_MAX {
            fs::write(place.path().join(format!("{number}.yaml")), "").unwrap();
        }
        assert!(read(place.path()).unwrap_err().contains("more than 1000 files"));
    }
}
