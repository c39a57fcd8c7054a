//! The filter language as tables, one per rule of protocol section 6.2: an expression and what it says about one message.
//! `reference` holds a second, naive evaluator against which generated expressions are compared.

mod reference;

use super::{EvaluationError, SqlFilter, Truth};
use crate::limits::{FILTER_EXPRESSION_BYTES_MAX, FILTER_SQL_LEVELS_MAX, FILTER_SQL_OPERATORS_MAX};
use crate::{Filter, FilterError};

/// The properties of the message that all tables are about. `x` and `y` are missing.
const PROPERTIES: [(&str, &str); 22] = [
    ("a", "5"),
    ("b", "7"),
    ("c", "-3"),
    ("d", "2.5"),
    ("s", "abc"),
    ("r", "abd"),
    ("t", "true"),
    ("T", "TRUE"),
    ("f", "false"),
    ("e", ""),
    ("q", "it's"),
    ("big", "3000000000"),
    ("huge", "9223372036854775808"),
    ("pad", " 5 "),
    ("plus", "+5"),
    ("java", "2.5d"),
    ("inf", "Infinity"),
    ("nan", "NaN"),
    ("zero", "-0.0"),
    ("TAGS", "paid"),
    ("KEYS", "o-1 o-2"),
    ("_$9", "odd"),
];

fn property(name: &str) -> Option<&'static str> {
    PROPERTIES.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// What an expression is expected to give.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    Yes,
    No,
    Null,
    /// An error when it is evaluated.
    Fails,
    /// An error when it is parsed, at this character.
    Wrong(usize),
}
use Expected::{Fails, No, Null, Wrong, Yes};

fn outcome(expression: &str) -> Expected {
    let filter = match Filter::parse_sql(expression) {
        Ok(filter) => filter,
        Err(FilterError::Sql { position, .. }) => return Wrong(position),
        Err(error) => panic!("{error}"),
    };
    let sql = filter.as_sql().unwrap();
    assert!(filter.matches(0), "the coarse check lets everything pass");
    let outcome = match sql.evaluate(&property) {
        Ok(Truth::True) => Yes,
        Ok(Truth::False) => No,
        Ok(Truth::Null) => Null,
        Err(EvaluationError) => Fails,
    };
    assert_eq!(sql.matches(&property), outcome == Yes, "{expression}");
    outcome
}

fn check(rows: &[(&str, Expected)]) {
    for (expression, expected) in rows {
        assert_eq!(outcome(expression), *expected, "{expression}");
    }
}

#[test]
fn equality_of_texts_is_exact() {
    check(&[
        ("s = 'abc'", Yes),
        ("s = 'ABC'", No),
        ("s = 'abc '", No),
        ("s <> 'abc'", No),
        ("s <> 'abd'", Yes),
        ("'abc' = s", Yes),
        ("'abc' <> s", No),
        ("s = r", No),
        ("s = s", Yes),
        ("s <> r", Yes),
        ("e = ''", Yes),
        ("a = '5'", Yes),
        ("a = '5.0'", No),
        ("pad = '5'", No),
        ("TAGS = 'paid'", Yes),
        ("KEYS = 'o-1 o-2'", Yes),
        ("'x' = 'x'", Yes),
        ("'x' = 'y'", No),
    ]);
}

