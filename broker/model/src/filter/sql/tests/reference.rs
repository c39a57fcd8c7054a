//! A second evaluator, as naive as possible, against the compiled one: well-formed expressions are generated as trees,
//! printed in random style, parsed back and evaluated by both. Reads no numbers itself: the pool says what they are.

use std::cmp::Ordering;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::{SqlFilter, Truth};
use crate::FilterError;

/// Texts, and what they are as a long and as a double.
const POOL: [(&str, Option<i64>, Option<f64>); 24] = [
    ("5", Some(5), Some(5.0)),
    ("-3", Some(-3), Some(-3.0)),
    ("+5", Some(5), Some(5.0)),
    ("007", Some(7), Some(7.0)),
    ("2.5", None, Some(2.5)),
    ("2.5d", None, Some(2.5)),
    ("25e-1F", None, Some(2.5)),
    (".5", None, Some(0.5)),
    (" 5 ", None, Some(5.0)),
    ("-0.0", None, Some(-0.0)),
    ("0", Some(0), Some(0.0)),
    ("9223372036854775808", None, Some(9.223_372_036_854_776e18)),
    ("1e999", None, Some(f64::INFINITY)),
    ("-Infinity", None, Some(f64::NEG_INFINITY)),
    ("NaN", None, Some(f64::NAN)),
    ("-NaN", None, Some(f64::NAN)),
    ("nan", None, None),
    ("inf", None, None),
    ("0x10", None, None),
    ("5 5", None, None),
    ("", None, None),
    ("true", None, None),
    ("False", None, None),
    ("it's \u{fc}", None, None),
];

/// Literals of floats and their values.
const DOUBLES: [(&str, f64); 6] =
    [("2.5", 2.5), ("5.", 5.0), (".5E1", 5.0), ("0.0", 0.0), ("1e3", 1000.0), ("25E-1", 2.5)];

const NAMES: [&str; 4] = ["a", "B", "_c", "$d9"];

