//! The SQL92 subset of RocketMQ as a compiled condition on the properties of a message (protocol section 6.2).
//! Compiled once per expression: constants are typed, names are kept once, the tree is never deeper than
//! `FILTER_SQL_LEVELS_MAX`. Evaluation allocates nothing. `parse` knows the text, `evaluate` the meaning.

mod evaluate;
mod parse;

#[cfg(test)]
mod tests;

use std::fmt;

use super::FilterError;

/// A compiled condition. Two are equal when their texts are.
pub struct SqlFilter {
    text: Box<str>,
    /// The properties that the condition reads, each once, in the order of their first use.
    names: Vec<Box<str>>,
    root: Node,
}

/// What a condition says about a message, in SQL's three-valued logic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// The message passes.
    True,
    /// It does not.
    False,
    /// Unknown, as when a property is missing: the message does not pass.
    Null,
}

/// The condition cannot be evaluated for this message, which therefore does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an operand of '<', '<=', '>', '>=' or BETWEEN is not a number")]
pub struct EvaluationError;

impl SqlFilter {
    /// Compiles an expression. Its length is the caller's to check.
    pub(super) fn parse(text: &str) -> Result<Self, FilterError> {
        let (root, names) = parse::parse(text)?;
        Ok(Self { text: text.into(), names, root })
    }

    /// The expression as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The properties that the condition reads, each once.
    pub fn property_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// Whether a message passes. `property` gives the text of a property, or none when the message does not have it;
    /// besides user properties it should know stored system ones such as `TAGS` and `KEYS`.
    #[must_use]
    pub fn matches<'a>(&self, property: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        self.evaluate(property) == Ok(Truth::True)
    }

    /// What the condition says about a message, for which `property` stands as in [`SqlFilter::matches`].
    ///
    /// # Errors
    /// [`EvaluationError`] when a property that is compared by size holds no number. It ends the evaluation, even
    /// where the rest of the condition would decide.
    pub fn evaluate<'a>(
        &self,
        property: &dyn Fn(&str) -> Option<&'a str>,
    ) -> Result<Truth, EvaluationError> {
        evaluate::evaluate(&self.root, &self.names, property)
    }
}

impl fmt::Debug for SqlFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SqlFilter").field(&self.text).finish()
    }
}

impl PartialEq for SqlFilter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SqlFilter {}

/// Index into the names of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name(usize);

/// One step of the compiled condition.
#[derive(Debug)]
enum Node {
    Constant(Constant),
    Property(Name),
    /// A property where a condition is needed.
    Cast(Name),
    /// A sign before anything but a number constant, whose sign is part of it.
    Negate(Box<Node>),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    /// `=`, or `<>` when negated.
    Equal {
        left: Box<Node>,
        right: Box<Node>,
        negated: bool,
    },
    IsNull {
        operand: Box<Node>,
        negated: bool,
    },
    Order {
        operator: OrderOperator,
        left: Box<Node>,
        right: Box<Node>,
    },
    /// A step of its own and not two comparisons, so that nested ones do not evaluate their value twice each.
    Between {
        value: Box<Node>,
        low: Box<Node>,
        high: Box<Node>,
        negated: bool,
    },
    Text {
        test: TextTest,
        operand: Box<Node>,
        literal: Box<str>,
        negated: bool,
    },
    /// The texts are sorted.
    In {
        property: Name,
        texts: Vec<Box<str>>,
        negated: bool,
    },
}

#[derive(Debug)]
enum Constant {
    Null,
    Truth(bool),
    Number(Number),
    Text(Box<str>),
}

/// A number as RocketMQ's brokers, written in Java, know it.
#[derive(Debug, Clone, Copy)]
enum Number {
    Long(i64),
    Double(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OrderOperator {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}