#[test]
fn equality_of_numbers_reads_text_as_the_type_of_the_number() {
    check(&[
        ("a = 5", Yes),
        ("a = 6", No),
        ("a <> 6", Yes),
        ("5 = a", Yes),
        ("6 <> a", Yes),
        ("a = 5.0", Yes),
        ("a = 5L", Yes),
        ("d = 2.5", Yes),
        ("d = 2", No),
        ("d <> 2", Yes),
        ("c = -3", Yes),
        ("c = - 3", Yes),
        ("plus = 5", Yes),
        ("plus = +5", Yes),
        ("pad = 5", No),
        ("pad = 5.0", Yes),
        ("java = 2.5", Yes),
        ("java = 2", No),
        ("big = 3000000000", Yes),
        ("huge = 9223372036854775807", No),
        ("huge = 9223372036854775808.0", Yes),
        ("s = 5", No),
        ("s <> 5", Yes),
        ("e = 0", No),
        ("5 = s", No),
        ("5 <> s", Yes),
        ("1 = 1", Yes),
        ("1 = 1.0", Yes),
        ("1 = 2", No),
        ("'1' = 1", Yes),
        ("'x' = 1", No),
        ("zero = 0.0", No),
        ("zero = -0.0", Yes),
    ]);
}

#[test]
fn truth_compares_with_the_text_true_in_any_case() {
    check(&[
        ("t = TRUE", Yes),
        ("T = TRUE", Yes),
        ("t = FALSE", No),
        ("t <> FALSE", Yes),
        ("f = FALSE", Yes),
        ("f = TRUE", No),
        ("f <> TRUE", Yes),
        ("TRUE = t", Yes),
        ("FALSE = t", No),
        ("s = TRUE", No),
        ("s = FALSE", Yes),
        ("e = FALSE", Yes),
        ("x = TRUE", Null),
        ("TRUE = TRUE", Yes),
        ("TRUE = FALSE", No),
        ("TRUE <> FALSE", Yes),
    ]);
}

#[test]
fn order_needs_numbers() {
    check(&[
        ("a > 4", Yes),
        ("a > 5", No),
        ("a >= 5", Yes),
        ("a < 5", No),
        ("a <= 5", Yes),
        ("a < 6", Yes),
        ("4 < a", Yes),
        ("5 >= a", Yes),
        ("a > 4.9", Yes),
        ("d > 2.4", Yes),
        ("d < 2.5", No),
        ("c < 0", Yes),
        ("c > -4", Yes),
        ("c <= -3", Yes),
        ("big > 2147483647", Yes),
        ("inf > 1.7E308", Yes),
        ("nan > 1.0", Yes),
        ("zero < 0.0", Yes),
        ("3 > 2", Yes),
        ("3 > 3.5", No),
        ("d > 2", Fails),
        ("s > 2", Fails),
        ("2 < s", Fails),
        ("e > 0", Fails),
        ("pad > 4", Fails),
        ("huge > 0", Fails),
        ("huge > 0.0", Yes),
        ("inf > 0", Fails),
        ("s <= 2.0", Fails),
    ]);
}

#[test]
fn the_order_of_two_properties_is_that_of_doubles() {
    check(&[
        ("a < b", Yes),
        ("b < a", No),
        ("a >= d", Yes),
        ("a > c", Yes),
        ("big > a", Yes),
        ("pad <= a", Yes),
        ("pad >= a", Yes),
        ("java <= d", Yes),
        ("nan >= inf", Yes),
        ("nan <= nan", Yes),
        ("s > r", Fails),
        ("a > s", Fails),
        ("s > a", Fails),
        ("a < x", Null),
        ("x < a", Null),
        ("s > x", Null),
        ("x > s", Null),
        ("x >= y", Null),
    ]);
}

#[test]
fn a_missing_property_makes_a_comparison_null() {
    check(&[
        ("x = 5", Null),
        ("x <> 5", Null),
        ("x = 'a'", Null),
        ("x <> 'a'", Null),
        ("x > 5", Null),
        ("5 > x", Null),
        ("x = s", Null),
        ("s = x", Null),
        ("s <> x", Null),
        ("x = y", Null),
        ("x <> y", Null),
        ("NOT (x = 5)", Null),
        ("A = 5", Null),
    ]);
}

#[test]
fn a_constant_on_the_left_differs_from_a_missing_property() {
    check(&[
        ("5 = x", No),
        ("5 <> x", Yes),
        ("'a' = x", No),
        ("'a' <> x", Yes),
        ("TRUE = x", No),
        ("TRUE <> x", Yes),
        ("-5 <> x", Yes),
        ("(5) <> x", Yes),
        ("NOT (5 = x)", Yes),
    ]);
}

