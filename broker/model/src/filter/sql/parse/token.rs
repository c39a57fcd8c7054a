//! The words of the SQL filter language: gaps, names, symbols, numbers, strings, and what to say when one is wrong.
//! Knows no grammar. Every token takes the gap behind it, so that the input always stands where a token begins and an
//! error has its place.

use std::borrow::Cow;

use winnow::ascii::{Caseless, digit0, digit1};
use winnow::combinator::{alt, delimited, opt, repeat, terminated};
use winnow::error::{ErrMode, ParserError};
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location as _, Stateful};
use winnow::token::{one_of, take_till, take_until, take_while};

use super::super::Number;
use super::State;

pub(super) type Input<'s> = Stateful<LocatingSlice<&'s str>, State>;
pub(super) type Parsed<T> = ModalResult<T, Wrong>;

/// What is wrong, and the byte where.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) at: usize,
    pub(super) message: Cow<'static, str>,
}

/// What other languages have where an operator or the end has to be.
const OPERATOR_HINTS: [(&str, &str); 12] = [
    ("!=", "write '<>' for \"not equal\""),
    ("&&", "write AND"),
    ("||", "write OR"),
    ("LIKE", "there is no LIKE; use CONTAINS, STARTSWITH or ENDSWITH"),
    ("\"", "write strings in single quotes"),
    ("--", "a comment that begins with '--' must end with a new line"),
    ("+", "there is no arithmetic"),
    ("-", "there is no arithmetic"),
    ("*", "there is no arithmetic"),
    ("/", "there is no arithmetic"),
    ("%", "there is no arithmetic"),
    (")", "there is no '(' for this ')'"),
];

/// The same where a value has to be.
const VALUE_HINTS: [(&str, &str); 6] = [
    ("!", "write NOT"),
    ("\"", "write strings in single quotes"),
    ("`", "write property names without quotes"),
    ("=", "expected a value; the operators are =, <>, <, <=, > and >="),
    ("<", "expected a value; the operators are =, <>, <, <=, > and >="),
    (">", "expected a value; the operators are =, <>, <, <=, > and >="),
];

/// Words that are no names.
const KEYWORDS: [&str; 12] = [
    "AND",
    "BETWEEN",
    "CONTAINS",
    "ENDSWITH",
    "FALSE",
    "IN",
    "IS",
    "NOT",
    "NULL",
    "OR",
    "STARTSWITH",
    "TRUE",
];

impl ParserError<Input<'_>> for Wrong {
    type Inner = Self;

    fn from_input(input: &Input<'_>) -> Self {
        Self { at: input.current_token_start(), message: Cow::Borrowed("not expected here") }
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// An error that ends the parsing.
pub(super) fn wrong(at: usize, message: impl Into<Cow<'static, str>>) -> ErrMode<Wrong> {
    ErrMode::Cut(Wrong { at, message: message.into() })
}

/// The error that something else is needed where the input stands.
pub(super) fn expected(input: &Input<'_>, what: &str) -> ErrMode<Wrong> {
    wrong(input.current_token_start(), format!("expected {what}"))
}

/// As [`expected`], where a value is needed.
pub(super) fn expected_value(input: &Input<'_>) -> ErrMode<Wrong> {
    let what = "a property, a string in single quotes, a number, TRUE, FALSE or '('";
    hint(input, &VALUE_HINTS).unwrap_or_else(|| expected(input, what))
}

/// As [`expected`], where an operator is possible.
pub(super) fn expected_operator_or(input: &Input<'_>, what: &str) -> ErrMode<Wrong> {
    hint(input, &OPERATOR_HINTS).unwrap_or_else(|| expected(input, what))
}

fn hint(input: &Input<'_>, hints: &[(&str, &'static str)]) -> Option<ErrMode<Wrong>> {
    let rest = *input.input;
    let begins = |word: &str| rest.get(..word.len()).is_some_and(|r| r.eq_ignore_ascii_case(word));
    let (_, hint) = hints.iter().find(|(word, _)| begins(word))?;
    Some(wrong(input.current_token_start(), *hint))
}

