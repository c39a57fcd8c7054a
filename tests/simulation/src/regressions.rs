//! Seeds that failed once, each with what it was: they are played before all others, and by the normal tests.

const TEXT: &str = include_str!("../regressions.txt");

/// Seed and what it was.
///
/// # Errors
/// The line that is no such thing.
pub fn seeds() -> Result<Vec<(u64, &'static str)>, String> {
    let lines = TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (seed, what) = line.split_once(' ').unwrap_or((line, ""));
            let seed = seed.parse().map_err(|_| format!("{line:?} does not begin with a seed"))?;
            Ok((seed, what))
        })
        .collect()
}
