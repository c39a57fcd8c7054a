//! Any text as an SQL filter. Up to the first NUL it is the expression; what follows, split at NULs, are the values of the
//! properties that the expression names, where an empty one is missing. What compiles is evaluated, and its opposite
//! must say the opposite.

#![no_main]

use broker_model::{Filter, FilterError, SqlFilter, Truth};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (expression, values) = text.split_once('\0').unwrap_or((text, ""));
    let filter = match Filter::parse_sql(expression) {
        Ok(filter) => filter,
        Err(error) => return judge(expression, &error),
    };
    let sql = filter.as_sql().expect("made from SQL");
    assert_eq!(sql.text(), expression);
    assert_eq!(Filter::parse_sql(expression).as_ref(), Ok(&filter));

    let properties: Vec<(&str, &str)> = sql.property_names().zip(values.split('\0')).collect();
    let property = |name: &str| {
        let (_, value) = properties.iter().find(|(known, _)| *known == name)?;
        Some(*value).filter(|value| !value.is_empty())
    };
    let result = sql.evaluate(&property);
    assert_eq!(sql.matches(&property), result == Ok(Truth::True));

    // Limits can be crossed by one more operator, nothing else can be wrong with it.
    match Filter::parse_sql(&format!("NOT ({expression})")) {
        Ok(opposite) => assert_eq!(opposed(&opposite).evaluate(&property), result.map(opposite_of)),
        Err(FilterError::TooLong(_)) => {}
        Err(error) => assert!(error.to_string().contains("more than"), "{error}: {expression:?}"),
    }
});

fn opposed(filter: &Filter) -> &SqlFilter {
    filter.as_sql().expect("made from SQL")
}

fn opposite_of(truth: Truth) -> Truth {
    match truth {
        Truth::True => Truth::False,
        Truth::False => Truth::True,
        Truth::Null => Truth::Null,
    }
}

fn judge(expression: &str, error: &FilterError) {
    match error {
        FilterError::Sql { position, message } => {
            let characters = expression.chars().count();
            assert!((1..=characters + 1).contains(position), "{error}: {expression:?}");
            assert!(!message.is_empty());
        }
        FilterError::TooLong(_) => {}
        FilterError::NoTags(_) => panic!("{error}: {expression:?}"),
    }
}
