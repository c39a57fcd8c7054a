//! Names of topics and consumer groups. A value of these types obeys the rules of protocol section 5.6.

use std::fmt;
use std::sync::Arc;

use crate::limits::{GROUP_NAME_BYTES_MAX, SYSTEM_TOPIC_NAME_BYTES_MAX, TOPIC_NAME_BYTES_MAX};

/// Prefix of the dead-letter topic of a group.
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";
/// Prefix of the retry topics of Apache's broker; Pinnace has none, but keeps the names out of use.
pub const RETRY_PREFIX: &str = "%RETRY%";

const SYSTEM_TOPICS: [&str; 12] = [
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "SCHEDULE_TOPIC_XXXX",
    "TBW102",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "BenchmarkTest",
    "RMQ_SYS_TRACE_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "CHECKPOINT_TOPIC",
    "RMQ_SYS_SCHEDULE_TOPIC",
    "rmq_sys_wheel_timer",
];

/// Why a text is no legal name; the message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing but white space.
    #[error("the {what} name is empty; give it a name")]
    Empty {
        /// "topic" or "consumer group".
        what: &'static str,
    },
    /// Over the limit.
    #[error("the {what} name has {bytes} bytes; at most {max} are allowed")]
    TooLong {
        /// "topic" or "consumer group".
        what: &'static str,
        /// Length given.
        bytes: usize,
        /// Length allowed.
        max: usize,
    },
    /// A character outside the allowed set.
    #[error(
        "the {what} name {name:?} has the illegal character {character:?}; use letters, digits, '_', '-', '%' and '|'"
    )]
    IllegalCharacter {
        /// "topic" or "consumer group".
        what: &'static str,
        /// The name given.
        name: String,
        /// The first bad character.
        character: char,
    },
    /// A name that the system keeps for itself.
    #[error("the {what} name {name:?} is reserved for the system; choose another")]
    Reserved {
        /// "topic" or "consumer group".
        what: &'static str,
        /// The name given.
        name: String,
    },
}

fn check(what: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > max {
        return Err(NameError::TooLong { what, bytes: name.len(), max });
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '%' | '|');
    match name.chars().find(|&c| !legal(c)) {
        Some(character) => {
            Err(NameError::IllegalCharacter { what, name: name.to_owned(), character })
        }
        None => Ok(()),
    }
}

/// A legal topic name; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Accepts any name that a client may read from or write to, dead-letter topics included.
    ///
    /// # Errors
    /// [`NameError`] when the text breaks a rule of protocol section 5.6.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let what = "topic";
        let carries_group = name.starts_with(DEAD_LETTER_PREFIX) || name.starts_with(RETRY_PREFIX);
        let max = if carries_group { SYSTEM_TOPIC_NAME_BYTES_MAX } else { TOPIC_NAME_BYTES_MAX };
        check(what, name, max)?;
        if SYSTEM_TOPICS.contains(&name) || name.starts_with("rmq_sys_") {
            return Err(NameError::Reserved { what, name: name.to_owned() });
        }
        Ok(Self(name.into()))
    }

    /// Accepts a name under which a user may create a topic: no dead-letter or retry name.
    ///
    /// # Errors
    /// As [`TopicName::parse`], and [`NameError::Reserved`] for the system's prefixes.
    pub fn parse_declared(name: &str) -> Result<Self, NameError> {
        let parsed = Self::parse(name)?;
        if name.starts_with(DEAD_LETTER_PREFIX) || name.starts_with(RETRY_PREFIX) {
            return Err(NameError::Reserved { what: "topic", name: name.to_owned() });
        }
        Ok(parsed)
    }

    /// The dead-letter topic of a group: one queue per shard, shared by all topics of the group.
    #[must_use]
    pub fn dead_letter_of(group: &GroupName) -> Self {
        Self(format!("{DEAD_LETTER_PREFIX}{group}").into())
    }

    /// Whether this is a dead-letter topic.
    #[must_use]
    pub fn is_dead_letter(&self) -> bool {
        self.0.starts_with(DEAD_LETTER_PREFIX)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A legal consumer group name; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// # Errors
    /// [`NameError`] when the text breaks a rule of protocol section 5.6.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let what = "consumer group";
        check(what, name, GROUP_NAME_BYTES_MAX)?;
        if name.starts_with("CID_RMQ_SYS_") {
            return Err(NameError::Reserved { what, name: name.to_owned() });
        }
        Ok(Self(name.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}
text!(TopicName);
text!(GroupName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names_pass_and_illegal_ones_say_why() {
        assert!(TopicName::parse("orders").is_ok());
        assert!(TopicName::parse("%DLQ%billing").is_ok());
        assert!(matches!(
            TopicName::parse("bad topic"),
            Err(NameError::IllegalCharacter { character: ' ', .. })
        ));
        assert!(matches!(TopicName::parse("  "), Err(NameError::Empty { .. })));
        assert!(matches!(TopicName::parse(&"a".repeat(128)), Err(NameError::TooLong { .. })));
        assert!(matches!(TopicName::parse("rmq_sys_x"), Err(NameError::Reserved { .. })));
        assert!(matches!(TopicName::parse_declared("%DLQ%g"), Err(NameError::Reserved { .. })));
        assert!(matches!(GroupName::parse("CID_RMQ_SYS_x"), Err(NameError::Reserved { .. })));
        assert!(matches!(GroupName::parse(&"g".repeat(121)), Err(NameError::TooLong { .. })));
    }
}
