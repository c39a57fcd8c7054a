//! What is said of the age of messages.

use broker_proto::admin::ShardStatus;

use super::*;
use crate::broker_admin::{BrokerEndpoint, Connect as _, GrpcConnector};

const NOW_MS: u64 = 1_800_000_000_000;

/// A broker of which so much of 100 bytes is free, with shards whose oldest messages are so many hours old.
fn report(broker: u32, free: u64, hours: &[Option<u64>]) -> BrokerReport {
    let endpoint = BrokerEndpoint { broker, host: "localhost".to_owned(), port: 1 };
    let shard = |hours: &Option<u64>| ShardStatus {
        oldest_message_ms: hours.map_or(0, |hours| NOW_MS - hours * HOUR_MS),
        ..ShardStatus::default()
    };
    let status = BrokerStatus {
        shards: hours.iter().map(shard).collect(),
        disk_free_bytes: free,
        disk_total_bytes: 100,
        ..BrokerStatus::default()
    };
    let admin = GrpcConnector.connect(&endpoint).unwrap();
    BrokerReport {
        broker,
        admin,
        silence: None,
        map_version: 1,
        status: Some(status),
        empty_disks: Vec::new(),
    }
}

fn said(reports: &[BrokerReport]) -> String {
    finding(reports, NOW_MS).unwrap().message
}

#[tokio::test]
async fn the_oldest_message_of_the_brokers_that_are_meant_is_said() {
    let room = said(&[report(0, 50, &[Some(5), None]), report(1, 50, &[Some(76)])]);
    assert_eq!(room, "a tenth or more of every volume is free; oldest message kept: 3d");
    let little = said(&[report(0, 5, &[Some(13), Some(2)]), report(1, 50, &[Some(76)])]);
    assert!(little.starts_with("less than a tenth of the volume of broker 0"), "{little}");
    assert!(little.ends_with("; oldest message kept: 12h"), "{little}");
    for young in [None, Some(0)] {
        assert_eq!(said(&[report(0, 50, &[young])]), "a tenth or more of every volume is free");
    }
}

#[test]
fn an_age_is_said_in_steps_that_grow_with_it() {
    let said = |hours: u64| stepped_age(hours * HOUR_MS);
    let steps: std::collections::BTreeSet<_> = (0..24 * 30).map(said).collect();
    assert_eq!(steps.len(), 1 + HOURS_SAID.len() + 29);
    assert_eq!(stepped_age(HOUR_MS - 1), None);
    assert_eq!(
        [1, 2, 3, 23, 24, 100].map(said).map(Option::unwrap).join(" "),
        "1h 1h 3h 12h 1d 4d"
    );
}
