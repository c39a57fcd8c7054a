//! What is said of the room on volumes. Pure. The numbers themselves stand in the brokers' metrics: here they would move
//! with every message.

use broker_proto::admin::BrokerStatus;
use operator_api::condition::{Finding, Truth};

use crate::links::BrokerReport;

/// Condition: volumes have room.
pub const HEALTHY: &str = "StorageHealthy";
/// A volume with less than one part in so many free is nearly full.
const FREE_PART_MIN: u64 = 10;
const HOUR_MS: u64 = 3_600_000;
/// Hours at which the age of a message is said anew; from a day on it is said in days.
const HOURS_SAID: [u64; 4] = [1, 3, 6, 12];

/// How full the volume of a broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fill {
    /// It has room.
    Room,
    /// Less than a tenth is free.
    Little,
    /// Some shard refuses sends.
    Refuses,
}

/// How full the volume of a broker is, by its own word.
#[must_use]
pub fn fill(status: &BrokerStatus) -> Fill {
    if status.shards.iter().any(|shard| shard.refuses_sends) {
        return Fill::Refuses;
    }
    let little = status.disk_total_bytes / FREE_PART_MIN;
    if status.disk_free_bytes < little { Fill::Little } else { Fill::Room }
}

/// Brokers that were heard, with their words.
fn heard(reports: &[BrokerReport]) -> impl Iterator<Item = (u32, &BrokerStatus)> {
    reports.iter().filter_map(|report| Some((report.broker, report.status.as_ref()?)))
}

/// Whether no shard of any broker takes a send.
#[must_use]
pub fn refuses_all_sends(reports: &[BrokerReport]) -> bool {
    let mut shards = heard(reports).flat_map(|(_, status)| &status.shards).peekable();
    shards.peek().is_some() && shards.all(|shard| shard.refuses_sends)
}

/// The condition; none when no broker was heard.
#[must_use]
pub fn finding(reports: &[BrokerReport], now_ms: u64) -> Option<Finding> {
    let worst = heard(reports).map(|(_, status)| fill(status)).max()?;
    let named: Vec<_> = heard(reports).filter(|(_, status)| fill(status) == worst).collect();
    let brokers: Vec<String> = named.iter().map(|(broker, _)| broker.to_string()).collect();
    let brokers = brokers.join(", ");
    let (status, reason, room) = match worst {
        Fill::Room => {
            (Truth::True, "HasRoom", "a tenth or more of every volume is free".to_owned())
        }
        Fill::Little => (
            Truth::False,
            "NearlyFull",
            format!(
                "less than a tenth of the volume of broker {brokers} is free; raise spec.storage.size, or set retention"
            ),
        ),
        Fill::Refuses => (
            Truth::False,
            "SendsRefused",
            format!(
                "the volume of broker {brokers} has no room: sends are refused there, receives go on; raise \
                 spec.storage.size, or set a shorter retention"
            ),
        ),
    };
    let shards = named.iter().flat_map(|(_, status)| &status.shards);
    let oldest_ms = shards.map(|shard| shard.oldest_message_ms).filter(|ms| *ms > 0).min();
    let age = oldest_ms.and_then(|oldest_ms| stepped_age(now_ms.saturating_sub(oldest_ms)));
    let oldest = age.map_or_else(String::new, |age| format!("; oldest message kept: {age}"));
    Some(Finding { type_: HEALTHY, status, reason, message: room + &oldest })
}

/// An age in words, in steps so large that few statuses are written for it; none below the first of them.
fn stepped_age(ms: u64) -> Option<String> {
    let hours = ms / HOUR_MS;
    match hours / 24 {
        0 => {
            let said = HOURS_SAID.into_iter().rev().find(|step| *step <= hours)?;
            Some(format!("{said}h"))
        }
        days => Some(format!("{days}d")),
    }
}

#[cfg(test)]
mod tests;
