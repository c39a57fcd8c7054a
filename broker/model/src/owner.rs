//! Who declared a topic or a group, so that two declarations of one name cannot overwrite each other unseen.

use std::fmt;

use crate::limits::OWNER_PART_BYTES_MAX;

/// Why an owner is not legal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Over the limit.
    #[error("the owner's {part} has {bytes} bytes; at most {OWNER_PART_BYTES_MAX} are allowed")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// It would garble what it is printed on.
    #[error("the owner's {0} contains a control character")]
    ControlCharacter(&'static str),
}

/// The declaring object. Two owners are the same when instance, namespace and name are; the uid tells re-creations apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// Operator instance, "manifests" or "cli".
    pub instance: String,
    /// Kubernetes namespace, or empty.
    pub namespace: String,
    /// Object or file name.
    pub name: String,
    /// Object uid, or empty.
    pub uid: String,
}

impl Owner {
    /// Checks what is kept and printed with everything that it owns.
    ///
    /// # Errors
    /// [`OwnerError`] naming the part.
    pub fn validate(&self) -> Result<(), OwnerError> {
        let Self { instance, namespace, name, uid } = self;
        let parts =
            [("instance", instance), ("namespace", namespace), ("name", name), ("uid", uid)];
        for (part, text) in parts {
            if text.len() > OWNER_PART_BYTES_MAX {
                return Err(OwnerError::TooLong { part, bytes: text.len() });
            }
            if text.chars().any(char::is_control) {
                return Err(OwnerError::ControlCharacter(part));
            }
        }
        Ok(())
    }

    /// Whether both name the same declaring object.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        self.instance == other.instance
            && self.namespace == other.namespace
            && self.name == other.name
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}:{}", self.instance, self.name)
        } else {
            write!(f, "{}:{}/{}", self.instance, self.namespace, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_short_and_printable() {
        let owner = |name: &str| Owner { name: name.to_owned(), ..Owner::default() };
        assert_eq!(owner("orders").validate(), Ok(()));
        let text = owner(&"x".repeat(7 << 20)).validate().unwrap_err().to_string();
        assert!(text.contains("name has 7340032 bytes; at most 253"), "{text}");
        assert_eq!(owner("a\u{1b}[2J").validate(), Err(OwnerError::ControlCharacter("name")));
    }
}
