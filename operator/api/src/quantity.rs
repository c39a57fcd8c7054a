//! Durations, points in time and sizes as people write them in manifests. Texts are kept as written; numbers come out on request.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::rules;

/// Longest text of a duration.
pub const DURATION_BYTES_MAX: usize = 32;
/// What a duration looks like, for schemas.
pub const DURATION_PATTERN: &str = "^([0-9]+(h|m|s|ms))+$";
/// Longest text of a point in time.
pub const TIME_BYTES_MAX: usize = 40;
/// What a point in time looks like, for schemas.
pub const TIME_PATTERN: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$";
/// Longest text of a size.
pub const SIZE_BYTES_MAX: usize = 20;
/// What a size looks like, for schemas.
pub const SIZE_PATTERN: &str = "^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$";

/// A text is no duration, no time or no size; the message says how to write one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// No duration.
    #[error(
        "{0:?} is no duration; write hours, minutes, seconds and milliseconds like 72h, 1h30m or 500ms (days are written in hours)"
    )]
    Duration(String),
    /// No point in time.
    #[error(
        "{0:?} is no point in time; write date, time and zone (RFC 3339) like 2026-01-31T08:00:00Z"
    )]
    Time(String),
    /// No size.
    #[error("{0:?} is no size; write whole bytes with a unit like 100Gi, 512Mi or 1000000")]
    Size(String),
}

/// A span of time: `72h`, `1h30m`, `500ms`. Days have no unit, because not all are equally long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationText(pub String);

impl DurationText {
    /// The span in milliseconds.
    ///
    /// # Errors
    /// [`QuantityError::Duration`] for any other text or a span beyond 64 bits.
    pub fn as_ms(&self) -> Result<u64, QuantityError> {
        let error = || QuantityError::Duration(self.0.clone());
        let mut rest = self.0.as_str();
        let mut total_ms = 0u64;
        if rest.is_empty() || rest.len() > DURATION_BYTES_MAX {
            return Err(error());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let (number, tail) = rest.split_at(digits);
            let (unit_ms, unit) = [(1, "ms"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
                .into_iter()
                .find(|(_, unit)| tail.starts_with(unit))
                .ok_or_else(error)?;
            let number: u64 = number.parse().map_err(|_| error())?;
            total_ms = number
                .checked_mul(unit_ms)
                .and_then(|ms| total_ms.checked_add(ms))
                .ok_or_else(error)?;
            rest = &tail[unit.len()..];
        }
        Ok(total_ms)
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": DURATION_BYTES_MAX, "pattern": DURATION_PATTERN, "x-kubernetes-validations": rules::cel(&rules::DURATION)})
    }
}

/// A point in time: `2026-01-31T08:00:00Z` (RFC 3339).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeText(pub String);

impl TimeText {
    /// Unix time in milliseconds.
    ///
    /// # Errors
    /// [`QuantityError::Time`] for any other text, and for times before 1970.
    pub fn as_unix_ms(&self) -> Result<u64, QuantityError> {
        let error = || QuantityError::Time(self.0.clone());
        let text = self.0.as_str();
        // The parser below also takes dates without a time and times without a zone; those would be guesses.
        let clock = text.split_once('T').map(|(_, clock)| clock).ok_or_else(error)?;
        let has_zone = clock.ends_with('Z') || clock.contains(['+', '-']);
        if !text.is_ascii() || text.len() > TIME_BYTES_MAX || !has_zone {
            return Err(error());
        }
        let time: prost_types::Timestamp = text.parse().map_err(|_| error())?;
        let seconds = u64::try_from(time.seconds).map_err(|_| error())?;
        let nanos = u64::try_from(time.nanos).map_err(|_| error())?;
        seconds.checked_mul(1000).and_then(|ms| ms.checked_add(nanos / 1_000_000)).ok_or_else(error)
    }
}

impl fmt::Display for TimeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for TimeText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": TIME_BYTES_MAX, "pattern": TIME_PATTERN, "x-kubernetes-validations": rules::cel(&rules::TIME)})
    }
}

