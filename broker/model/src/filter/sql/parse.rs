//! From the text of an SQL filter to its compiled tree: the grammar of protocol section 6.2 as one function per level,
//! and the rules about operands that hold at compile time. Words and numbers live in `token`, meaning does not.
//! Invariant: neither the recursion here nor the tree is deeper than `FILTER_SQL_LEVELS_MAX`.

mod token;

use winnow::combinator::{alt, not, opt, preceded, separated};
use winnow::error::ErrMode;
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location as _, Stateful};

use super::{Constant, Name, Node, OrderOperator, TextTest};
use crate::FilterError;
use crate::limits::{FILTER_SQL_LEVELS_MAX, FILTER_SQL_OPERATORS_MAX};
use token::{
    Input, Parsed, Wrong, expected, expected_operator_or, expected_value, gap, keyword, name,
    number, string, symbol, wrong,
};

/// What is collected and counted while parsing.
#[derive(Debug, Default)]
struct State {
    names: Vec<Box<str>>,
    operators: usize,
    /// Parentheses, signs and NOTs whose end is not reached.
    open: usize,
}

/// A part of the expression: its node, the byte where it begins, and how high its tree is.
#[derive(Debug)]
struct Operand {
    node: Node,
    start: usize,
    levels: usize,
}

#[derive(Debug, Clone, Copy)]
enum Prefix {
    Plus,
    Minus,
    Not,
    Parenthesis,
}

#[derive(Debug, Clone, Copy)]
enum EqualityOperator {
    Equal,
    NotEqual,
    Is,
}

/// What can stand behind a value and, but for the order, after NOT.
#[derive(Debug, Clone, Copy)]
enum Test {
    Between,
    In,
    Text(TextTest),
}

/// Compiles an expression into a condition and the names that it uses.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Box<str>>), FilterError> {
    let mut input = Stateful { input: LocatingSlice::new(text), state: State::default() };
    let error = match whole(&mut input) {
        Ok(root) => return Ok((root, input.state.names)),
        Err(ErrMode::Backtrack(error) | ErrMode::Cut(error)) => error,
        // Never: only input that is declared partial is incomplete.
        Err(ErrMode::Incomplete(_)) => Wrong { at: text.len(), message: "expected more".into() },
    };
    let before = text.char_indices().take_while(|(index, _)| *index < error.at).count();
    Err(FilterError::Sql {
        position: before.saturating_add(1),
        message: error.message.into_owned(),
    })
}

fn whole(input: &mut Input<'_>) -> Parsed<Node> {
    gap(input)?;
    if input.input.is_empty() {
        return Err(expected(input, "a condition such as a = 1"));
    }
    let root = or(input)?;
    if !input.input.is_empty() {
        return Err(expected_operator_or(input, "an operator, AND, OR or the end"));
    }
    Ok(condition(root)?.node)
}

fn or(input: &mut Input<'_>) -> Parsed<Operand> {
    chain(input, and, "OR", Node::Or)
}

fn and(input: &mut Input<'_>) -> Parsed<Operand> {
    chain(input, equality, "AND", Node::And)
}

