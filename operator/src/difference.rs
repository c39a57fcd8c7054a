//! Differences between a thing in a broker and its declaration, field by field, for people. Pure.

/// Differences that are named; all others are counted.
const NAMED_MAX: usize = 16;

/// Differences as they are found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Differences(Vec<String>);

impl Differences {
    /// Compares one field, both sides in the words of the spec.
    pub fn compare(&mut self, field: &str, has: impl Into<String>, wanted: impl Into<String>) {
        let (has, wanted) = (has.into(), wanted.into());
        if has != wanted {
            self.0.push(format!("{field} (has {has}, wanted {wanted})"));
        }
    }

    /// All of them in one line; none when nothing differs.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        let named = self.0.get(..NAMED_MAX).unwrap_or(&self.0).join(", ");
        match self.0.len() {
            0 => None,
            count if count > NAMED_MAX => {
                Some(format!("{named}, and {} more", count.saturating_sub(NAMED_MAX)))
            }
            _ => Some(named),
        }
    }
}

/// A value that may be absent.
pub fn optional<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "none".to_owned(), text)
}

/// A span of time as specs write it.
#[must_use]
pub fn span(duration: &prost_types::Duration) -> String {
    let seconds = u64::try_from(duration.seconds).unwrap_or_default();
    let ms = u64::try_from(duration.nanos / 1_000_000).unwrap_or_default();
    match (seconds, ms) {
        (0, 0) => "0s".to_owned(),
        (seconds, 0) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (seconds, 0) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        (seconds, 0) => format!("{seconds}s"),
        (seconds, ms) => format!("{}ms", seconds.saturating_mul(1000).saturating_add(ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told_and_many_are_counted() {
        let mut differences = Differences::default();
        differences.compare("queues", "8", "8");
        assert_eq!(differences.told(), None);
        differences.compare("retention.time", "100h", "1m");
        let told = differences.told();
        assert_eq!(told.as_deref(), Some("retention.time (has 100h, wanted 1m)"));
        for number in 0..20 {
            differences.compare(&format!("field{number}"), "a", "b");
        }
        let told = differences.told().unwrap();
        assert!(told.ends_with("field14 (has a, wanted b), and 5 more"), "{told}");
    }

    #[test]
    fn spans_are_written_in_their_largest_whole_unit() {
        let span = |seconds, nanos| super::span(&prost_types::Duration { seconds, nanos });
        assert_eq!([span(360_000, 0), span(60, 0), span(90, 0)], ["100h", "1m", "90s"]);
        assert_eq!([span(1, 500_000_000), span(0, 0)], ["1500ms", "0s"]);
    }
}
