//! What a compiled condition means: three-valued logic and the conversions between text, numbers and truth (protocol
//! section 6.2, and Apache's broker where that is silent). Reads properties through one function, allocates nothing.
//! The tree's depth is limited by the parser, so recursion is safe.

use std::cmp::Ordering;

use super::{Constant, EvaluationError, Name, Node, Number, OrderOperator, TextTest, Truth};

/// What a node is worth for one message.
#[derive(Debug, Clone, Copy)]
enum Value<'v> {
    Null,
    Truth(bool),
    Number(Number),
    Text(&'v str),
}

struct Evaluation<'v> {
    names: &'v [Box<str>],
    property: &'v dyn Fn(&str) -> Option<&'v str>,
}

/// Evaluates a condition whose names are indices into `names`.
pub(super) fn evaluate<'a>(
    root: &Node,
    names: &[Box<str>],
    property: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<Truth, EvaluationError> {
    // The texts live longer than needed; the closure lets them share the lifetime of the filter's own.
    let evaluation = Evaluation { names, property: &|name| property(name) };
    Ok(match evaluation.condition(root)? {
        Some(true) => Truth::True,
        Some(false) => Truth::False,
        None => Truth::Null,
    })
}

impl<'v> Evaluation<'v> {
    fn value(&self, node: &'v Node) -> Result<Value<'v>, EvaluationError> {
        Ok(match node {
            Node::Constant(Constant::Null) => Value::Null,
            Node::Constant(Constant::Truth(truth)) => Value::Truth(*truth),
            Node::Constant(Constant::Number(number)) => Value::Number(*number),
            Node::Constant(Constant::Text(text)) => Value::Text(text),
            Node::Property(name) => self.text(*name).map_or(Value::Null, Value::Text),
            // Only numbers have a sign; all numbers that are not constants are still text.
            Node::Negate(operand) => self.value(operand).map(|_| Value::Null)?,
            _ => self.condition(node)?.map_or(Value::Null, Value::Truth),
        })
    }

    /// None is SQL's NULL.
    fn condition(&self, node: &'v Node) -> Result<Option<bool>, EvaluationError> {
        match node {
            Node::Constant(_) | Node::Property(_) | Node::Negate(_) => {
                Ok(self.value(node)?.as_truth())
            }
            Node::Cast(name) => Ok(self.text(*name).map(truth_of)),
            Node::Not(operand) => Ok(self.condition(operand)?.map(|truth| !truth)),
            Node::And(parts) => self.until(parts, false),
            Node::Or(parts) => self.until(parts, true),
            Node::Equal { left, right, negated } => {
                Ok(self.equal(left, right)?.map(|equal| equal != *negated))
            }
            Node::IsNull { operand, negated } => {
                let is_null = matches!(self.value(operand)?, Value::Null);
                Ok(Some(is_null != *negated))
            }
            Node::Order { operator, left, right } => {
                self.order(*operator, self.value(left)?, right)
            }
            Node::Between { value, low, high, negated } => {
                self.between(self.value(value)?, low, high, *negated)
            }
            Node::Text { test, operand, literal, negated } => {
                self.test(*test, operand, literal, *negated)
            }
            Node::In { property, texts, negated } => {
                let found = |text| texts.binary_search_by(|other| (**other).cmp(text)).is_ok();
                Ok(self.text(*property).map(|text| found(text) != *negated))
            }
        }
    }

    /// AND when `decisive` is false, OR when it is true: the first part worth that decides, and ends the evaluation.
    fn until(&self, parts: &'v [Node], decisive: bool) -> Result<Option<bool>, EvaluationError> {
        let mut result = Some(!decisive);
        for part in parts {
            match self.condition(part)? {
                Some(truth) if truth == decisive => return Ok(Some(decisive)),
                Some(_) => {}
                None => result = None,
            }
        }
        Ok(result)
    }

    fn equal(&self, left: &'v Node, right: &'v Node) -> Result<Option<bool>, EvaluationError> {
        let values = (self.value(left)?, self.value(right)?);
        Ok(match values {
            // Not SQL but what Apache's broker answers: a constant differs from what is not there.
            (_, Value::Null) if matches!(left, Node::Constant(_)) => Some(false),
            (Value::Null, _) | (_, Value::Null) => None,
            (Value::Text(left), Value::Text(right)) => Some(left == right),
            (Value::Truth(left), Value::Truth(right)) => Some(left == right),
            (Value::Number(left), Value::Number(right)) => Some(left.compare(right).is_eq()),
            (Value::Text(text), Value::Truth(truth)) | (Value::Truth(truth), Value::Text(text)) => {
                Some(truth_of(text) == truth)
            }
            (Value::Text(text), Value::Number(number))
            | (Value::Number(number), Value::Text(text)) => {
                Some(number.read_alike(text).is_some_and(|read| read.compare(number).is_eq()))
            }
            (Value::Truth(_), Value::Number(_)) | (Value::Number(_), Value::Truth(_)) => {
                Some(false)
            }
        })
    }

    /// The right side is not evaluated when the left one is NULL.
    fn order(
        &self,
        operator: OrderOperator,
        left: Value<'v>,
        right: &'v Node,
    ) -> Result<Option<bool>, EvaluationError> {
        if matches!(left, Value::Null) {
            return Ok(None);
        }
        let ordering = match (left, self.value(right)?) {
            (_, Value::Null) => return Ok(None),
            (Value::Number(left), Value::Number(right)) => Some(left.compare(right)),
            (Value::Text(left), Value::Number(right)) => {
                right.read_alike(left).map(|left| left.compare(right))
            }
            (Value::Number(left), Value::Text(right)) => {
                left.read_alike(right).map(|right| left.compare(right))
            }
            (Value::Text(left), Value::Text(right)) => read_double(left)
                .zip(read_double(right))
                .map(|(left, right)| Number::Double(left).compare(Number::Double(right))),
            // The parser refuses conditions as operands.
            (Value::Truth(_) | Value::Null, _) | (_, Value::Truth(_)) => None,
        };
        let ordering = ordering.ok_or(EvaluationError)?;
        Ok(Some(match operator {
            OrderOperator::Greater => ordering.is_gt(),
            OrderOperator::GreaterOrEqual => ordering.is_ge(),
            OrderOperator::Less => ordering.is_lt(),
            OrderOperator::LessOrEqual => ordering.is_le(),
        }))
    }

    /// `value >= low AND value <= high`, or `value < low OR value > high`: the second comparison is not made when the
    /// first decides.
    fn between(
        &self,
        value: Value<'v>,
        low: &'v Node,
        high: &'v Node,
        negated: bool,
    ) -> Result<Option<bool>, EvaluationError> {
        let (above, below) = if negated {
            (OrderOperator::Less, OrderOperator::Greater)
        } else {
            (OrderOperator::GreaterOrEqual, OrderOperator::LessOrEqual)
        };
        let first = self.order(above, value, low)?;
        if first == Some(negated) {
            return Ok(first);
        }
        let second = self.order(below, value, high)?;
        Ok(if first.is_none() && second != Some(negated) { None } else { second })
    }

    /// Never NULL: what is missing or no text neither contains a text nor lacks it.
    fn test(
        &self,
        test: TextTest,
        operand: &'v Node,
        literal: &str,
        negated: bool,
    ) -> Result<Option<bool>, EvaluationError> {
        if literal.is_empty() {
            return Ok(Some(false));
        }
        let Value::Text(text) = self.value(operand)? else { return Ok(Some(false)) };
        let holds = match test {
            TextTest::Contains => text.contains(literal),
            TextTest::StartsWith => text.starts_with(literal),
            TextTest::EndsWith => text.ends_with(literal),
        };
        Ok(Some(holds != negated))
    }

    fn text(&self, name: Name) -> Option<&'v str> {
        (self.property)(self.names.get(name.0)?)
    }
}