#[test]
fn is_null_is_never_null() {
    check(&[
        ("x IS NULL", Yes),
        ("x IS NOT NULL", No),
        ("a IS NULL", No),
        ("a IS NOT NULL", Yes),
        ("e IS NULL", No),
        ("(x = 5) IS NULL", Yes),
        ("(a = 5) IS NULL", No),
        ("x = 5 IS NULL", Yes),
        ("NULL IS NULL", Yes),
        ("NULL IS NOT NULL", No),
        ("5 IS NULL", No),
        ("'a' IS NOT NULL", Yes),
        ("x IS NULL IS NULL", No),
        ("(s > 5) IS NULL", Fails),
    ]);
}

#[test]
fn null_true_and_false_combine_as_in_sql() {
    check(&[
        ("TRUE AND TRUE", Yes),
        ("TRUE AND FALSE", No),
        ("TRUE AND NULL", Null),
        ("FALSE AND TRUE", No),
        ("FALSE AND FALSE", No),
        ("FALSE AND NULL", No),
        ("NULL AND TRUE", Null),
        ("NULL AND FALSE", No),
        ("NULL AND NULL", Null),
        ("TRUE OR TRUE", Yes),
        ("TRUE OR FALSE", Yes),
        ("TRUE OR NULL", Yes),
        ("FALSE OR TRUE", Yes),
        ("FALSE OR FALSE", No),
        ("FALSE OR NULL", Null),
        ("NULL OR TRUE", Yes),
        ("NULL OR FALSE", Null),
        ("NULL OR NULL", Null),
        ("NOT TRUE", No),
        ("NOT FALSE", Yes),
        ("NOT NULL", Null),
        ("NULL AND TRUE AND FALSE", No),
        ("NULL OR FALSE OR TRUE", Yes),
        ("x = 1 AND a = 5", Null),
        ("x = 1 OR a = 5", Yes),
    ]);
}

#[test]
fn an_error_ends_the_evaluation_unless_the_left_side_decided() {
    check(&[
        ("a = 6 AND s > 1", No),
        ("a = 5 AND s > 1", Fails),
        ("x = 5 AND s > 1", Fails),
        ("s > 1 AND a = 6", Fails),
        ("a = 5 OR s > 1", Yes),
        ("a = 6 OR s > 1", Fails),
        ("s > 1 OR a = 5", Fails),
        ("s > 1 OR s > 1 OR TRUE", Fails),
        ("NOT (s > 1)", Fails),
        ("(s > 1) = TRUE", Fails),
        ("x = (s > 1)", Fails),
    ]);
}

#[test]
fn and_binds_closer_than_or_and_comparisons_closer_than_equality() {
    check(&[
        ("TRUE OR TRUE AND FALSE", Yes),
        ("(TRUE OR TRUE) AND FALSE", No),
        ("FALSE AND FALSE OR TRUE", Yes),
        ("a > 4 = TRUE", Yes),
        ("TRUE = a > 4", Yes),
        ("FALSE = a > 4", No),
        ("a = 5 = TRUE", Yes),
        ("a = 5 = t", Yes),
        ("a = 5 <> f", Yes),
        ("a = 5 = 5", No),
        ("NOT a = 5", No),
        ("NOT (a = 5)", No),
        ("NOT (a = 6)", Yes),
        ("NOT NOT (a = 5)", Yes),
        ("NOT TRUE = FALSE", Yes),
        ("NOT TRUE OR TRUE", Yes),
    ]);
}