#[derive(Debug, Clone)]
enum Tree {
    Property(&'static str),
    Text(&'static str),
    Long(i64),
    Double(&'static str, f64),
    Truth(bool),
    Null,
    Plus(Box<Tree>),
    Minus(Box<Tree>),
    Not(Box<Tree>),
    Binary(Box<Tree>, &'static str, Box<Tree>),
    IsNull(Box<Tree>, bool),
    Between(Box<Tree>, Box<Tree>, Box<Tree>, bool),
    In(&'static str, Vec<&'static str>, bool),
    Test(Box<Tree>, &'static str, &'static str, bool),
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(&'static str),
    Long(i64),
    Double(f64),
    Truth(bool),
}

type Message = [Option<&'static str>; NAMES.len()];

fn read(text: &str) -> (Option<i64>, Option<f64>) {
    let (_, long, double) = POOL.iter().find(|(known, ..)| *known == text).unwrap();
    (*long, *double)
}

fn is_true(text: &str) -> bool {
    text.to_lowercase() == "true"
}

impl Tree {
    fn constant(&self) -> Option<Value> {
        match self {
            Tree::Text(text) => Some(Value::Text(text)),
            Tree::Long(value) => Some(Value::Long(*value)),
            Tree::Double(_, value) => Some(Value::Double(*value)),
            Tree::Truth(truth) => Some(Value::Truth(*truth)),
            Tree::Plus(operand) => operand.constant(),
            Tree::Minus(operand) => match operand.constant()? {
                Value::Long(value) => Some(Value::Long(-value)),
                Value::Double(value) => Some(Value::Double(-value)),
                _ => None,
            },
            _ => None,
        }
    }

    fn is_the_null(&self) -> bool {
        match self {
            Tree::Null => true,
            Tree::Plus(operand) => operand.is_the_null(),
            _ => false,
        }
    }

    fn value(&self, message: &Message) -> Result<Option<Value>, ()> {
        if let Some(constant) = self.constant() {
            return Ok(Some(constant));
        }
        match self {
            Tree::Property(name) => {
                let index = NAMES.iter().position(|known| known == name).unwrap();
                Ok(message[index].map(Value::Text))
            }
            Tree::Plus(operand) => operand.value(message),
            Tree::Minus(operand) => operand.value(message).map(|_| None),
            _ => Ok(self.truth(message)?.map(Value::Truth)),
        }
    }

    /// What it is as a condition.
    fn truth(&self, message: &Message) -> Result<Option<bool>, ()> {
        match self {
            Tree::Null => Ok(None),
            Tree::Not(operand) => Ok(operand.truth(message)?.map(|truth| !truth)),
            Tree::Binary(left, operator, right) => binary(left, operator, right, message),
            Tree::IsNull(operand, negated) => {
                Ok(Some(operand.value(message)?.is_none() != *negated))
            }
            Tree::Between(value, low, high, false) => {
                both(order(value, ">=", low, message)?, || order(value, "<=", high, message))
            }
            Tree::Between(value, low, high, true) => {
                either(order(value, "<", low, message)?, || order(value, ">", high, message))
            }
            Tree::In(name, texts, negated) => match Tree::Property(name).value(message)? {
                Some(Value::Text(text)) => Ok(Some(texts.contains(&text) != *negated)),
                _ => Ok(None),
            },
            Tree::Test(_, _, "", _) => Ok(Some(false)),
            Tree::Test(operand, test, literal, negated) => {
                let Some(Value::Text(text)) = operand.value(message)? else {
                    return Ok(Some(false));
                };
                let holds = match *test {
                    "CONTAINS" => text.contains(literal),
                    "STARTSWITH" => text.starts_with(literal),
                    _ => text.ends_with(literal),
                };
                Ok(Some(holds != *negated))
            }
            _ => Ok(match self.value(message)? {
                Some(Value::Truth(truth)) => Some(truth),
                Some(Value::Text(text)) => Some(is_true(text)),
                _ => None,
            }),
        }
    }
}

fn binary(
    left: &Tree,
    operator: &'static str,
    right: &Tree,
    message: &Message,
) -> Result<Option<bool>, ()> {
    match operator {
        "AND" => both(left.truth(message)?, || right.truth(message)),
        "OR" => either(left.truth(message)?, || right.truth(message)),
        "=" => equal(left, right, message),
        "<>" => Ok(equal(left, right, message)?.map(|equal| !equal)),
        _ => order(left, operator, right, message),
    }
}

fn both(
    left: Option<bool>,
    right: impl Fn() -> Result<Option<bool>, ()>,
) -> Result<Option<bool>, ()> {
    if left == Some(false) {
        return Ok(left);
    }
    Ok(match (left, right()?) {
        (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    })
}

fn either(
    left: Option<bool>,
    right: impl Fn() -> Result<Option<bool>, ()>,
) -> Result<Option<bool>, ()> {
    let not = |truth: Option<bool>| truth.map(|truth| !truth);
    Ok(not(both(not(left), || right().map(not))?))
}

fn equal(left: &Tree, right: &Tree, message: &Message) -> Result<Option<bool>, ()> {
    let (one, other) = (left.value(message)?, right.value(message)?);
    if other.is_none() && left.constant().is_some() {
        return Ok(Some(false));
    }
    let (Some(one), Some(other)) = (one, other) else { return Ok(None) };
    Ok(Some(match (one, other) {
        (Value::Text(one), Value::Text(other)) => one == other,
        (Value::Truth(one), Value::Truth(other)) => one == other,
        (Value::Text(text), Value::Truth(truth)) | (Value::Truth(truth), Value::Text(text)) => {
            is_true(text) == truth
        }
        (Value::Truth(_), _) | (_, Value::Truth(_)) => false,
        (one, other) => compare(&one, &other).is_some_and(Ordering::is_eq),
    }))
}

fn order(
    left: &Tree,
    operator: &'static str,
    right: &Tree,
    message: &Message,
) -> Result<Option<bool>, ()> {
    let Some(one) = left.value(message)? else { return Ok(None) };
    let Some(other) = right.value(message)? else { return Ok(None) };
    let ordering = compare(&one, &other).ok_or(())?;
    Ok(Some(match operator {
        "<" => ordering == Ordering::Less,
        "<=" => ordering != Ordering::Greater,
        ">" => ordering == Ordering::Greater,
        _ => ordering != Ordering::Less,
    }))
}

fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    let doubles = match (one, other) {
        (Value::Long(one), Value::Long(other)) => return Some(one.cmp(other)),
        (Value::Text(one), Value::Long(other)) => return Some(read(one).0?.cmp(other)),
        (Value::Long(one), Value::Text(other)) => return Some(one.cmp(&read(other).0?)),
        (one, other) => (double(one)?, double(other)?),
    };
    match doubles {
        (one, other) if one < other => Some(Ordering::Less),
        (one, other) if one > other => Some(Ordering::Greater),
        (one, other) if one.is_nan() || other.is_nan() => Some(one.is_nan().cmp(&other.is_nan())),
        (one, other) => Some(other.is_sign_negative().cmp(&one.is_sign_negative())),
    }
}

#[allow(clippy::cast_precision_loss, reason = "as in Java, a long beside a double is rounded")]
fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Text(text) => read(text).1,
        Value::Long(value) => Some(*value as f64),
        Value::Double(value) => Some(*value),
        Value::Truth(_) => None,
    }
}

/// Writes a tree with as many parentheses as it needs, and by chance more, other gaps and other letter cases.
struct Printer {
    text: String,
    style: Vec<u8>,
    at: usize,
}

impl Printer {
    fn chance(&mut self, of: u8) -> u8 {
        self.at += 1;
        self.style[self.at % self.style.len()] % of
    }

    fn token(&mut self, token: &str) {
        self.text.push_str(token);
        let gaps = [" ", " ", " ", "\n", "\t \r", " /* ' -- */ ", "-- ' ( /*\n", "/***/ "];
        let gap = gaps[usize::from(self.chance(8))];
        // A sign and the two dashes of a comment would be a comment of their own.
        self.text.push_str(if gap.starts_with('-') { " " } else { "" });
        self.text.push_str(gap);
    }

    fn word(&mut self, word: &str) {
        for part in word.split(' ') {
            match self.chance(3) {
                0 => self.token(&part.to_lowercase()),
                1 => self.token(&format!("{}{}", &part[..1], part[1..].to_lowercase())),
                _ => self.token(part),
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.token(&format!("'{}'", text.replace('\'', "''")));
    }

    fn not(&mut self, negated: bool) {
        if negated {
            self.word("NOT");
        }
    }

    /// `level` is the weakest operator that needs no parentheses here: 0 OR, 1 AND, 2 equality, 3 order and tests,
    /// 4 signs and NOT.
    fn tree(&mut self, tree: &Tree, level: u8) {
        let own = match tree {
            Tree::Binary(_, "OR", _) => 0,
            Tree::Binary(_, "AND", _) => 1,
            Tree::Binary(_, "=" | "<>", _) | Tree::IsNull(..) => 2,
            Tree::Binary(..) | Tree::Between(..) | Tree::In(..) | Tree::Test(..) => 3,
            _ => 4,
        };
        let parentheses = own < level || self.chance(8) == 0;
        if parentheses {
            self.token("(");
        }
        self.content(tree, own);
        if parentheses {
            self.token(")");
        }
    }

    fn content(&mut self, tree: &Tree, own: u8) {
        match tree {
            Tree::Property(name) => self.token(name),
            Tree::Text(text) => self.string(text),
            Tree::Long(value) => self.token(&value.to_string()),
            Tree::Double(text, _) => self.token(text),
            Tree::Truth(true) => self.word("TRUE"),
            Tree::Truth(false) => self.word("FALSE"),
            Tree::Null => self.word("NULL"),
            Tree::Plus(operand) => self.prefixed("+", operand),
            Tree::Minus(operand) => self.prefixed("-", operand),
            Tree::Not(operand) => self.prefixed("NOT", operand),
            Tree::Binary(left, operator, right) => {
                self.tree(left, own);
                self.word(operator);
                self.tree(right, own + 1);
            }
            Tree::IsNull(operand, negated) => {
                self.tree(operand, own);
                self.word(if *negated { "IS NOT NULL" } else { "IS NULL" });
            }
            Tree::Between(value, low, high, negated) => {
                self.tree(value, own);
                self.not(*negated);
                self.word("BETWEEN");
                self.tree(low, 4);
                self.word("AND");
                self.tree(high, 4);
            }
            Tree::In(name, texts, negated) => {
                self.token(name);
                self.not(*negated);
                self.word("IN");
                for (index, text) in texts.iter().enumerate() {
                    self.token(if index == 0 { "(" } else { "," });
                    self.string(text);
                }
                self.token(")");
            }
            Tree::Test(operand, test, literal, negated) => {
                self.tree(operand, own);
                self.not(*negated);
                self.word(test);
                self.string(literal);
            }
        }
    }

    fn prefixed(&mut self, prefix: &str, operand: &Tree) {
        self.word(prefix);
        self.tree(operand, 4);
    }
}

fn any_text() -> impl Strategy<Value = &'static str> {
    (0..POOL.len()).prop_map(|index| POOL[index].0)
}

fn any_property() -> impl Strategy<Value = Tree> {
    select(&NAMES[..]).prop_map(Tree::Property)
}

/// What can be greater or less than something.
fn orderable(condition: BoxedStrategy<Tree>) -> impl Strategy<Value = Tree> {
    let long = prop_oneof![0i64..9, Just(i64::MAX)].prop_map(Tree::Long);
    let double = select(&DOUBLES[..]).prop_map(|(text, value)| Tree::Double(text, value));
    let number = prop_oneof![long, double].boxed();
    let negative = number.clone().prop_map(|number| Tree::Minus(number.into()));
    let positive = number.clone().prop_map(|number| Tree::Plus(number.into()));
    let odd = condition.prop_map(|condition| Tree::Minus(condition.into()));
    prop_oneof![4 => any_property(), 3 => number, 2 => negative, 1 => positive, 1 => odd]
}

fn comparisons(condition: BoxedStrategy<Tree>) -> BoxedStrategy<Tree> {
    let ordered = orderable(condition.clone()).boxed();
    let value = prop_oneof![
        3 => ordered.clone(),
        2 => any_text().prop_map(Tree::Text),
        1 => any::<bool>().prop_map(Tree::Truth),
        1 => condition.prop_filter("nothing equals NULL", |tree| !tree.is_the_null()),
    ]
    .boxed();
    let equality = (value.clone(), select(&["=", "<>"][..]), value.clone());
    let equality = equality.prop_map(|(left, operator, right)| {
        let is_truth = |tree: &Tree| tree.constant().map(|c| matches!(c, Value::Truth(_)));
        let refused = is_truth(&left).zip(is_truth(&right)).is_some_and(|(l, r)| l != r);
        let right = if refused { Tree::Property("a") } else { right };
        Tree::Binary(left.into(), operator, right.into())
    });
    let order = (ordered.clone(), select(&["<", "<=", ">", ">="][..]), ordered.clone());
    let order =
        order.prop_map(|(left, operator, right)| Tree::Binary(left.into(), operator, right.into()));
    let between = (ordered.clone(), ordered.clone(), ordered, any::<bool>());
    let between = between.prop_map(|(value, low, high, negated)| {
        let ordering = low.constant().zip(high.constant()).and_then(|(l, h)| compare(&l, &h));
        let swapped = ordering == Some(Ordering::Greater) && !negated;
        let (low, high) = if swapped { (high, low) } else { (low, high) };
        Tree::Between(value.into(), low.into(), high.into(), negated)
    });
    let tests = select(&["CONTAINS", "STARTSWITH", "ENDSWITH"][..]);
    let literal = select(&["", "5", "2.", " ", "true", "'s"][..]);
    let test = (value.clone(), tests, literal, any::<bool>());
    let test = test
        .prop_map(|(operand, test, text, negated)| Tree::Test(operand.into(), test, text, negated));
    let list = (select(&NAMES[..]), vec(any_text(), 1..4), any::<bool>());
    let list = list.prop_map(|(name, texts, negated)| Tree::In(name, texts, negated));
    let is_null = (value, any::<bool>());
    let is_null = is_null.prop_map(|(operand, negated)| Tree::IsNull(operand.into(), negated));
    prop_oneof![4 => equality, 3 => order, 2 => between, 2 => test, 2 => list, 1 => is_null].boxed()
}

fn any_condition() -> impl Strategy<Value = Tree> {
    let alone =
        prop_oneof![any::<bool>().prop_map(Tree::Truth), Just(Tree::Null), any_property()].boxed();
    let leaf = prop_oneof![1 => alone.clone(), 9 => comparisons(alone)];
    leaf.prop_recursive(4, 24, 2, |inner| {
        let joined = (inner.clone(), select(&["AND", "OR"][..]), inner.clone());
        let joined = joined
            .prop_map(|(left, operator, right)| Tree::Binary(left.into(), operator, right.into()));
        let not = inner.clone().prop_map(|operand| Tree::Not(operand.into()));
        let plus = inner.clone().prop_map(|operand| Tree::Plus(operand.into()));
        prop_oneof![6 => joined, 2 => not, 1 => plus, 3 => comparisons(inner.boxed())]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_expression_means_what_the_reference_says(
        tree in any_condition(),
        messages in vec(proptest::array::uniform4(proptest::option::weighted(0.8, any_text())), 4),
        style in vec(any::<u8>(), 1..64),
    ) {
        let mut printer = Printer { text: String::new(), style, at: 0 };
        printer.tree(&tree, 0);
        let parsed = SqlFilter::parse(&printer.text);
        prop_assert!(parsed.is_ok(), "{}: {:?}", printer.text, parsed);
        let filter = parsed.unwrap();
        for message in messages {
            let property = |name: &str| message[NAMES.iter().position(|n| *n == name).unwrap()];
            let expected = tree.truth(&message).map(|truth| match truth {
                Some(true) => Truth::True,
                Some(false) => Truth::False,
                None => Truth::Null,
            });
            let got = filter.evaluate(&property).map_err(|_| ());
            prop_assert_eq!(got, expected, "{} on {:?}", printer.text, message);
        }
    }

    #[test]
    fn no_text_makes_the_parser_or_the_evaluator_panic(text in "(?s).{0,80}") {
        never_panics(&text)?;
    }

    #[test]
    fn no_sequence_of_tokens_makes_the_parser_or_the_evaluator_panic(
        tokens in vec(select(&TOKENS[..]), 0..24),
        blank in any::<bool>(),
    ) {
        never_panics(&tokens.join(if blank { " " } else { "" }))?;
    }
}

const TOKENS: [&str; 40] = [
    "a",
    "b",
    "x",
    "5",
    "0",
    "2.5",
    "1e3",
    ".",
    "'t'",
    "'",
    "''",
    "TRUE",
    "FALSE",
    "NULL",
    "NOT",
    "AND",
    "OR",
    "IS",
    "IN",
    "BETWEEN",
    "CONTAINS",
    "STARTSWITH",
    "ENDSWITH",
    "=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "(",
    ")",
    ",",
    "+",
    "-",
    "--",
    "/*",
    "*/",
    "\n",
    "!",
    "\u{fc}",
];

fn never_panics(text: &str) -> Result<(), TestCaseError> {
    match SqlFilter::parse(text) {
        Ok(filter) => {
            for value in [None, Some("5"), Some("x")] {
                let _ = filter.evaluate(&|_| value);
            }
        }
        Err(FilterError::Sql { position, message }) => {
            prop_assert!((1..=text.chars().count() + 1).contains(&position));
            prop_assert!(!message.is_empty());
        }
        Err(error) => prop_assert!(false, "{error}"),
    }
    Ok(())
}
