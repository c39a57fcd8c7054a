//! Members, assignments and lag of a group, merged from what each broker told and made readable. Pure. Numbers that move
//! all the time are rounded, because every step is a write to the Kubernetes API.

use std::collections::{BTreeMap, BTreeSet};

use broker_proto::admin;
use operator_api::consumer_group::{
    Assignment, ConsumerGroupStatus, GroupDisplay, Member, Members, TopicLag, Totals,
};
use operator_api::limits::{STATUS_ASSIGNMENTS_MAX, STATUS_MEMBERS_MAX, STATUS_TOPICS_MAX};

use crate::context::shorten;

/// Below this age the oldest unacknowledged message is no sign of falling behind.
pub const CAUGHT_UP_SECONDS_MAX: i64 = 10;

/// Two leading digits of a number of 100 or more.
fn rounded(number: u64) -> i64 {
    let mut scale = 1;
    while number / scale >= 100 {
        scale *= 10;
    }
    i64::try_from(number / scale * scale).unwrap_or(i64::MAX)
}

/// An age in seconds, in steps that grow with it: seconds to ten, then tens, minutes, ten minutes, hours.
fn stepped_seconds(ms: u64) -> i64 {
    let seconds = ms / 1000;
    let step = match seconds {
        0..10 => 1,
        10..60 => 10,
        60..600 => 60,
        600..3600 => 600,
        _ => 3600,
    };
    i64::try_from(seconds / step * step).unwrap_or(i64::MAX)
}

fn readable_count(number: i64) -> String {
    let steps = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    match steps.into_iter().find(|(size, _)| number >= *size) {
        None => number.to_string(),
        Some((size, unit)) if number / size >= 10 => format!("{}{unit}", number / size),
        Some((size, unit)) => format!("{}.{}{unit}", number / size, number % size * 10 / size),
    }
}