#[test]
fn between_includes_its_bounds() {
    check(&[
        ("a BETWEEN 5 AND 7", Yes),
        ("a BETWEEN 3 AND 5", Yes),
        ("a BETWEEN 6 AND 7", No),
        ("a BETWEEN 1 AND 4", No),
        ("a BETWEEN 5 AND 5", Yes),
        ("a NOT BETWEEN 5 AND 7", No),
        ("a NOT BETWEEN 6 AND 7", Yes),
        ("a NOT BETWEEN 7 AND 6", Yes),
        ("d BETWEEN 2.4 AND 2.6", Yes),
        ("c BETWEEN -5 AND -1", Yes),
        ("6 BETWEEN a AND b", Yes),
        ("8 BETWEEN a AND b", No),
        ("a BETWEEN c AND b", Yes),
        ("a BETWEEN b AND c", No),
        ("x BETWEEN 1 AND 2", Null),
        ("x NOT BETWEEN 1 AND 2", Null),
        ("a BETWEEN x AND 7", Null),
        ("a BETWEEN x AND 4", No),
        ("a BETWEEN 6 AND x", No),
        ("a BETWEEN 4 AND x", Null),
        ("a NOT BETWEEN x AND 4", Yes),
        ("a NOT BETWEEN x AND 7", Null),
        ("s BETWEEN 1 AND 2", Fails),
        ("a BETWEEN 6 AND s", No),
        ("a BETWEEN 4 AND s", Fails),
        ("a BETWEEN 4 AND 6 AND b = 7", Yes),
        ("a BETWEEN 4 AND 6 AND b = 8", No),
        ("a BETWEEN 7 AND 6", Wrong(11)),
        ("a BETWEEN 7.5 AND 7", Wrong(11)),
        ("a BETWEEN -1 AND -2", Wrong(11)),
        ("a BETWEEN 'a' AND 'b'", Wrong(11)),
        ("a BETWEEN 1 AND NULL", Wrong(17)),
        ("a BETWEEN TRUE AND 1", Wrong(11)),
        ("'a' BETWEEN 1 AND 2", Wrong(1)),
        ("a = 5 AND NOT b BETWEEN 1 AND 2", Wrong(11)),
        ("a BETWEEN 1", Wrong(12)),
        ("a BETWEEN 1 OR 2", Wrong(13)),
        ("a BETWEEN AND 2", Wrong(11)),
        ("a and between 2 and 10", Wrong(7)),
    ]);
}

#[test]
fn in_takes_texts_and_a_property() {
    check(&[
        ("s IN ('abc')", Yes),
        ("s IN ('x', 'abc', 'y')", Yes),
        ("s IN ('x', 'y')", No),
        ("s IN ('ABC')", No),
        ("s NOT IN ('x', 'y')", Yes),
        ("s NOT IN ('abc', 'abc')", No),
        ("a IN ('5')", Yes),
        ("e IN ('')", Yes),
        ("q IN ('it''s')", Yes),
        ("(s) IN ('abc')", Yes),
        ("x IN ('a')", Null),
        ("x NOT IN ('a')", Null),
        ("NOT (x IN ('a'))", Null),
        ("a IN (5)", Wrong(7)),
        ("s IN ()", Wrong(7)),
        ("s IN ('a',)", Wrong(11)),
        ("s IN ('a' 'b')", Wrong(11)),
        ("s IN ('a'", Wrong(10)),
        ("s IN 'a'", Wrong(6)),
        ("s IN (x)", Wrong(7)),
        ("'abc' IN ('abc')", Wrong(1)),
        ("5 IN ('5')", Wrong(1)),
        ("NOT s IN ('x')", Wrong(1)),
        ("(a = 5) IN ('x')", Wrong(1)),
    ]);
}