/// A number of bytes: `100Gi`, `512Mi`, or a plain number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SizeText(pub String);

impl SizeText {
    /// The size in bytes.
    ///
    /// # Errors
    /// [`QuantityError::Size`] for any other text, and for sizes of nothing or beyond 63 bits.
    pub fn as_bytes(&self) -> Result<u64, QuantityError> {
        let error = || QuantityError::Size(self.0.clone());
        let digits = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (number, unit) = self.0.split_at(digits);
        let unit: u64 = match unit {
            "" => 1,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            _ => return Err(error()),
        };
        let number: u64 = number.parse().map_err(|_| error())?;
        let bytes = number.checked_mul(unit).ok_or_else(error)?;
        if bytes == 0 || bytes > i64::MAX as u64 { Err(error()) } else { Ok(bytes) }
    }
}

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Kubernetes lets people write whole numbers without quotes; they are the same text.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text like \"100Gi\" or a whole number")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }
    deserializer.deserialize_any(Visitor)
}

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_text(deserializer).map(Self)
    }
}

impl JsonSchema for SizeText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": SIZE_BYTES_MAX,
            "pattern": SIZE_PATTERN,
            "x-kubernetes-validations": rules::cel(&rules::SIZE),
        })
    }
}

/// An amount of a compute resource as Kubernetes writes it: `500m`, `2`, `1Gi`. Only Kubernetes reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ResourceText(pub String);

/// What an amount of a compute resource looks like, for schemas.
pub const RESOURCE_PATTERN: &str =
    "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi|[eE][+-]?[0-9]+)?$";

impl<'de> Deserialize<'de> for ResourceText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_text(deserializer).map(Self)
    }
}

impl JsonSchema for ResourceText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Resource".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "pattern": RESOURCE_PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Option<u64> {
        DurationText(text.to_owned()).as_ms().ok()
    }

    fn bytes(text: &str) -> Option<u64> {
        SizeText(text.to_owned()).as_bytes().ok()
    }

    #[test]
    fn durations_are_read_and_days_refused() {
        assert_eq!(ms("72h"), Some(72 * 3_600_000));
        assert_eq!(ms("1h30m5s250ms"), Some(5_405_250));
        for wrong in ["", "3d", "h", "5", "-1s", "1.5h", "99999999999999999h", "1h 2m"] {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_read_with_their_zone_and_never_guessed() {
        let unix_ms = |text: &str| TimeText(text.to_owned()).as_unix_ms().ok();
        assert_eq!(unix_ms("1970-01-01T00:00:01Z"), Some(1_000));
        assert_eq!(unix_ms("2026-01-31T09:00:00.250+01:00"), unix_ms("2026-01-31T08:00:00.25Z"));
        assert_eq!(unix_ms("2026-01-31T08:00:00Z"), Some(1_769_846_400_000));
        for wrong in [
            "",
            "now",
            "2026-01-31",
            "2026-01-31T08:00:00",
            "2026-13-31T08:00:00Z",
            "1969-12-31T00:00:00Z",
            "1769846400000",
        ] {
            assert_eq!(unix_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read_and_nothing_is_no_size() {
        assert_eq!(bytes("100Gi"), Some(100 << 30));
        assert_eq!(bytes("1000"), Some(1000));
        assert_eq!(bytes("2k"), Some(2000));
        for wrong in ["", "Gi", "1.5Gi", "0", "-1", "1 Gi", "9999999999Ti"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_size_may_be_a_number_in_yaml() {
        let sizes: Vec<SizeText> = serde_yaml::from_str("[1024, 1Ki]").unwrap();
        assert_eq!((sizes[0].as_bytes(), sizes[1].as_bytes()), (Ok(1024), Ok(1024)));
    }
}
