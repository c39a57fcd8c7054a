//! Who declared a topic or a group, so that two declarations of one name cannot overwrite each other unseen.

use std::fmt;

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
