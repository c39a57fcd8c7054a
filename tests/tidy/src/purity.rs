//! The pure crates: time, disk, chance and network are arguments there, so that a simulation can hand in its own.

use crate::layers::dependencies;
use crate::{File, Repository};

/// Folders of the crates that stay pure.
const PURE: [&str; 4] = ["broker/model/", "broker/store/", "broker/delivery/", "broker/engine/"];

/// What their sources must not name, and what to use instead.
const FORBIDDEN: [(&str, &str); 9] = [
    ("std::fs", "the Disk trait"),
    ("Instant::now", "the time in the command"),
    ("SystemTime::now", "the time in the command"),
    ("thread::spawn", "the shell's threads"),
    ("thread::sleep", "a deadline that the shell arms"),
    ("std::net", "the shell's network"),
    ("std::process", "an error that the shell acts on"),
    ("RandomState", "a seed that is an argument"),
    ("tokio", "the shell's runtime"),
];

/// Dependencies that they must not have.
const FORBIDDEN_DEPENDENCIES: [&str; 9] =
    ["tokio", "tonic", "tonic-prost", "axum", "hyper", "futures", "rustix", "libc", "getrandom"];

/// Impure lines and dependencies in pure crates.
#[must_use]
pub fn impure(repository: &Repository) -> Vec<String> {
    let pure = repository.files().iter().filter(|f| PURE.iter().any(|p| f.path.starts_with(p)));
    pure.flat_map(|file| match file.path.rsplit_once('.') {
        Some((_, "rs")) => impure_lines(file),
        Some((_, "toml")) => impure_dependencies(file),
        _ => Vec::new(),
    })
    .collect()
}

fn impure_lines(file: &File) -> Vec<String> {
    if file.is_test() {
        return Vec::new();
    }
    let code = file.program_lines().filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(number, line)| {
        let found = FORBIDDEN.iter().filter(move |(word, _)| line.contains(word));
        found.map(move |(word, instead)| {
            format!("{}:{number}: {word} in a pure crate; use {instead}", file.path)
        })
    })
    .collect()
}

fn impure_dependencies(file: &File) -> Vec<String> {
    let names = dependencies(&file.text).into_iter();
    names
        .filter(|name| FORBIDDEN_DEPENDENCIES.contains(&name.as_str()))
        .map(|name| format!("{}: a pure crate must not depend on {name}", file.path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_and_runtimes_are_found_outside_comments_and_tests() {
        let text = "//! tokio\nfn f() {\n    let t = Instant::now();\n}\n#[cfg(test)]\nmod t { Instant::now() }\n";
        let found = impure_lines(&File::new("broker/engine/src/a.rs", text));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("broker/engine/src/a.rs:3: Instant::now"), "{found:?}");
        let manifest = "[dependencies]\ntokio.workspace = true\nbytes.workspace = true\n";
        assert_eq!(impure_dependencies(&File::new("broker/store/Cargo.toml", manifest)).len(), 1);
    }
}
