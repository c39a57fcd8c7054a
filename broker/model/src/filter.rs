//! Filter expressions of subscriptions (protocol section 6). Tags are compared by a 64-bit hash that the index keeps, so
//! that such a filter never reads a message. An SQL filter needs the properties of the message itself, so it has two
//! steps: a coarse check that lets everything pass, and the exact one of [`SqlFilter`]. The language lives in `sql`.

mod sql;

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

pub use sql::{EvaluationError, SqlFilter, Truth};

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
    /// Not an expression of the SQL92 subset, or over one of its limits.
    #[error("the SQL filter is wrong at character {position}: {message}")]
    Sql {
        /// The first character that cannot stay as it is, counted from 1; one more than there are when the end is
        /// where something is missing.
        position: usize,
        /// What was expected there, or what to write instead.
        message: String,
    },
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Filter {
    /// Everything.
    #[default]
    All,
    /// Messages whose tag hash is one of these, sorted.
    Tags(Vec<u64>),
    /// Messages whose properties fulfil a condition.
    Sql(Arc<SqlFilter>),
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
        check_length(text)?;
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

    /// Compiles a condition of the SQL92 subset (protocol section 6.2).
    ///
    /// # Errors
    /// [`FilterError::TooLong`], or [`FilterError::Sql`] with the place of what is wrong; an empty expression is wrong.
    pub fn parse_sql(expression: &str) -> Result<Self, FilterError> {
        check_length(expression)?;
        Ok(Self::Sql(Arc::new(SqlFilter::parse(expression)?)))
    }

    /// The coarse check: whether a message with this tag hash may pass. For [`Filter::Sql`] it is always true, and
    /// [`SqlFilter::matches`] has the last word.
    #[must_use]
    pub fn matches(&self, hash: u64) -> bool {
        match self {
            Self::All | Self::Sql(_) => true,
            Self::Tags(hashes) => hashes.binary_search(&hash).is_ok(),
        }
    }

    /// The hashes of which a message's tag must be one, sorted; none when the coarse check lets everything pass.
    #[must_use]
    pub fn tags(&self) -> Option<&[u64]> {
        match self {
            Self::All | Self::Sql(_) => None,
            Self::Tags(hashes) => Some(hashes),
        }
    }

    /// The condition that has to be evaluated on a message's properties; none when the coarse check is exact.
    #[must_use]
    pub fn as_sql(&self) -> Option<&SqlFilter> {
        match self {
            Self::Sql(filter) => Some(filter),
            Self::All | Self::Tags(_) => None,
        }
    }
}

fn check_length(expression: &str) -> Result<(), FilterError> {
    let bytes = expression.len();
    if bytes > FILTER_EXPRESSION_BYTES_MAX {
        let message = format!("{bytes} bytes, at most {FILTER_EXPRESSION_BYTES_MAX}");
        return Err(FilterError::TooLong(message));
    }
    Ok(())
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