#[test]
fn text_tests_are_never_null() {
    check(&[
        ("s CONTAINS 'b'", Yes),
        ("s CONTAINS 'abc'", Yes),
        ("s CONTAINS 'B'", No),
        ("s NOT CONTAINS 'b'", No),
        ("s NOT CONTAINS 'x'", Yes),
        ("s STARTSWITH 'ab'", Yes),
        ("s STARTSWITH 'b'", No),
        ("s NOT STARTSWITH 'b'", Yes),
        ("s ENDSWITH 'bc'", Yes),
        ("s ENDSWITH 'b'", No),
        ("s NOT ENDSWITH 'b'", Yes),
        ("s CONTAINS ''", No),
        ("s NOT CONTAINS ''", No),
        ("s STARTSWITH ''", No),
        ("s NOT ENDSWITH ''", No),
        ("x CONTAINS 'b'", No),
        ("x NOT CONTAINS 'b'", No),
        ("x NOT STARTSWITH 'b'", No),
        ("x NOT ENDSWITH 'b'", No),
        ("5 CONTAINS '5'", No),
        ("5 NOT CONTAINS '6'", No),
        ("(a = 5) NOT CONTAINS 'x'", No),
        ("'abc' CONTAINS 'b'", Yes),
        ("a CONTAINS '5'", Yes),
        ("(s > 1) CONTAINS 'x'", Fails),
        ("(s > 1) CONTAINS ''", No),
        ("NOT (s CONTAINS 'x')", Yes),
        ("s CONTAINS b", Wrong(12)),
        ("s CONTAINS 5", Wrong(12)),
        ("s NOT = 5", Wrong(7)),
        ("s NOT", Wrong(6)),
    ]);
}

#[test]
fn operands_that_can_never_be_compared_are_refused() {
    check(&[
        ("a > 'x'", Wrong(5)),
        ("'x' < a", Wrong(1)),
        ("a >= TRUE", Wrong(6)),
        ("a <= NULL", Wrong(6)),
        ("NULL > a", Wrong(1)),
        ("a > (b = 7)", Wrong(5)),
        ("(a = 5) > 1", Wrong(1)),
        ("NOT a > 5", Wrong(1)),
        ("a > 1 < 3", Wrong(1)),
        ("a > ('x')", Wrong(5)),
        ("a = NULL", Wrong(5)),
        ("NULL = a", Wrong(1)),
        ("a <> NULL", Wrong(6)),
        ("a = (NULL)", Wrong(5)),
        ("a = +NULL", Wrong(5)),
        ("TRUE = 1", Wrong(8)),
        ("1 = TRUE", Wrong(5)),
        ("'true' = TRUE", Wrong(10)),
        ("FALSE <> 'x'", Wrong(10)),
        ("TRUE = -1", Wrong(8)),
    ]);
}

#[test]
fn the_whole_must_be_a_condition() {
    check(&[
        ("t", Yes),
        ("T", Yes),
        ("f", No),
        ("s", No),
        ("x", Null),
        ("NOT t", No),
        ("NOT f", Yes),
        ("NOT x", Null),
        ("t AND T", Yes),
        ("t AND f", No),
        ("(t)", Yes),
        ("+t", Yes),
        ("TRUE", Yes),
        ("FALSE", No),
        ("NULL", Null),
        ("5", Wrong(1)),
        ("'true'", Wrong(1)),
        ("-t", Wrong(1)),
        ("-5", Wrong(1)),
        ("a = 5 AND 5", Wrong(11)),
        ("'x' OR a = 5", Wrong(1)),
        ("NOT 5", Wrong(5)),
        ("NOT 'x'", Wrong(5)),
        ("a = 5 OR -a", Wrong(10)),
    ]);
}

#[test]
fn only_numbers_have_a_sign() {
    check(&[
        ("c = -3", Yes),
        ("c = -(3)", Yes),
        ("a = - -5", Yes),
        ("a = --5", Yes),
        ("a = +-+-5", Yes),
        ("-a = -5", Null),
        ("-5 = -a", No),
        ("a > -b", Null),
        ("-(-a) = 5", Null),
        ("-'x' = 5", Null),
        ("-TRUE = t", Null),
        ("(-(s > 1)) = 5", Fails),
        ("s = +'abc'", Yes),
        ("a > +'x'", Wrong(5)),
    ]);
}

