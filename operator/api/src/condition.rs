//! Conditions as every kind reports them (kstatus): `Ready` always; `Reconciling` and `Stalled` only while they hold.
//! Pure: the time of a transition is an argument.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The object does what it asks for.
pub const READY: &str = "Ready";
/// Work is under way, or waits for something that is expected to come by itself.
pub const RECONCILING: &str = "Reconciling";
/// Nothing more happens until a person changes something.
pub const STALLED: &str = "Stalled";

/// One observed fact about an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the fact is about.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: Truth,
    /// The generation of the spec that this was found for.
    pub observed_generation: i64,
    /// When `status` last changed, RFC 3339.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// One word for programs.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,
    /// A sentence for people, with what to do when something is to be done.
    #[schemars(length(max = 32768))]
    pub message: String,
}

/// Whether a fact holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Truth {
    True,
    False,
    Unknown,
}

/// A condition that a controller wants to report, before it is merged with what was reported before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The condition's type.
    pub type_: &'static str,
    /// Whether it holds.
    pub status: Truth,
    /// One word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// Merges findings into the conditions of before: a type that is not found any more goes, and the time of transition
/// moves only where the status flips.
#[must_use]
pub fn merge(
    before: &[Condition],
    findings: &[Finding],
    generation: i64,
    now: &str,
) -> Vec<Condition> {
    let merged = |finding: &Finding| {
        let old = before.iter().find(|c| c.type_ == finding.type_);
        let last_transition_time = match old {
            Some(old) if old.status == finding.status => old.last_transition_time.clone(),
            _ => now.to_owned(),
        };
        Condition {
            type_: finding.type_.to_owned(),
            status: finding.status,
            observed_generation: generation,
            last_transition_time,
            reason: finding.reason.to_owned(),
            message: finding.message.clone(),
        }
    };
    findings.iter().map(merged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: Truth, message: &str) -> Finding {
        Finding { type_: READY, status, reason: "Because", message: message.to_owned() }
    }

    #[test]
    fn the_time_moves_only_when_the_status_flips() {
        let first = merge(&[], &[ready(Truth::False, "a")], 1, "t1");
        let second = merge(&first, &[ready(Truth::False, "b")], 2, "t2");
        assert_eq!(second[0].last_transition_time, "t1");
        assert_eq!((second[0].observed_generation, second[0].message.as_str()), (2, "b"));
        let third = merge(&second, &[ready(Truth::True, "b")], 2, "t3");
        assert_eq!(third[0].last_transition_time, "t3");
    }

    #[test]
    fn a_condition_that_no_longer_holds_is_removed() {
        let stalled =
            Finding { type_: STALLED, status: Truth::True, reason: "Why", message: String::new() };
        let first = merge(&[], &[ready(Truth::False, ""), stalled], 1, "t1");
        assert_eq!(first.len(), 2);
        let second = merge(&first, &[ready(Truth::True, "")], 1, "t2");
        assert_eq!(second.len(), 1);
    }
}
