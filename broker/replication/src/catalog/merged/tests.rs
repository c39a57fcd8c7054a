//! What holds where shards differ, and what each of them is told.

use broker_model::{MessageType, QueuePlacement, ShardId};

use super::*;

fn topic(name: &str, queues: u32) -> Topic {
    let placement = vec![QueuePlacement { shard: ShardId(0), queues }];
    Topic::with_defaults(TopicName::parse(name).unwrap(), MessageType::Normal, placement)
}

fn group(name: &str, max_attempts: u32) -> ConsumerGroup {
    let mut group = ConsumerGroup::with_defaults(GroupName::parse(name).unwrap());
    group.retry.max_attempts = max_attempts;
    group
}

fn gone(name: &str, time_ms: u64) -> (GroupName, u64) {
    (GroupName::parse(name).unwrap(), time_ms)
}

/// Shard, verb, name, and whether the name is new there.
fn told(merged: &Merged) -> Vec<(usize, String)> {
    let told = merged.repairs.iter().map(|repair| {
        let new = if repair.is_new { "new " } else { "" };
        let what = match &repair.command {
            Command::PutGroup(group) => format!("{new}group {}", group.name),
            Command::PutTopic(topic) => format!("{new}topic {}", topic.name),
            Command::MakeGroup(name) => format!("{new}group {name} by first use"),
            Command::DeleteGroup(name) => format!("no group {name}"),
            Command::DeleteTopic(name) => format!("no topic {name}"),
            other => panic!("{other:?}"),
        };
        (repair.shard, what)
    });
    told.collect()
}

fn told_as(expected: &[(usize, &str)]) -> Vec<(usize, String)> {
    expected.iter().map(|(shard, what)| (*shard, (*what).to_owned())).collect()
}

#[test]
fn a_shard_that_knows_nothing_is_told_all_groups_and_then_all_topics() {
    let first = Known {
        topics: vec![(topic("b", 1), 5), (topic("a", 1), 6)],
        groups: vec![(group("y", 1), 7), (group("x", 1), 8)],
        ..Known::default()
    };
    let merged = Merged::of(vec![first, Known::default()]);
    let expected = [(1, "new group x"), (1, "new group y"), (1, "new topic a"), (1, "new topic b")];
    assert_eq!(told(&merged), told_as(&expected));
    assert_eq!((merged.topics.len(), merged.groups.len()), (2, 2));
}

#[test]
fn of_two_that_differ_the_later_one_holds_and_at_one_time_that_of_the_first_shard() {
    // When each shard heard of it, the attempts that hold, and who is told.
    for (times, attempts, shard) in [([5, 6], 9, 0), ([6, 5], 3, 1), ([0, 0], 3, 1)] {
        let known = [(3, times[0]), (9, times[1])].map(|(attempts, time_ms)| Known {
            groups: vec![(group("billing", attempts), time_ms)],
            ..Known::default()
        });
        let merged = Merged::of(known.to_vec());
        assert_eq!(merged.groups[0].retry.max_attempts, attempts, "{times:?}");
        assert_eq!(told(&merged), told_as(&[(shard, "group billing")]));
    }
}

#[test]
fn a_group_is_by_first_use_as_long_as_no_shard_heard_its_declaration() {
    let used = Known {
        groups: vec![(group("billing", 16), 5)],
        by_first_use: [group("billing", 16).name].into(),
        ..Known::default()
    };
    let merged = Merged::of(vec![used.clone(), Known::default()]);
    assert_eq!(told(&merged), told_as(&[(1, "new group billing by first use")]));
    assert_eq!(merged.by_first_use.len(), 1);
    let declared = Known { groups: vec![(group("billing", 16), 4)], ..Known::default() };
    let merged = Merged::of(vec![used, declared]);
    assert_eq!(told(&merged), told_as(&[(0, "group billing")]));
    assert!(merged.by_first_use.is_empty());
}

#[test]
fn a_deletion_that_reached_one_shard_is_carried_on_unless_the_name_was_declared_since() {
    let deleted = Known { deleted_groups: vec![gone("billing", 7)], ..Known::default() };
    let declared =
        |time_ms| Known { groups: vec![(group("billing", 3), time_ms)], ..Known::default() };
    let merged = Merged::of(vec![deleted.clone(), declared(6)]);
    assert_eq!(told(&merged), told_as(&[(1, "no group billing")]));
    assert!(merged.groups.is_empty() && merged.deleted_groups.len() == 1);
    let merged = Merged::of(vec![deleted, declared(8)]);
    assert_eq!(told(&merged), told_as(&[(0, "new group billing")]));
    assert!(merged.groups.len() == 1 && merged.deleted_groups.is_empty());
}

#[test]
fn dead_letters_stand_on_every_shard_that_made_some() {
    let letters = |shard| {
        let placement = vec![QueuePlacement { shard: ShardId(shard), queues: 1 }];
        let name = TopicName::dead_letter_of(&GroupName::parse("billing").unwrap());
        Topic::with_defaults(name, MessageType::Normal, placement)
    };
    let known = [0, 1, 2].map(|shard| Known {
        topics: if shard == 1 { Vec::new() } else { vec![(letters(shard), 5)] },
        ..Known::default()
    });
    let merged = Merged::of(known.to_vec());
    assert!(merged.repairs.is_empty(), "{:?}", merged.repairs);
    let placed: Vec<_> = merged.topics[0].placement.iter().map(|placed| placed.shard.0).collect();
    assert_eq!((placed, merged.topics[0].queues), (vec![0, 2], 2));
}
