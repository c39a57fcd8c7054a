//! Prints the custom resource definitions or writes what `crds/` holds.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use operator_api::definitions;

/// Prints all definitions as one YAML text.
///
/// # Errors
/// When the output cannot be written.
pub fn print(out: &mut dyn Write) -> anyhow::Result<()> {
    for (_, definition) in definitions::all() {
        writeln!(out, "---")?;
        out.write_all(definitions::to_yaml(&definition)?.as_bytes())?;
    }
    Ok(())
}

/// Writes one file for each definition.
///
/// # Errors
/// When a file cannot be written.
pub fn write(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    for (file, definition) in definitions::all() {
        let path = directory.join(file);
        std::fs::write(&path, definitions::to_yaml(&definition)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Prints to the standard output.
///
/// # Errors
/// When the output cannot be written.
pub fn print_to_stdout() -> anyhow::Result<()> {
    print(&mut io::stdout().lock())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_in_crds_are_what_the_types_make() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        for (file, definition) in definitions::all() {
            let path = directory.join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let wanted = definitions::to_yaml(&definition).unwrap();
            assert!(text == wanted, "{} is not up to date; run `make crds`", path.display());
        }
    }
}
