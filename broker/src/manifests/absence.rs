//! When something that no file declares any more counts as gone. Pure: what the files say and the time are arguments.
//! A file that is away at one look, an empty file and an empty folder prove nothing.

use std::collections::BTreeMap;

use super::declaration::{Declaration, Key, Set};

/// Nothing is let go of before it was away for so long.
pub(super) const ABSENCE_MS_MIN: u64 = 30_000;
/// And at so many looks in a row: a process that stood still did not look.
pub(super) const ABSENCE_LOOKS_MIN: u32 = 5;

/// What is away, since when, and at how many looks.
#[derive(Debug, Default)]
pub(super) struct Absences {
    seen: BTreeMap<Key, (u64, u32)>,
}

/// What one look tells about something that is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was there at the look before; it counts as gone after so many milliseconds.
    New(u64),
    /// It was away before, and not for long enough.
    Waiting,
    /// It is gone.
    Gone,
}

impl Absences {
    /// One look: what is away now. What is not among it is there again.
    pub(super) fn look(
        &mut self,
        away: impl IntoIterator<Item = Key>,
        now_ms: u64,
        least_ms: u64,
    ) -> Vec<(Key, Verdict)> {
        let before = std::mem::take(&mut self.seen);
        let judge = |key: Key| {
            let known = before.get(&key).copied();
            let (since_ms, looks) = known.unwrap_or((now_ms, 0));
            let looks = looks.saturating_add(1);
            let lasts = now_ms.saturating_sub(since_ms) >= least_ms && looks >= ABSENCE_LOOKS_MIN;
            self.seen.insert(key.clone(), (since_ms, looks));
            match (lasts, known) {
                (true, _) => (key, Verdict::Gone),
                (false, None) => (key, Verdict::New(least_ms)),
                (false, Some(_)) => (key, Verdict::Waiting),
            }
        };
        away.into_iter().map(judge).collect()
    }

    /// A look that tells nothing: whatever is away counts from the next one on.
    pub(super) fn interrupt(&mut self) {
        self.seen.clear();
    }
}

/// Why the absence of something proves nothing; none when it does.
pub(super) fn doubt(absent: &Declaration, set: &Set) -> Option<String> {
    if set.wanted.is_empty() {
        return Some("no file declares anything".to_owned());
    }
    if let Some(blank) = set.blank_files.first() {
        return Some(format!("{blank} is empty"));
    }
    let file = absent.origin.file.as_str();
    if set.files_without_objects.iter().any(|name| name == file) {
        return Some(format!("{file} is there and declares nothing; remove the file"));
    }
    let folder = file.rsplit_once('/').map(|(folder, _)| format!("{folder}/"));
    match folder {
        Some(folder) if !set.files.iter().any(|name| name.starts_with(&folder)) => {
            Some(format!("the folder {folder} holds no manifest any more"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::declaration;
    use super::super::folder::Contents;
    use super::*;

    fn key(name: &str) -> Key {
        Key::Topic(name.to_owned())
    }

    fn one(absences: &mut Absences, now_ms: u64) -> Verdict {
        let verdicts = absences.look([key("orders")], now_ms, ABSENCE_MS_MIN);
        assert_eq!(verdicts.len(), 1);
        verdicts[0].1
    }

    #[test]
    fn what_is_away_for_long_and_at_many_looks_is_gone() {
        let mut absences = Absences::default();
        assert_eq!(one(&mut absences, 1_000), Verdict::New(ABSENCE_MS_MIN));
        for look in 1..30 {
            assert_eq!(one(&mut absences, 1_000 + look * 1_000), Verdict::Waiting);
        }
        assert_eq!(one(&mut absences, 31_000), Verdict::Gone);
    }

    #[test]
    fn what_came_back_in_between_counts_from_the_beginning() {
        let mut absences = Absences::default();
        for begin in [0, 100_000] {
            assert!(matches!(one(&mut absences, begin), Verdict::New(_)));
            assert_eq!(one(&mut absences, begin + 29_999), Verdict::Waiting);
            assert!(absences.look([], begin + 30_000, ABSENCE_MS_MIN).is_empty());
        }
        assert!(matches!(one(&mut absences, 200_000), Verdict::New(_)));
        absences.interrupt();
        assert!(matches!(one(&mut absences, 300_000), Verdict::New(_)));
    }

    #[test]
    fn a_process_that_stood_still_has_not_looked() {
        let mut absences = Absences::default();
        for look in 0..ABSENCE_LOOKS_MIN - 1 {
            assert_ne!(one(&mut absences, u64::from(look) * 3_600_000), Verdict::Gone);
        }
        assert_eq!(one(&mut absences, 20_000_000), Verdict::Gone);
    }

    fn set(files: &[(&str, &str)]) -> Set {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        declaration::read(&Contents { files: files.collect(), ..Contents::default() }, "default")
    }

    fn topic(name: &str) -> String {
        format!("{{apiVersion: pinnace.dev/v1alpha1, kind: Topic, metadata: {{name: {name}}}}}")
    }

    #[test]
    fn emptiness_proves_nothing() {
        let (orders, notes) = (topic("orders"), topic("notes"));
        let before = set(&[("shop/orders.yaml", &orders)]);
        let absent = before.wanted.values().next().unwrap();
        let proves = |files: &[(&str, &str)]| doubt(absent, &set(files));
        assert_eq!(proves(&[("shop/other.yaml", &notes)]), None, "removed among others");
        assert_eq!(proves(&[("shop/orders.yaml", &notes)]), None, "declares something else");
        let comment = "# nothing yet\n";
        for (files, words) in [
            (vec![], "no file declares anything"),
            (vec![("a.yaml", comment)], "no file declares anything"),
            (vec![("a.yaml", &*notes)], "the folder shop/ holds no manifest"),
            (vec![("shop/a.yaml", &*notes), ("shop/orders.yaml", "")], "shop/orders.yaml is empty"),
            (vec![("shop/a.yaml", &*notes), ("b.yaml", " \n")], "b.yaml is empty"),
            (vec![("shop/a.yaml", &*notes), ("shop/orders.yaml", comment)], "declares nothing"),
        ] {
            let doubt = proves(&files).unwrap();
            assert!(doubt.contains(words), "{doubt}");
        }
    }
}