/// Conditions joined by a word. They become one node, so that a long chain is not a deep tree.
fn chain(
    input: &mut Input<'_>,
    part: fn(&mut Input<'_>) -> Parsed<Operand>,
    word: &'static str,
    build: fn(Vec<Node>) -> Node,
) -> Parsed<Operand> {
    let mut operand = part(input)?;
    let mut parts = Vec::new();
    let (start, mut highest, mut levels) = (operand.start, 0, 0);
    loop {
        let at = input.current_token_start();
        let goes_on = opt(keyword(word)).parse_next(input)?.is_some();
        if !goes_on && parts.is_empty() {
            return Ok(operand);
        }
        let Operand { node, levels: height, .. } = condition(operand)?;
        parts.push(node);
        highest = highest.max(height);
        if !goes_on {
            return Ok(Operand { node: build(parts), start, levels });
        }
        operand = part(input)?;
        levels = counted(input, at, highest.max(operand.levels))?;
    }
}

fn equality(input: &mut Input<'_>) -> Parsed<Operand> {
    let mut left = comparison(input)?;
    loop {
        let at = input.current_token_start();
        left = match opt(equality_operator).parse_next(input)? {
            None => return Ok(left),
            Some(EqualityOperator::Equal) => equal(input, at, left, false)?,
            Some(EqualityOperator::NotEqual) => equal(input, at, left, true)?,
            Some(EqualityOperator::Is) => is_null(input, at, left)?,
        };
    }
}

fn equality_operator(input: &mut Input<'_>) -> Parsed<EqualityOperator> {
    alt((
        symbol("=").value(EqualityOperator::Equal),
        symbol("<>").value(EqualityOperator::NotEqual),
        keyword("IS").value(EqualityOperator::Is),
    ))
    .parse_next(input)
}

fn equal(input: &mut Input<'_>, at: usize, left: Operand, negated: bool) -> Parsed<Operand> {
    not_the_null(&left)?;
    let right = comparison(input)?;
    not_the_null(&right)?;
    if let (Node::Constant(one), Node::Constant(other)) = (&left.node, &right.node) {
        let is_truth = |constant: &Constant| matches!(constant, Constant::Truth(_));
        if is_truth(one) != is_truth(other) {
            let message = "TRUE and FALSE can be compared with properties and conditions only";
            return Err(wrong(right.start, message));
        }
    }
    let levels = counted(input, at, left.levels.max(right.levels))?;
    let node = Node::Equal { left: left.node.into(), right: right.node.into(), negated };
    Ok(Operand { node, start: left.start, levels })
}

fn not_the_null(operand: &Operand) -> Parsed<()> {
    if matches!(operand.node, Node::Constant(Constant::Null)) {
        return Err(wrong(operand.start, "nothing equals NULL; write IS NULL or IS NOT NULL"));
    }
    Ok(())
}

fn is_null(input: &mut Input<'_>, at: usize, left: Operand) -> Parsed<Operand> {
    let negated = opt(keyword("NOT")).parse_next(input)?.is_some();
    if opt(keyword("NULL")).parse_next(input)?.is_none() {
        return Err(expected(input, if negated { "NULL" } else { "NULL or NOT NULL" }));
    }
    let levels = counted(input, at, left.levels)?;
    let node = Node::IsNull { operand: left.node.into(), negated };
    Ok(Operand { node, start: left.start, levels })
}

fn comparison(input: &mut Input<'_>) -> Parsed<Operand> {
    let mut left = unary(input)?;
    loop {
        let at = input.current_token_start();
        if let Some(operator) = opt(order_operator).parse_next(input)? {
            left = order(input, at, left, operator)?;
            continue;
        }
        let negated = opt(keyword("NOT")).parse_next(input)?.is_some();
        left = match opt(test).parse_next(input)? {
            Some(Test::Between) => between(input, at, left, negated)?,
            Some(Test::In) => in_list(input, at, left, negated)?,
            Some(Test::Text(test)) => text_test(input, at, left, test, negated)?,
            None if negated => {
                return Err(expected(input, "BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH"));
            }
            None => return Ok(left),
        };
    }
}

fn order_operator(input: &mut Input<'_>) -> Parsed<OrderOperator> {
    alt((
        symbol(">=").value(OrderOperator::GreaterOrEqual),
        symbol(">").value(OrderOperator::Greater),
        symbol("<=").value(OrderOperator::LessOrEqual),
        preceded(not("<>"), symbol("<")).value(OrderOperator::Less),
    ))
    .parse_next(input)
}

fn test(input: &mut Input<'_>) -> Parsed<Test> {
    alt((
        keyword("BETWEEN").value(Test::Between),
        keyword("IN").value(Test::In),
        keyword("CONTAINS").value(Test::Text(TextTest::Contains)),
        keyword("STARTSWITH").value(Test::Text(TextTest::StartsWith)),
        keyword("ENDSWITH").value(Test::Text(TextTest::EndsWith)),
    ))
    .parse_next(input)
}

fn order(
    input: &mut Input<'_>,
    at: usize,
    left: Operand,
    operator: OrderOperator,
) -> Parsed<Operand> {
    orderable(&left)?;
    let right = unary(input)?;
    orderable(&right)?;
    let levels = counted(input, at, left.levels.max(right.levels))?;
    let node = Node::Order { operator, left: left.node.into(), right: right.node.into() };
    Ok(Operand { node, start: left.start, levels })
}

fn between(input: &mut Input<'_>, at: usize, value: Operand, negated: bool) -> Parsed<Operand> {
    orderable(&value)?;
    let low = unary(input)?;
    orderable(&low)?;
    if opt(keyword("AND")).parse_next(input)?.is_none() {
        return Err(expected(input, "AND with the upper bound"));
    }
    let high = unary(input)?;
    orderable(&high)?;
    // Apache's broker lets the negated form pass.
    if let (false, Node::Constant(Constant::Number(lower)), Node::Constant(Constant::Number(upper))) =
        (negated, &low.node, &high.node)
        && lower.compare(*upper).is_gt()
    {
        return Err(wrong(low.start, "the lower bound is above the upper one; swap them"));
    }
    let levels = counted(input, at, value.levels.max(low.levels).max(high.levels))?;
    let (start, value) = (value.start, value.node.into());
    let node = Node::Between { value, low: low.node.into(), high: high.node.into(), negated };
    Ok(Operand { node, start, levels })
}

/// Only properties and numbers can be greater or less than something.
fn orderable(operand: &Operand) -> Parsed<()> {
    let message = match &operand.node {
        Node::Constant(Constant::Number(_)) | Node::Property(_) | Node::Negate(_) => return Ok(()),
        Node::Constant(Constant::Text(_)) => {
            "a string cannot be ordered; write a number, or use '=' or '<>'"
        }
        Node::Constant(Constant::Truth(_)) => "TRUE and FALSE cannot be ordered; use '=' or '<>'",
        Node::Constant(Constant::Null) => "NULL cannot be ordered; use IS NULL or IS NOT NULL",
        Node::Not(_) => "a condition cannot be ordered; put what follows NOT in parentheses",
        _ => "a condition cannot be ordered; only properties and numbers can",
    };
    Err(wrong(operand.start, message))
}

fn in_list(input: &mut Input<'_>, at: usize, left: Operand, negated: bool) -> Parsed<Operand> {
    let property = match left.node {
        Node::Property(name) => name,
        Node::Not(_) => {
            let message = "IN needs a property before it; put what follows NOT in parentheses";
            return Err(wrong(left.start, message));
        }
        _ => return Err(wrong(left.start, "IN needs a property before it")),
    };
    required_symbol(input, "(", "'(' and strings in single quotes")?;
    let mut texts: Vec<Box<str>> =
        separated(1.., required_string.map(String::into_boxed_str), symbol(","))
            .parse_next(input)?;
    required_symbol(input, ")", "',' or ')'")?;
    texts.sort_unstable();
    texts.dedup();
    let levels = counted(input, at, left.levels)?;
    Ok(Operand { node: Node::In { property, texts, negated }, start: left.start, levels })
}

fn text_test(
    input: &mut Input<'_>,
    at: usize,
    left: Operand,
    test: TextTest,
    negated: bool,
) -> Parsed<Operand> {
    let literal = required_string(input)?.into_boxed_str();
    let levels = counted(input, at, left.levels)?;
    let node = Node::Text { test, operand: left.node.into(), literal, negated };
    Ok(Operand { node, start: left.start, levels })
}

fn required_string(input: &mut Input<'_>) -> Parsed<String> {
    let found = opt(string).parse_next(input)?;
    found.ok_or_else(|| expected(input, "a string in single quotes"))
}

fn required_symbol(input: &mut Input<'_>, text: &'static str, what: &str) -> Parsed<()> {
    let found = opt(symbol(text)).parse_next(input)?;
    found.ok_or_else(|| expected(input, what))
}

fn unary(input: &mut Input<'_>) -> Parsed<Operand> {
    let start = input.current_token_start();
    let Some(prefix) = opt(prefix).parse_next(input)? else { return primary(input) };
    input.state.open = input.state.open.saturating_add(1);
    if input.state.open > FILTER_SQL_LEVELS_MAX {
        return Err(too_high(start));
    }
    let operand = match prefix {
        Prefix::Plus => Operand { start, ..unary(input)? },
        Prefix::Minus => negation(input, start)?,
        Prefix::Not => {
            let operand = condition(unary(input)?)?;
            let levels = counted(input, start, operand.levels)?;
            Operand { node: Node::Not(operand.node.into()), start, levels }
        }
        Prefix::Parenthesis => {
            let operand = or(input)?;
            if opt(symbol(")")).parse_next(input)?.is_none() {
                return Err(expected_operator_or(input, "')'"));
            }
            Operand { start, ..operand }
        }
    };
    input.state.open = input.state.open.saturating_sub(1);
    Ok(operand)
}

fn prefix(input: &mut Input<'_>) -> Parsed<Prefix> {
    alt((
        symbol("+").value(Prefix::Plus),
        symbol("-").value(Prefix::Minus),
        keyword("NOT").value(Prefix::Not),
        symbol("(").value(Prefix::Parenthesis),
    ))
    .parse_next(input)
}

fn negation(input: &mut Input<'_>, start: usize) -> Parsed<Operand> {
    let operand = unary(input)?;
    if let Node::Constant(Constant::Number(number)) = operand.node {
        let node = Node::Constant(Constant::Number(number.negated()));
        return Ok(Operand { node, start, ..operand });
    }
    let levels = counted(input, start, operand.levels)?;
    Ok(Operand { node: Node::Negate(operand.node.into()), start, levels })
}

fn primary(input: &mut Input<'_>) -> Parsed<Operand> {
    let start = input.current_token_start();
    let node = match opt(constant).parse_next(input)? {
        Some(constant) => Node::Constant(constant),
        None => match opt(name).parse_next(input)? {
            Some(name) => Node::Property(known(name, &mut input.state.names)),
            None => return Err(expected_value(input)),
        },
    };
    Ok(Operand { node, start, levels: 1 })
}

fn constant(input: &mut Input<'_>) -> Parsed<Constant> {
    alt((
        number.map(Constant::Number),
        string.map(|text| Constant::Text(text.into())),
        keyword("TRUE").map(|()| Constant::Truth(true)),
        keyword("FALSE").map(|()| Constant::Truth(false)),
        keyword("NULL").map(|()| Constant::Null),
    ))
    .parse_next(input)
}

/// The place of a name among those that are used; each is kept once.
fn known(name: &str, names: &mut Vec<Box<str>>) -> Name {
    let place = names.iter().position(|other| **other == *name);
    Name(place.unwrap_or_else(|| {
        let place = names.len();
        names.push(name.into());
        place
    }))
}

/// The operand where a condition is needed; a property alone is cast to one.
fn condition(operand: Operand) -> Parsed<Operand> {
    match operand.node {
        Node::Property(name) => Ok(Operand { node: Node::Cast(name), ..operand }),
        Node::Constant(Constant::Number(_) | Constant::Text(_)) | Node::Negate(_) => {
            let message = "a value alone is no condition; compare it with something";
            Err(wrong(operand.start, message))
        }
        _ => Ok(operand),
    }
}

/// Counts the operator at this byte, whose highest operand has so many levels, and gives its own levels.
fn counted(input: &mut Input<'_>, at: usize, highest: usize) -> Parsed<usize> {
    input.state.operators = input.state.operators.saturating_add(1);
    if input.state.operators > FILTER_SQL_OPERATORS_MAX {
        let message = format!(
            "more than {FILTER_SQL_OPERATORS_MAX} operators; ask for many texts of one property with IN"
        );
        return Err(wrong(at, message));
    }
    if highest >= FILTER_SQL_LEVELS_MAX {
        return Err(too_high(at));
    }
    Ok(highest.saturating_add(1))
}

fn too_high(at: usize) -> ErrMode<Wrong> {
    wrong(at, format!("more than {FILTER_SQL_LEVELS_MAX} levels inside each other; nest less"))
}
