//! Filter expressions of subscriptions (protocol section 6.1). Tags are compared by a 64-bit hash that the index keeps,
//! so that filtering never reads a message.

use xxhash_rust::xxh3::xxh3_64;

use crate::limits::{FILTER_EXPRESSION_BYTES_MAX, FILTER_TAGS_MAX};

/// Hash of a tag; 0 stands for "no tag".
#[must_use]
pub fn tag_hash(tag: Option<&str>) -> u64 {
    // A real tag never hashes to the value that means "none".
    tag.map_or(0, |tag| xxh3_64(tag.as_bytes()).max(1))
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Only separators.
    #[error("the tag expression {0:?} names no tag; use '*' for all messages or 'a || b'")]
    NoTags(String),
    /// Over a limit.
    #[error("the filter expression is too long: {0}")]
    TooLong(String),
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Filter {
    /// Everything.
    #[default]
    All,
    /// Messages whose tag hash is one of these, sorted.
    Tags(Vec<u64>),
}

impl Filter {
    /// Compiles a tag expression: empty or `*` is all, else tags separated by `||`.
    ///
    /// # Errors
    /// [`FilterError`] when no tag is named or a limit is crossed.
    pub fn parse_tags(expression: &str) -> Result<Self, FilterError> {
        let text = expression.trim();
        if text.is_empty() || text == "*" {
            return Ok(Self::All);
        }
        if text.len() > FILTER_EXPRESSION_BYTES_MAX {
            let message = format!("{} bytes, at most {FILTER_EXPRESSION_BYTES_MAX}", text.len());
            return Err(FilterError::TooLong(message));
        }
        let tags: Vec<&str> = text.split("||").map(str::trim).filter(|t| !t.is_empty()).collect();
        if tags.is_empty() {
            return Err(FilterError::NoTags(text.to_owned()));
        }
        if tags.len() > FILTER_TAGS_MAX {
            return Err(FilterError::TooLong(format!(
                "{} tags, at most {FILTER_TAGS_MAX}",
                tags.len()
            )));
        }
        if tags.contains(&"*") {
            return Ok(Self::All);
        }
        let mut hashes: Vec<u64> = tags.into_iter().map(|t| tag_hash(Some(t))).collect();
        hashes.sort_unstable();
        hashes.dedup();
        Ok(Self::Tags(hashes))
    }

    /// Whether a message with this tag hash passes.
    #[must_use]
    pub fn matches(&self, hash: u64) -> bool {
        match self {
            Self::All => true,
            Self::Tags(hashes) => hashes.binary_search(&hash).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_expressions_follow_the_protocol() {
        let passes = |expression: &str, tag: Option<&str>| {
            Filter::parse_tags(expression).map(|f| f.matches(tag_hash(tag)))
        };
        assert_eq!(passes("*", None), Ok(true));
        assert_eq!(passes("", Some("a")), Ok(true));
        assert_eq!(passes("a || b", Some("b")), Ok(true));
        assert_eq!(passes(" a||b ", Some("c")), Ok(false));
        assert_eq!(passes("a", None), Ok(false));
        assert_eq!(passes("a", Some("A")), Ok(false));
        assert!(matches!(passes(" || ", None), Err(FilterError::NoTags(_))));
    }
}
