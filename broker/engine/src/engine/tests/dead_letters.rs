//! Dead letters: looked at, put back, purged, and read by the group whose they are.

use super::*;
use crate::{DeadLetters, ForwardToDeadLetter, ListDeadLetters, Redrive, Redriven};

const LETTERS: &str = "%DLQ%billing";

impl Bench {
    /// Time passes, and what it decides is committed.
    fn allow_attempts(&mut self, max_attempts: u32) {
        let mut group = ConsumerGroup::with_defaults(group());
        group.retry.max_attempts = max_attempts;
        self.ask(Command::PutGroup(Box::new(group)));
    }

    fn receive_from(&mut self, topic: &str) -> Vec<crate::Delivery> {
        let topic = TopicName::parse(topic).unwrap();
        let receive = Receive { topic, ..self.poll(&Filter::All) };
        match self.ask(Command::Receive(receive)).pop() {
            Some(Ok(Outcome::Received(deliveries))) => deliveries,
            other => panic!("{other:?}"),
        }
    }

    /// So many messages are dead letters of the group.
    fn kill(&mut self, count: usize) {
        self.allow_attempts(1);
        self.send(count, 10);
        assert_eq!(self.receive_from("orders").len(), count);
        self.tick(10_000);
    }

    fn redrive(&mut self, only: Option<u64>, is_purge: bool, is_dry_run: bool) -> Redriven {
        let (topic, messages_max) = (None, 100);
        let redrive = Redrive { group: group(), topic, messages_max, only, is_purge, is_dry_run };
        match self.ask(Command::Redrive(redrive)).pop() {
            Some(Ok(Outcome::Redriven(redriven))) => redriven,
            other => panic!("{other:?}"),
        }
    }

