//! Who the client says it is: the metadata headers of every call (protocol section 4.1).

use std::time::{SystemTime, UNIX_EPOCH};

use tonic::Status;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;

use super::message_id::random;

/// The headers that stay the same for the life of a client.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    client_id: String,
    header: AsciiMetadataValue,
}

impl Identity {
    /// `host@pid@random@base36time`, unique per client.
    pub(super) fn new() -> Self {
        let host = host_name();
        let time = base36(now_ms());
        let client_id = format!("{host}@{}@{:x}@{time}", std::process::id(), random() >> 40);
        let header = AsciiMetadataValue::try_from(client_id.as_str())
            .unwrap_or_else(|_| AsciiMetadataValue::from_static("pinnace"));
        Self { client_id, header }
    }

    /// The value of `x-mq-client-id`.
    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }
}

impl Interceptor for Identity {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        let headers = request.metadata_mut();
        headers.insert("x-mq-client-id", self.header.clone());
        headers.insert("x-mq-language", AsciiMetadataValue::from_static("RUST"));
        headers.insert("x-mq-protocol", AsciiMetadataValue::from_static("v2"));
        headers.insert(
            "x-mq-client-version",
            AsciiMetadataValue::from_static(env!("CARGO_PKG_VERSION")),
        );
        headers.insert("x-mq-namespace", AsciiMetadataValue::from_static(""));
        for (name, text) in
            [("x-mq-date-time", date_time(now_ms() / 1000)), ("x-mq-request-id", request_id())]
        {
            if let Ok(value) = AsciiMetadataValue::try_from(text) {
                headers.insert(name, value);
            }
        }
        Ok(request)
    }
}

/// The host's name, cut to what fits into a header.
pub(crate) fn host_name() -> String {
    let name = hostname::get().unwrap_or_default().to_string_lossy().into_owned();
    let legal = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name: String = name.chars().filter(legal).take(64).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    while number > 0 {
        digits.push(char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize]));
        number /= 36;
    }
    digits.iter().rev().collect()
}

/// A version 4 UUID.
fn request_id() -> String {
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

/// `yyyyMMddTHHmmssZ` in UTC of a Unix time in seconds.
fn date_time(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / 86_400);
    let rest = seconds % 86_400;
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of a day number counted from 1970-01-01; the year is taken to begin in March, so that the leap
/// day is its last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days_and_year_ends() {
        let cases = [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_735_689_599, "20241231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(date_time(seconds), text);
        }
    }

    #[test]
    fn two_clients_have_two_ids() {
        assert_ne!(Identity::new().client_id(), Identity::new().client_id());
        assert_eq!(base36(35 + 36), "1z");
    }
}