/// White space and comments. A `--` whose line does not end is no comment but two signs.
pub(super) fn gap(input: &mut Input<'_>) -> Parsed<()> {
    let blanks = take_while(1.., [' ', '\t', '\n', '\r', '\x0c']).void();
    let line_end = one_of(['\n', '\r']);
    let line = ("--", take_till(0.., ['\n', '\r']), line_end).void();
    repeat(0.., alt((blanks, line, block_comment))).parse_next(input)
}

fn block_comment(input: &mut Input<'_>) -> Parsed<()> {
    let start = input.current_token_start();
    "/*".parse_next(input)?;
    let end: Parsed<_> = (take_until(0.., "*/"), "*/").void().parse_next(input);
    end.map_err(|_| wrong(start, "the comment is not closed; add '*/'"))
}

/// A symbol, without looking at what follows it.
pub(super) fn symbol(text: &'static str) -> impl FnMut(&mut Input<'_>) -> Parsed<()> {
    move |input| terminated(text, gap).void().parse_next(input)
}

fn word<'s>(input: &mut Input<'s>) -> Parsed<&'s str> {
    let first = one_of(('a'..='z', 'A'..='Z', '_', '$'));
    let others = take_while(0.., ('a'..='z', 'A'..='Z', '0'..='9', '_', '$'));
    (first, others).take().parse_next(input)
}

/// A keyword, in any letter case.
pub(super) fn keyword(text: &'static str) -> impl FnMut(&mut Input<'_>) -> Parsed<()> {
    let is_it = |word: &&str| word.eq_ignore_ascii_case(text);
    move |input| terminated(word.verify(is_it), gap).void().parse_next(input)
}

/// The name of a property, as it is written.
pub(super) fn name<'s>(input: &mut Input<'s>) -> Parsed<&'s str> {
    let is_free = |word: &&str| !KEYWORDS.iter().any(|k| k.eq_ignore_ascii_case(word));
    terminated(word.verify(is_free), gap).parse_next(input)
}

/// A string, without its quotes and with doubled ones made single.
pub(super) fn string(input: &mut Input<'_>) -> Parsed<String> {
    let start = input.current_token_start();
    "'".parse_next(input)?;
    let part = alt((take_till(1.., '\''), "''".value("'")));
    let join = |mut text: String, part: &str| {
        text.push_str(part);
        text
    };
    let text = repeat(0.., part).fold(String::new, join).parse_next(input)?;
    let end: Parsed<_> = terminated("'", gap).parse_next(input);
    match end {
        Ok(_) => Ok(text),
        Err(ErrMode::Backtrack(_)) => {
            Err(wrong(start, "the string is not closed; add a single quote"))
        }
        Err(error) => Err(error),
    }
}

/// A number without sign.
pub(super) fn number(input: &mut Input<'_>) -> Parsed<Number> {
    terminated(alt((double, long)), gap).parse_next(input)
}

fn exponent(input: &mut Input<'_>) -> Parsed<()> {
    (Caseless("e"), opt(one_of(['+', '-'])), digit1).void().parse_next(input)
}

fn double(input: &mut Input<'_>) -> Parsed<Number> {
    let start = input.current_token_start();
    let text = alt((
        (digit1, '.', digit0, opt(exponent)).take(),
        ('.', digit1, opt(exponent)).take(),
        (digit1, exponent).take(),
    ))
    .parse_next(input)?;
    let value: f64 = text.parse().map_err(|_| wrong(start, "the number cannot be read"))?;
    if value.is_infinite() {
        return Err(wrong(start, format!("the number is too large; at most {:e}", f64::MAX)));
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    if value == 0.0 && mantissa.contains(|c: char| matches!(c, '1'..='9')) {
        return Err(wrong(start, "the number is too close to zero; write 0.0"));
    }
    Ok(Number::Double(value))
}

fn long(input: &mut Input<'_>) -> Parsed<Number> {
    let start = input.current_token_start();
    let text = delimited((), digit1, opt(one_of(['l', 'L']))).parse_next(input)?;
    if text.len() > 1 && text.starts_with('0') {
        return Err(wrong(start, "write the integer without leading zeros"));
    }
    let too_large = || wrong(start, format!("the number is too large; at most {}", i64::MAX));
    text.parse().map(Number::Long).map_err(|_| too_large())
}
