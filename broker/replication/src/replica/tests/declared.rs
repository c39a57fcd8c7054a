//! A declared subscription and a poll that got nothing survive a restart, from the log and from a snapshot.

use broker_engine::GroupTopicProgress;
use broker_model::{StartFrom, Subscription};

use super::*;

impl Shard {
    fn declare(&mut self, group: &str, topic: &str, start_from: StartFrom) {
        let mut group = ConsumerGroup::with_defaults(GroupName::parse(group).unwrap());
        let expression = "*".to_owned();
        let topic = name(topic);
        group.subscriptions.push(Subscription { topic, is_sql: false, expression, start_from });
        self.ask(Command::PutGroup(Box::new(group))).unwrap();
    }

    /// Group, lag, and whether a consumer was ever here.
    pub(super) fn lags(&mut self) -> Vec<(String, u64, bool)> {
        let Ok(Outcome::Progress(progress, _)) =
            self.ask(Command::ReadProgress(ProgressQuery::default()))
        else {
            panic!("no progress");
        };
        let row =
            |row: GroupTopicProgress| (row.group.to_string(), row.lag_messages, row.is_polled);
        let mut rows: Vec<_> = progress.into_iter().map(row).collect();
        rows.sort();
        rows
    }
}

#[test]
fn what_was_declared_and_who_only_polled_lag_the_same_after_a_restart() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "once", 5);
    shard.ask(send("orders", &["a", "b", "c"])).unwrap();
    shard.declare("all", "orders", StartFrom::Earliest);
    shard.declare("new", "orders", StartFrom::Latest);
    shard.create_of(MessageType::Normal, "empty", 1);
    assert!(shard.receive("once", "empty", Filter::All).is_empty());
    shard.ask(send("orders", &["d", "e"])).unwrap();
    shard.ask(send("empty", &["f", "g", "h", "i"])).unwrap();
    let expected = [("all", 5, false), ("new", 2, false), ("once", 4, true)]
        .map(|(group, lag, is_polled)| (group.to_owned(), lag, is_polled));
    assert_eq!(shard.lags(), expected);
    shard.restart();
    assert_eq!(shard.lags(), expected, "from the log");
    // Until it is all in a snapshot.
    let seals = shard.seals + 3;
    shard.create_of(MessageType::Normal, "filler", 1);
    while shard.seals < seals {
        shard.ask(send("filler", &[&"x".repeat(1_000)])).unwrap();
    }
    shard.restart();
    assert_eq!(shard.lags(), expected, "from a snapshot");
    assert_eq!(shard.receive("all", "orders", Filter::All).len(), 5);
    assert_eq!(shard.receive("new", "orders", Filter::All).len(), 2);
    sealing::check_derived(&shard);
}

#[test]
fn a_group_that_an_earlier_version_declared_begins_at_the_next_start() {
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    shard.ask(send("orders", &["a", "b"])).unwrap();
    // As it was logged before: the group alone. The topic of the same name comes when the group is known.
    let mut group = ConsumerGroup::with_defaults(GroupName::parse("billing").unwrap());
    group.subscriptions.push(Subscription {
        topic: name("orders"),
        is_sql: false,
        expression: "*".into(),
        start_from: StartFrom::Earliest,
    });
    let record = broker_store::Record::PutGroup { number: 1, group: Box::new(group) };
    shard.replica.open.append(&record);
    shard.replica.close_frame(Now::at(shard.now_ms));
    shard.settle();
    assert!(shard.lags().is_empty());
    shard.restart();
    assert_eq!(shard.lags(), [("billing".to_owned(), 2, false)]);
}