#[test]
fn numbers_have_the_forms_of_java() {
    check(&[
        ("0 = 0", Yes),
        ("a = 5l", Yes),
        ("0L = 0", Yes),
        ("a = 5.", Yes),
        ("d = 2.5", Yes),
        (".5 = 0.5", Yes),
        ("a = 5E0", Yes),
        ("a = 0.5e1", Yes),
        ("a = 50E-1", Yes),
        ("a = 5.E+0", Yes),
        ("a = .5E1", Yes),
        ("a = 05.0", Yes),
        ("0.0 = 0", Yes),
        ("a < 9223372036854775807", Yes),
        ("a > -9223372036854775807", Yes),
        ("a = 5AND b = 7", Yes),
        ("a < 9223372036854775808", Wrong(5)),
        ("a < 1E309", Wrong(5)),
        ("a > 1E-400", Wrong(5)),
        ("a = 05", Wrong(5)),
        ("a = 5x", Wrong(6)),
        ("a = 5.5L", Wrong(8)),
        ("a = 5E", Wrong(6)),
        ("a = 0x10", Wrong(6)),
        ("a = 1_000", Wrong(6)),
        ("a = .", Wrong(5)),
        ("a = 1..5", Wrong(7)),
    ]);
}

#[test]
fn strings_double_their_quotes() {
    check(&[
        ("q = 'it''s'", Yes),
        ("'''' = ''''", Yes),
        ("'''a''' <> ''", Yes),
        ("s = 'a' 'bc'", Wrong(9)),
        ("'two\nlines' = 'two\nlines'", Yes),
        ("'-- no /* comment' = s", No),
        ("'\u{fc}' = '\u{fc}'", Yes),
        ("s = 'abc", Wrong(5)),
        ("s = '", Wrong(5)),
        ("s = 'it''s", Wrong(5)),
        ("q = 'it's'", Wrong(9)),
        ("s = \"abc\"", Wrong(5)),
    ]);
}

#[test]
fn keywords_have_any_case_and_names_their_own() {
    check(&[
        ("a between 4 and 6", Yes),
        ("a Not Between 4 And 6", No),
        ("x is null Or x iS nOt nUlL", Yes),
        ("s contains 'b' and s startswith 'a' and s endswith 'c'", Yes),
        ("s in ('abc') and not false and true", Yes),
        ("t = true", Yes),
        ("T = tRuE", Yes),
        ("tags = 'paid'", Null),
        ("_$9 = 'odd'", Yes),
        ("nota IS NULL", Yes),
        ("IS_ IS NULL", Yes),
        ("and = 5", Wrong(1)),
        ("contains = 5", Wrong(1)),
        ("a = Between", Wrong(5)),
        ("9a = 5", Wrong(2)),
        ("a.b = 5", Wrong(2)),
        ("a-b = 5", Wrong(2)),
        ("\u{fc} = 5", Wrong(1)),
        ("'\u{fc}' = s \u{fc}", Wrong(9)),
    ]);
}

#[test]
fn gaps_are_blanks_lines_and_comments() {
    check(&[
        ("  a  =  5  ", Yes),
        ("a\n=\t5\r\n\x0c", Yes),
        ("a=5and b=7", Yes),
        ("(a=5)and(b=7)", Yes),
        ("s='abc'and b=7", Yes),
        ("a = 5 -- five\n", Yes),
        ("a = 5 -- five\r AND b = 8", No),
        ("-- five\na = 5", Yes),
        ("a /* the */ = /**/ 5 /* five * / ** */", Yes),
        ("/* -- */ a = 5", Yes),
        ("a = 5 -- /*\nAND b = 8 -- */\n", No),
        ("a = 5 -- five", Wrong(7)),
        ("a = 5 /* five", Wrong(7)),
        ("a = 5 /*/", Wrong(7)),
        ("a\u{b}= 5", Wrong(2)),
        ("a\u{a0}= 5", Wrong(2)),
        ("a > = 5", Wrong(5)),
        ("a < > 5", Wrong(5)),
    ]);
}

