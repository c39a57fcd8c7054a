//! Prints results as a table, as JSON or as YAML, and what is beside them to stderr. Only here is anything printed.

use std::io::Write;

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::failure::Failure;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns, for people.
    Table,
    /// JSON; one object per line where results come one by one.
    Json,
    /// YAML; one list item per result where results come one by one.
    Yaml,
}

/// The flag `-o` that all verbs with results share.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArguments {
    /// How results are printed.
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        env = "PINNACE_OUTPUT",
        default_value = "table"
    )]
    pub(crate) format: Format,
}

/// Writes text to stdout at once.
///
/// # Errors
/// [`Failure::OutputClosed`] when the reader is gone.
pub(crate) fn emit(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::runtime(format!("cannot write the output: {error}")),
        }
    })
}

/// Text that changes nothing on a terminal: ids, keys and hosts are what clients gave.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Writes a line to stderr. When that is full or gone nobody is left to tell.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{}", plain(&line.to_string()));
}

/// Prints one value: as `table` says, or as data.
pub(crate) fn print<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let text = match format {
        Format::Table => table(value),
        Format::Json => json(value)? + "\n",
        Format::Yaml => yaml(value)?,
    };
    emit(&text)
}

/// Columns without borders, as `kubectl` prints them.
pub(crate) fn columns(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let lines = table.to_string();
    lines.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

/// `name: value` lines, aligned.
pub(crate) fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    rows.iter().fold(String::new(), |text, (name, value)| {
        text + format!("{:<width$} {}", format!("{name}:"), plain(value)).trim_end() + "\n"
    })
}

/// Prints results that come one by one: a header once, then a line each.
#[derive(Debug)]
pub(crate) struct Lines {
    format: Format,
    header: &'static str,
    begun: bool,
}

impl Lines {
    /// `header` is the first line of the table form.
    pub(crate) fn new(format: Format, header: &'static str) -> Self {
        Self { format, header, begun: false }
    }

    /// Prints the next result.
    pub(crate) fn print<T: Serialize>(
        &mut self,
        value: &T,
        row: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table if self.begun => plain(&row(value)) + "\n",
            Format::Table => format!("{}\n{}\n", self.header, plain(&row(value))),
            Format::Json => json(value)? + "\n",
            Format::Yaml => yaml(&[value])?,
        };
        self.begun = true;
        emit(&text)
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string(value);
    let text = text.map_err(|e| Failure::runtime(format!("cannot write JSON: {e}")))?;
    // What JSON need not escape may still mean something to a terminal.
    Ok(text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
        if c.is_control() {
            plain.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            plain.push(c);
        }
        plain
    }))
}

fn yaml<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    serde_yaml::to_string(value).map_err(|e| Failure::runtime(format!("cannot write YAML: {e}")))
}

/// A duration as people write it: `850ms`, `12s`, `4m10s`, `3h5m`, `2d4h`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// A size as people write it: `512 B`, `1.5 KiB`, `3.2 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_people_write_them() {
        let durations = [0, 850, 1999, 60_000, 250_000, 7_200_000, 11_100_000, 187_200_000];
        let texts: Vec<_> = durations.into_iter().map(duration).collect();
        assert_eq!(texts, ["0ms", "850ms", "1s", "1m", "4m10s", "2h", "3h5m", "2d4h"]);
        let sizes: Vec<_> = [0, 1023, 1536, 3 << 30].into_iter().map(bytes).collect();
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]);
    }

    #[test]
    fn what_clients_gave_reaches_no_terminal_as_a_command() {
        let hostile = "id\u{1b}[2J\u{9b}1m\r";
        let table = columns(&["ID"], vec![vec![hostile.to_owned()]]);
        let all = [table, fields(&[("ID", hostile.to_owned())]), json(hostile).unwrap()];
        for text in all {
            assert!(!text.trim_end().contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        }
        let read: String = serde_json::from_str(&json(hostile).unwrap()).unwrap();
        assert_eq!(read, hostile, "the data stay what they are");
    }

    #[test]
    fn tables_are_aligned_without_trailing_blanks() {
        let table = columns(&["NAME", "N"], vec![vec!["orders".to_owned(), "1".to_owned()]]);
        assert_eq!(table, "NAME     N\norders   1\n");
        assert_eq!(fields(&[("A", "1".to_owned()), ("Long", String::new())]), "A:    1\nLong:\n");
    }
}