impl Value<'_> {
    fn as_truth(self) -> Option<bool> {
        match self {
            Self::Truth(truth) => Some(truth),
            Self::Null | Self::Number(_) | Self::Text(_) => None,
        }
    }
}

impl Number {
    /// Java's order of doubles: -0.0 is below 0.0, and NaN equals itself and is above everything.
    pub(super) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Long(left), Self::Long(right)) => left.cmp(&right),
            (left, right) => left.as_double().total_cmp(&right.as_double()),
        }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Long(value) => Self::Long(value.wrapping_neg()),
            Self::Double(value) => Self::Double(-value),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "as in Java, a long beside a double is rounded")]
    fn as_double(self) -> f64 {
        match self {
            Self::Long(value) => value as f64,
            Self::Double(value) => value,
        }
    }

    /// The number in a property's text, read as the type of this one.
    fn read_alike(self, text: &str) -> Option<Self> {
        match self {
            Self::Long(_) => text.parse().ok().map(Self::Long),
            Self::Double(_) => read_double(text).map(Self::Double),
        }
    }
}

/// As in Java, what does not say true says false.
fn truth_of(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

/// A double as Java writes it: it may stand between blanks and end with `d` or `f`. Hexadecimal is not read.
fn read_double(text: &str) -> Option<f64> {
    let text = text.trim_matches(|c: char| c <= ' ');
    match text.trim_start_matches(['+', '-']) {
        // One NaN for all, so that they are equal.
        "NaN" if text.len() <= 4 => return Some(f64::from_bits(0x7ff8_0000_0000_0000)),
        "Infinity" => return text.parse().ok(),
        _ => {}
    }
    let number = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    // Narrower than Rust's own reading, which knows more words.
    let legal = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if number.bytes().all(legal) { number.parse().ok() } else { None }
}
