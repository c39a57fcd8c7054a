//! The files of the repository as the rules see them: every text file that is ours, read once.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are never ours, besides those that `.gitignore` names.
const SKIPPED: [&str; 5] = [".git", "target", "node_modules", ".venv", "__pycache__"];
/// Larger files are data, not sources.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// A text file.
#[derive(Debug, Clone)]
pub struct File {
    /// Relative to the repository, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl File {
    /// A file that exists only in a test of a rule.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether the name ends with one of these.
    #[must_use]
    pub fn ends_with(&self, endings: &[&str]) -> bool {
        endings.iter().any(|ending| self.path.ends_with(ending))
    }

    /// Whether it holds tests only.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let package_tests =
            self.path.starts_with("tests/") && !self.path.starts_with("tests/tidy/src/");
        package_tests || self.path.contains("/tests/") || self.ends_with(&["/tests.rs"])
    }

    /// The lines before the tests inside the file, numbered from 1.
    pub fn program_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.take_while(|(_, line)| *line != "#[cfg(test)]")
    }
}

/// The repository.
#[derive(Debug)]
pub struct Repository {
    root: PathBuf,
    files: Vec<File>,
}

impl Repository {
    /// Reads the repository that this package lies in.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn open() -> std::io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let ignored = ignored(&fs::read_to_string(root.join(".gitignore")).unwrap_or_default());
        let mut files = Vec::new();
        collect(&root, &root, &ignored, &mut files)?;
        files.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(Self { root, files })
    }

    /// All files.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Files whose name ends with one of these.
    pub fn with_ending<'a>(&'a self, endings: &'a [&str]) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(|file| file.ends_with(endings))
    }

    /// The file at this path.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether anything lies at this path.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

/// The plain names and paths that `.gitignore` names; patterns are not needed here.
fn ignored(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(|line| line.trim_matches('/').to_owned()).collect()
}

fn collect(
    root: &Path,
    folder: &Path,
    ignored: &[String],
    files: &mut Vec<File>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if SKIPPED.contains(&name.as_str()) || ignored.iter().any(|i| *i == name || *i == relative)
        {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(root, &path, ignored, files)?;
        } else if kind.is_file() && entry.metadata()?.len() <= FILE_BYTES_MAX {
            // A file that vanishes while we look, or is no text, is no source of ours.
            if let Ok(text) = fs::read_to_string(&path) {
                files.push(File { path: relative, text });
            }
        }
    }
    Ok(())
}
