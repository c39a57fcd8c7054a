//! What every text must have and must not have: heads, names, plain characters, nothing unfinished, a change log.

use crate::{File, Repository};

/// Words in file names that say nothing about what a file holds.
const EMPTY_WORDS: [&str; 9] =
    ["util", "utils", "common", "helper", "helpers", "manager", "misc", "core", "stuff"];

/// Endings of files that are sources, which hold ASCII only.
const SOURCES: [&str; 10] =
    [".rs", ".toml", ".proto", ".yaml", ".yml", ".sh", ".go", ".java", ".py", "Makefile"];

/// What unfinished work looks like. Put together so that this file does not hold it.
const UNFINISHED: [&str; 6] = [
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
    concat!("#[ig", "nore"),
];

/// Rust files that do not begin by saying what lives in them.
#[must_use]
pub fn without_head(repository: &Repository) -> Vec<String> {
    let headless = repository.with_ending(&[".rs"]).filter(|file| !file.text.starts_with("//! "));
    headless.map(|file| format!("{}: the first line must be a //! head", file.path)).collect()
}

/// Files and folders with a name that says nothing, and `mod.rs`.
#[must_use]
pub fn empty_names(repository: &Repository) -> Vec<String> {
    repository.files().iter().filter_map(empty_name).collect()
}

fn empty_name(file: &File) -> Option<String> {
    if file.path.ends_with("/mod.rs") {
        return Some(format!("{}: name the file after its module, not mod.rs", file.path));
    }
    let word = file.path.split(['/', '.', '_', '-']).find(|word| EMPTY_WORDS.contains(word))?;
    Some(format!("{}: {word:?} says nothing; name what the file holds", file.path))
}

/// Characters outside ASCII in sources.
#[must_use]
pub fn foreign_characters(repository: &Repository) -> Vec<String> {
    repository.with_ending(&SOURCES).flat_map(foreign_lines).collect()
}

fn foreign_lines(file: &File) -> Vec<String> {
    let lines = file.text.lines().enumerate().filter(|(_, line)| !line.is_ascii());
    lines.map(|(index, _)| format!("{}:{}: not ASCII", file.path, index + 1)).collect()
}

/// Unfinished work and tests that do not run.
#[must_use]
pub fn unfinished(repository: &Repository) -> Vec<String> {
    repository.with_ending(&SOURCES).flat_map(unfinished_lines).collect()
}

fn unfinished_lines(file: &File) -> Vec<String> {
    let mut violations = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if let Some(word) = UNFINISHED.iter().find(|word| line.contains(*word)) {
            violations.push(format!("{}:{}: {word} is not for the tree", file.path, index + 1));
        }
    }
    violations
}

/// A change log without the section for what comes next.
#[must_use]
pub fn change_log(repository: &Repository) -> Vec<String> {
    match repository.file("CHANGELOG.md") {
        Some(file) if file.text.contains("\n## [Unreleased]") => Vec::new(),
        _ => vec!["CHANGELOG.md: needs a section ## [Unreleased]".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_are_found() {
        for path in ["a/utils.rs", "common/x.rs", "a/queue_manager.rs", "a/mod.rs"] {
            assert!(empty_name(&File::new(path, "")).is_some(), "{path}");
        }
        for path in ["a/commonly.rs", "coredns/main.go", "a/model.rs"] {
            assert_eq!(empty_name(&File::new(path, "")), None);
        }
    }

    #[test]
    fn unfinished_work_and_foreign_characters_are_found() {
        let text = format!("fine\n// {} later\n", UNFINISHED[0]);
        assert_eq!(unfinished_lines(&File::new("a.rs", &text)).len(), 1);
        assert_eq!(foreign_lines(&File::new("a.rs", "a\nb \u{2192} c\n")), ["a.rs:2: not ASCII"]);
    }
}