#[test]
fn what_is_no_expression_is_refused_where_it_begins() {
    check(&[
        ("", Wrong(1)),
        ("   ", Wrong(4)),
        ("/* nothing */", Wrong(14)),
        ("a =", Wrong(4)),
        ("a = ", Wrong(5)),
        ("= 5", Wrong(1)),
        ("a = 5 AND", Wrong(10)),
        ("a = 5 AND OR b = 7", Wrong(11)),
        ("a = 5 b = 7", Wrong(7)),
        ("(a = 5", Wrong(7)),
        ("(a = 5 b)", Wrong(8)),
        ("a = 5)", Wrong(6)),
        ("()", Wrong(2)),
        ("a == 5", Wrong(4)),
        ("a != 5", Wrong(3)),
        ("!t", Wrong(1)),
        ("t && f", Wrong(3)),
        ("t || f", Wrong(3)),
        ("a + 1 = 6", Wrong(3)),
        ("s LIKE 'a%'", Wrong(3)),
        ("a IS 5", Wrong(6)),
        ("a IS NOT 5", Wrong(10)),
        ("a = 5;", Wrong(6)),
        ("abs(a) = 5", Wrong(4)),
        ("a = ?", Wrong(5)),
        ("a, b", Wrong(2)),
    ]);
}

#[test]
fn an_error_says_where_and_what_to_do() {
    let text = |expression: &str| Filter::parse_sql(expression).unwrap_err().to_string();
    assert_eq!(text("(a = 5 AND b"), "the SQL filter is wrong at character 13: expected ')'");
    for (expression, part) in [
        ("", "expected a condition such as a = 1"),
        ("a != 5", "write '<>'"),
        ("s = \"abc\"", "single quotes"),
        ("a = NULL", "IS NULL"),
        ("s LIKE 'a'", "CONTAINS"),
        ("NOT a > 5", "parentheses"),
        ("NOT s IN ('a')", "parentheses"),
        ("a BETWEEN 2 AND 1", "swap"),
        ("a = 5 -- five", "end with a new line"),
        ("a = 5 +", "arithmetic"),
        ("a = 05", "leading zeros"),
        ("a = 5 b", "AND, OR or the end"),
    ] {
        assert!(text(expression).contains(part), "{expression}: {}", text(expression));
    }
}

#[test]
fn the_document_for_users_says_what_the_parser_does() {
    let document = include_str!("../../../../../docs/filters.md");
    let wrong: Vec<_> =
        document.lines().filter(|line| line.contains("the SQL filter is")).collect();
    for row in &wrong {
        let [_, expression, answer, _] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let error = Filter::parse_sql(expression.trim().trim_matches('`')).unwrap_err();
        assert_eq!(error.to_string(), answer.trim());
    }
    let examples = document.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    let parsed: Vec<_> = examples.lines().map(|line| Filter::parse_sql(line).unwrap()).collect();
    assert_eq!((wrong.len(), parsed.len()), (6, 3));
}

#[test]
fn the_position_counts_characters_and_not_bytes() {
    assert_eq!(outcome("s = '\u{1f980}\u{fc}' AND"), Wrong(13));
}

#[test]
fn an_expression_over_the_limit_of_bytes_is_refused() {
    let fits = format!("s = '{}'", "x".repeat(FILTER_EXPRESSION_BYTES_MAX - 6));
    assert_eq!(outcome(&fits), No);
    let error = Filter::parse_sql(&format!("{fits} ")).unwrap_err();
    assert_eq!(error, FilterError::TooLong("4097 bytes, at most 4096".to_owned()));
}