    fn letters(&mut self, from: u64, looked_at_max: u32) -> (Vec<u64>, Option<u64>) {
        let list = ListDeadLetters { group: group(), from, looked_at_max };
        match self.ask(Command::ListDeadLetters(list)).pop() {
            Some(Ok(Outcome::DeadLetters(DeadLetters { letters, next }))) => {
                (letters.iter().map(|letter| letter.offset).collect(), next)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Dead letters that are kept, and that ever were.
    fn counts(&mut self) -> (u64, u64) {
        match self.ask(Command::ReadTopics(0)).pop() {
            Some(Ok(Outcome::Topics(topics, _))) => {
                let of = topics.iter().find(|numbers| numbers.topic.as_str() == LETTERS).unwrap();
                (of.messages, of.dead_lettered)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_count_of_dead_letters_falls_when_they_are_put_back_or_purged() {
    let mut bench = Bench::new(1);
    bench.kill(5);
    assert_eq!(bench.counts(), (5, 5));
    assert_eq!(bench.redrive(Some(3), false, false), Redriven { messages: 1, left: 0 });
    assert_eq!(bench.counts(), (4, 5));
    assert_eq!(bench.redrive(Some(1), true, true), Redriven { messages: 0, left: 1 });
    assert_eq!(bench.redrive(Some(1), true, false).messages, 1);
    assert_eq!(bench.redrive(Some(1), true, false), Redriven::default(), "it is gone");
    assert_eq!(bench.redrive(Some(99), true, false), Redriven::default(), "there never was one");
    assert_eq!(bench.counts(), (3, 5));
    let back = bench.receive_from("orders");
    assert_eq!(back.len(), 1, "what is purged does not come back");
    assert_eq!((back[0].handle.offset, back[0].handle.attempt), (3, 1));
    assert_eq!(bench.letters(0, 100), (vec![0, 2, 4], None));
    assert_eq!(bench.letters(0, 2), (vec![0], Some(2)));
    assert_eq!(bench.letters(2, 2), (vec![2], Some(4)));
    // Those whose topic is gone lead nowhere, and can be purged.
    bench.ask(Command::DeleteTopic(topic()));
    assert_eq!(bench.redrive(None, false, false), Redriven::default());
    assert_eq!(bench.redrive(None, true, false), Redriven { messages: 3, left: 0 });
    assert_eq!(bench.counts(), (0, 5));
    assert_eq!(bench.letters(0, 100), (Vec::new(), None));
}

#[test]
fn a_group_that_fails_on_its_own_dead_letters_makes_no_others_of_them() {
    let mut bench = Bench::new(1);
    bench.kill(2);
    for attempt in 1..=3 {
        let again = bench.receive_from(LETTERS);
        assert_eq!(again.len(), 2, "at attempt {attempt}");
        assert!(again.iter().all(|delivery| delivery.handle.attempt == attempt));
        bench.tick(10_000 + u64::from(attempt) * 20_000);
    }
    let given_up = bench.receive_from(LETTERS).remove(0).handle;
    let topic = TopicName::parse(LETTERS).unwrap();
    let forward = ForwardToDeadLetter { group: group(), topic, handle: given_up };
    bench.ask(Command::ForwardToDeadLetter(forward));
    assert_eq!(bench.counts(), (2, 2), "it is kept, and none was added");
    bench.tick(500_000);
    assert_eq!(bench.receive_from(LETTERS).len(), 1, "who gave up on it is done with it");
    assert_eq!(bench.redrive(None, false, false).messages, 2, "and both can be put back");
}

#[test]
fn a_dead_letter_of_a_dead_letter_leads_nowhere_once_that_was_put_back() {
    let mut bench = Bench::new(1);
    bench.kill(1);
    let reader = broker_model::GroupName::parse("undertaker").unwrap();
    let topic = TopicName::parse(LETTERS).unwrap();
    bench.ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(reader.clone()))));
    let poll = Receive { group: reader.clone(), topic: topic.clone(), ..bench.poll(&Filter::All) };
    let handle = match bench.ask(Command::Receive(poll)).pop() {
        Some(Ok(Outcome::Received(deliveries))) => deliveries[0].handle,
        other => panic!("{other:?}"),
    };
    let forward = ForwardToDeadLetter { group: reader.clone(), topic, handle };
    bench.ask(Command::ForwardToDeadLetter(forward));
    assert_eq!(bench.redrive(None, false, false).messages, 1);
    let (topic, messages_max, only) = (None, 100, None);
    let (is_purge, is_dry_run) = (false, false);
    let group = reader.clone();
    let redrive = Redrive { group, topic, messages_max, only, is_purge, is_dry_run };
    let redriven = bench.ask(Command::Redrive(redrive)).pop();
    let nothing = Redriven { messages: 0, left: 0 };
    assert!(matches!(redriven, Some(Ok(Outcome::Redriven(redriven))) if redriven == nothing));
    let Some(Ok(Outcome::Progress(progress, _))) = bench
        .ask(Command::ReadProgress(ProgressQuery {
            group: Some(reader),
            ..ProgressQuery::default()
        }))
        .pop()
    else {
        panic!("no progress")
    };
    assert_eq!(progress[0].lag_messages, 0, "nobody gets it any more");
}

#[test]
fn dead_letters_that_were_put_back_one_after_the_other_are_passed_at_once() {
    // One by one they would take hours.
    const REDRIVEN: u64 = 1 << 40;
    let mut bench = Bench::new(1);
    bench.kill(1);
    let letters = bench.engine.state.topic_numbers[&TopicName::parse(LETTERS).unwrap()];
    bench.engine.state.topics.get_mut(&letters).unwrap().redriven.insert(0, REDRIVEN);
    let auditors = GroupName::parse("auditors").unwrap();
    bench.ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(auditors.clone()))));
    let group = bench.engine.state.group_numbers[&auditors];
    let index = bench.engine.state.group_topic_index(group, letters);
    let next = |bench: &Bench| bench.engine.state.group_topic(index).unwrap().queues[0].next();
    assert_eq!(next(&bench), REDRIVEN, "to a group that begins they are owed no more");
    bench.engine.state.reset_queue(index, 0, 0);
    assert_eq!(next(&bench), REDRIVEN, "nor to one that begins anew");
}
