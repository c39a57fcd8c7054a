//! Relative links in Markdown lead to something that exists.

use crate::{File, Repository};

/// Links that lead nowhere.
#[must_use]
pub fn broken(repository: &Repository) -> Vec<String> {
    let files = repository.with_ending(&[".md"]);
    files
        .flat_map(|file| {
            let broken = targets(file).into_iter().filter(|(_, to)| !repository.exists(to));
            broken.map(|(line, to)| {
                format!("{}:{line}: leads to {to}, which is not there", file.path)
            })
        })
        .collect()
}

/// Line and path, relative to the repository, of each relative link.
fn targets(file: &File) -> Vec<(usize, String)> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code || line.starts_with("    ") {
            continue;
        }
        for part in line.split("](").skip(1) {
            let link = part.split([')', ' ']).next().unwrap_or_default();
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            found.push((index + 1, resolve(folder, path)));
        }
    }
    found
}

fn resolve(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = match link.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => folder.split('/').filter(|part| !part.is_empty()).collect(),
    };
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_links_are_resolved_and_others_left_alone() {
        let text = "[a](../README.md#top) [b](adr/1.md) [c](https://example.org) [d](#here)\n```\n[e](no.md)\n```\n";
        let found = targets(&File::new("docs/book.md", text));
        assert_eq!(found, [(1, "README.md".to_owned()), (1, "docs/adr/1.md".to_owned())]);
        assert_eq!(resolve("docs", "/Makefile"), "Makefile");
    }
}