#[test]
fn nesting_is_limited_on_every_path() {
    let nested = |before: &str, middle: &str, after: &str, times: usize| {
        outcome(&format!("{}{middle}{}", before.repeat(times), after.repeat(times)))
    };
    let max = FILTER_SQL_LEVELS_MAX;
    assert_eq!(nested("(", "t", ")", max), Yes);
    assert_eq!(nested("(", "t", ")", max + 1), Wrong(max + 1));
    assert_eq!(nested("(", "t", ")", 2000), Wrong(max + 1));
    assert_eq!(nested("(", "", "", 4000), Wrong(max + 1));
    assert_eq!(nested("NOT ", "t", "", max - 2), Yes);
    assert_eq!(nested("NOT ", "t", "", 1000), Wrong(4 * max + 1));
    assert_eq!(nested("-", "5 = a", "", max), Yes);
    assert_eq!(nested("+", "5 = a", "", 4000), Wrong(max + 1));
    assert_eq!(nested("x = (", "t", ")", 600), Wrong(5 * (max + 1)));
    assert_eq!(nested("", "t", " = t", max - 1), Yes);
    assert_eq!(nested("", "t", " = t", max), Wrong(4 * max - 1));
    assert_eq!(nested("", "x", " IS NULL", 300), Wrong(8 * max - 5));
    assert_eq!(nested("", "x", " CONTAINS 'x'", 200), Wrong(13 * max - 10));
    // Would take 2^31 steps if every BETWEEN evaluated its value twice.
    assert_eq!(nested("-(", "a BETWEEN 1 AND 2", ") BETWEEN 1 AND 2", 31), Null);
}

#[test]
fn operators_are_limited_but_a_chain_is_not_deep() {
    let max = FILTER_SQL_OPERATORS_MAX;
    let chain = |conditions: usize| vec!["t"; conditions].join(" OR ");
    assert_eq!(outcome(&chain(max + 1)), Yes);
    assert_eq!(outcome(&chain(max + 2)), Wrong(5 * max + 3));
    let list = format!("s IN ('abc'{})", ", 'x'".repeat(800));
    assert_eq!(outcome(&list), Yes);
}

#[test]
fn the_deepest_expression_needs_little_stack() {
    let expressions = [
        format!("{}t{}", "(f OR t AND t = (".repeat(32), "))".repeat(32)),
        format!("{}t", "NOT ".repeat(FILTER_SQL_LEVELS_MAX - 2)),
        "(".repeat(FILTER_EXPRESSION_BYTES_MAX),
    ];
    let run = move || expressions.each_ref().map(|expression| outcome(expression));
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(run).unwrap();
    assert_eq!(thread.join().unwrap()[1..], [Yes, Wrong(FILTER_SQL_LEVELS_MAX + 1)]);
}

#[test]
fn a_filter_is_its_text() {
    let parse = |text: &str| Filter::parse_sql(text).unwrap();
    assert_eq!(parse("a = 1"), parse("a = 1"));
    assert_ne!(parse("a = 1"), parse("a  = 1"));
    assert_ne!(parse("a = 1"), Filter::All);
    let filter = parse(" b = a OR a > 1 AND b IN ('x')");
    let sql = filter.as_sql().unwrap();
    assert_eq!(sql.text(), " b = a OR a > 1 AND b IN ('x')");
    assert_eq!(sql.property_names().collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(format!("{sql:?}"), "SqlFilter(\" b = a OR a > 1 AND b IN ('x')\")");
    assert_eq!(Filter::All.as_sql(), None);
    assert_eq!(Filter::parse_tags("a").unwrap().as_sql(), None);
}

#[test]
fn properties_may_be_borrowed_from_a_message() {
    let message = [(String::from("a"), String::from("5"))];
    let property = |name: &str| message.iter().find(|p| p.0 == name).map(|p| p.1.as_str());
    assert!(SqlFilter::parse("a = 5").unwrap().matches(&property));
}
