//! From the text of a file to values. The only place that knows which library reads YAML.

use std::path::Path;

use serde::Deserialize as _;
use serde_yaml::Value;

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

impl Format {
    /// By the end of the file's name; YAML when it says nothing.
    pub(super) fn of(file: &str) -> Self {
        let ending = Path::new(file).extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| ending.eq_ignore_ascii_case("json")) {
            Self::Json
        } else {
            Self::Yaml
        }
    }
}

/// The documents of a text. After an error there is no further one.
pub(super) fn documents<'a>(
    format: Format,
    text: &'a str,
) -> Box<dyn Iterator<Item = Result<Value, String>> + 'a> {
    // Editors on Windows put a byte order mark in front; it is no part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Yaml => Box::new(serde_yaml::Deserializer::from_str(text).map(|document| {
            let mut value =
                Value::deserialize(document).map_err(|e| format!("no legal YAML: {e}"))?;
            value.apply_merge().map_err(|error| format!("no legal YAML: {error}"))?;
            Ok(value)
        })),
        Format::Json => {
            let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
            Box::new(values.map(|value| value.map_err(|error| format!("no legal JSON: {error}"))))
        }
    }
}
