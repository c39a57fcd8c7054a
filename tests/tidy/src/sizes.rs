//! Sizes as a ratchet: a file has at most 500 lines and a function at most 70, tests, blank lines and comments not
//! counted. Exceptions are listed with the size they have; a size may only fall, and the list with it.

use crate::{File, Repository};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Files over the limit: path and lines.
const FILES: [(&str, usize); 0] = [];
/// Functions over the limit: path, name and lines.
const FUNCTIONS: [(&str, &str, usize); 0] = [];

/// Files and functions that are too long, and exceptions that are no longer needed as they stand.
#[must_use]
pub fn too_long(repository: &Repository) -> Vec<String> {
    let mut violations = Vec::new();
    for file in repository.with_ending(&[".rs"]).filter(|file| !file.is_test()) {
        let allowed = FILES.iter().find(|(path, _)| *path == file.path).map(|(_, lines)| *lines);
        let lines = file.program_lines().count();
        violations.extend(judge(&file.path, lines, FILE_LINES_MAX, allowed));
        for (name, lines) in functions(file) {
            let exception = FUNCTIONS.iter().find(|(p, n, _)| *p == file.path && *n == name);
            let what = format!("{} fn {name}", file.path);
            violations.extend(judge(&what, lines, FUNCTION_LINES_MAX, exception.map(|e| e.2)));
        }
    }
    violations
}

fn judge(what: &str, lines: usize, max: usize, allowed: Option<usize>) -> Option<String> {
    match allowed {
        None if lines > max => Some(format!("{what}: {lines} lines, at most {max}; split it")),
        Some(allowed) if lines > allowed => {
            Some(format!("{what}: grew from {allowed} to {lines} lines; an exception only shrinks"))
        }
        Some(allowed) if lines < allowed => {
            Some(format!("{what}: has {lines} lines now; lower its exception in sizes.rs"))
        }
        _ => None,
    }
}

/// Name and size of each function. The sources are formatted, so a function ends at the first closing brace that is
/// indented as its beginning.
fn functions(file: &File) -> Vec<(String, usize)> {
    let lines: Vec<&str> = file.program_lines().map(|(_, line)| line).collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        let body =
            lines[index..].iter().take_while(|l| **l != end && !ends_without_body(l, indent));
        let counts = |l: &&&str| !l.trim().is_empty() && !l.trim_start().starts_with("//");
        found.push((name, body.filter(counts).count().saturating_sub(1)));
    }
    found
}

/// A declaration in a trait, or a body on one line.
fn ends_without_body(line: &str, indent: &str) -> bool {
    let own = line.strip_prefix(indent).is_some_and(|rest| !rest.starts_with(' '));
    own && (line.ends_with(';') || line.ends_with("{}") || line.ends_with(" }"))
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    loop {
        match words.next()? {
            "fn" => break,
            "pub" | "async" | "const" | "unsafe" | "extern" | "\"C\"" => {}
            word if word.starts_with("pub(") => {}
            _ => return None,
        }
    }
    let name = words.next()?;
    Some(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> String {
        let body = "        work();\n        // why\n\n".repeat(lines);
        format!(
            "impl X {{\n    pub(crate) async fn long(&self) {{\n{body}    }}\n\n    fn next(&self);\n}}\n"
        )
    }

    #[test]
    fn functions_are_measured_without_comments_and_blank_lines() {
        let file = File::new("a.rs", &function(71));
        assert_eq!(functions(&file), [("long".to_owned(), 71), ("next".to_owned(), 0)]);
    }

    #[test]
    fn a_size_over_its_limit_is_found_and_exceptions_only_shrink() {
        assert!(judge("a", 71, 70, None).is_some_and(|v| v.contains("split it")));
        assert!(judge("a", 70, 70, None).is_none());
        assert!(judge("a", 80, 70, Some(79)).is_some_and(|v| v.contains("grew")));
        assert!(judge("a", 78, 70, Some(79)).is_some_and(|v| v.contains("lower")));
        assert!(judge("a", 79, 70, Some(79)).is_none());
    }
}