fn readable_seconds(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Numbers as ranges, like `0-3,7`.
fn ranges(numbers: &[u32]) -> String {
    let sorted: BTreeSet<u32> = numbers.iter().copied().collect();
    let mut spans: Vec<(u32, u32)> = Vec::new();
    for number in sorted {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => spans.push((number, number)),
        }
    }
    let text = |&(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    spans.iter().map(text).collect::<Vec<_>>().join(",")
}

fn members(parts: &[admin::GroupStatus]) -> Members {
    let mut by_id: BTreeMap<&str, &admin::Member> = BTreeMap::new();
    for member in parts.iter().flat_map(|part| &part.members) {
        by_id.entry(&member.client_id).or_insert(member);
    }
    let member = |member: &&admin::Member| Member {
        client_id: shorten(&member.client_id, 1024),
        client_type: shorten(&member.client_type, 64),
        language: shorten(&member.language, 64),
        version: shorten(&member.version, 64),
        remote_address: shorten(&member.remote_address, 128),
    };
    Members {
        count: u32::try_from(by_id.len()).unwrap_or(u32::MAX),
        clients: by_id.values().take(STATUS_MEMBERS_MAX).map(member).collect(),
    }
}

fn assignments(parts: &[admin::GroupStatus]) -> Vec<Assignment> {
    let assignment = |a: &admin::Assignment| Assignment {
        client_id: shorten(&a.client_id, 1024),
        topic: a.topic.clone(),
        shard: a.shard.clone(),
        queues: shorten(&ranges(&a.queue_ids), 4096),
        shared: a.shared,
    };
    let mut all: Vec<Assignment> =
        parts.iter().flat_map(|part| &part.assignments).map(assignment).collect();
    let key = |a: &Assignment| (a.client_id.clone(), a.topic.clone(), a.shard.clone());
    all.sort_by_key(key);
    all.dedup();
    all.truncate(STATUS_ASSIGNMENTS_MAX);
    all
}

fn topic_lags(parts: &[admin::GroupStatus]) -> Vec<admin::TopicLag> {
    let mut by_topic: BTreeMap<&str, admin::TopicLag> = BTreeMap::new();
    for lag in parts.iter().flat_map(|part| &part.topics) {
        let sum = by_topic.entry(&lag.topic).or_insert_with(|| admin::TopicLag {
            topic: lag.topic.clone(),
            ..admin::TopicLag::default()
        });
        sum.lag_messages = sum.lag_messages.saturating_add(lag.lag_messages);
        sum.inflight_messages = sum.inflight_messages.saturating_add(lag.inflight_messages);
        sum.ready_messages = sum.ready_messages.saturating_add(lag.ready_messages);
        sum.dead_letters = sum.dead_letters.saturating_add(lag.dead_letters);
        sum.lag_ms = sum.lag_ms.max(lag.lag_ms);
    }
    by_topic.into_values().collect()
}

/// Writes what brokers told of a group into its status.
pub fn fill(status: &mut ConsumerGroupStatus, parts: &[admin::GroupStatus]) {
    let lags = topic_lags(parts);
    let sum = |part: fn(&admin::TopicLag) -> u64| -> u64 {
        lags.iter().map(part).fold(0, u64::saturating_add)
    };
    let totals = Totals {
        lag: rounded(sum(|lag| lag.lag_messages)),
        lag_seconds: stepped_seconds(lags.iter().map(|lag| lag.lag_ms).max().unwrap_or_default()),
        dead_letters: rounded(sum(|lag| lag.dead_letters)),
    };
    status.display = Some(GroupDisplay {
        lag: readable_count(totals.lag),
        behind: readable_seconds(totals.lag_seconds),
    });
    status.totals = Some(totals);
    let topic_lag = |lag: &admin::TopicLag| TopicLag {
        topic: lag.topic.clone(),
        lag: rounded(lag.lag_messages),
        lag_seconds: stepped_seconds(lag.lag_ms),
        inflight: rounded(lag.inflight_messages),
        dead_letters: rounded(lag.dead_letters),
    };
    status.topics = lags.iter().take(STATUS_TOPICS_MAX).map(topic_lag).collect();
    status.members = Some(members(parts));
    status.assignments = assignments(parts);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(topic: &str, lag_messages: u64, lag_ms: u64) -> admin::TopicLag {
        admin::TopicLag { topic: topic.to_owned(), lag_messages, lag_ms, ..Default::default() }
    }

    fn member(client_id: &str) -> admin::Member {
        admin::Member { client_id: client_id.to_owned(), ..Default::default() }
    }

    #[test]
    fn numbers_are_rounded_so_that_they_stand_still() {
        let rounds: Vec<_> = [0, 99, 100, 1234, 98_765].map(rounded).into();
        assert_eq!(rounds, [0, 99, 100, 1200, 98_000]);
        let steps: Vec<_> =
            [999, 9_999, 42_000, 119_000, 3_599_000, 7_300_000].map(stepped_seconds).into();
        assert_eq!(steps, [0, 9, 40, 60, 3000, 7200]);
    }

    #[test]
    fn people_read_short_numbers() {
        let counts: Vec<_> = [7, 950, 1200, 88_000, 3_400_000].map(readable_count).into();
        assert_eq!(counts, ["7", "950", "1.2k", "88k", "3.4M"]);
        let ages: Vec<_> = [5, 60, 7200, 259_200].map(readable_seconds).into();
        assert_eq!(ages, ["5s", "1m", "2h", "3d"]);
        assert_eq!(ranges(&[3, 0, 1, 2, 7, 9, 8]), "0-3,7-9");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn parts_of_several_brokers_add_up_and_a_client_of_both_counts_once() {
        let parts = [
            admin::GroupStatus {
                members: vec![member("a"), member("b")],
                topics: vec![lag("orders", 10, 4_000)],
                ..Default::default()
            },
            admin::GroupStatus {
                members: vec![member("b")],
                topics: vec![lag("orders", 5, 70_000), lag("refunds", 1, 0)],
                ..Default::default()
            },
        ];
        let mut status = ConsumerGroupStatus::default();
        fill(&mut status, &parts);
        assert_eq!(status.members.as_ref().unwrap().count, 2);
        let lags: Vec<_> = status.topics.iter().map(|t| (t.lag, t.lag_seconds)).collect();
        assert_eq!(lags, [(15, 60), (1, 0)]);
        assert_eq!(status.totals.as_ref().unwrap().lag, 16);
        assert_eq!(status.display.as_ref().unwrap().behind, "1m");
    }
}
