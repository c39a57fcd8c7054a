//! A reset, and what is decided between it and its commit.

use super::*;
use broker_model::limits::OFFSET_RESETS_REMEMBERED_MAX;

use crate::{Acknowledge, OffsetAt, ResetOffsets};

/// Decides a command, and says what of it is to be committed.
fn decide(bench: &mut Bench, command: Command) -> Bytes {
    let mut effects = Effects::default();
    bench.engine.handle(Now::at(0), command, Here, &bench.log, &mut effects);
    effects.payload.freeze()
}

fn commit(bench: &mut Bench, payload: Bytes) {
    let mut effects = Effects::default();
    bench.engine.apply(Now::at(0), bench.position, payload, &mut effects).unwrap();
}

#[test]
fn a_message_that_is_acknowledged_behind_a_reset_is_handed_out_between_the_two_to_nobody() {
    let mut bench = Bench::new(1);
    bench.send(3, 1);
    let handles = bench.handles(&Filter::All);
    assert_eq!(handles.len(), 3);
    let reset = ResetOffsets {
        group: group(),
        topics: vec![topic()],
        to: OffsetAt::Earliest,
        id: String::new(),
    };
    let reset = decide(&mut bench, Command::ResetOffsets(reset));
    let acknowledge = Acknowledge { group: group(), topic: topic(), handles: vec![handles[0]] };
    let acknowledged = decide(&mut bench, Command::Acknowledge(acknowledge));
    assert!(bench.handles(&Filter::All).is_empty(), "the reset is not committed");
    commit(&mut bench, reset);
    assert!(bench.handles(&Filter::All).is_empty(), "the acknowledgement is not committed");
    commit(&mut bench, acknowledged);
    let again: Vec<u64> = bench.handles(&Filter::All).iter().map(|h| h.offset).collect();
    assert_eq!(again, [1, 2]);
}

fn reset_named(id: &str, to: OffsetAt, topics: Vec<TopicName>) -> Command {
    Command::ResetOffsets(ResetOffsets { group: group(), topics, to, id: id.to_owned() })
}

/// The refusal of a reset that is asked for and committed, if it is refused.
fn refusal_of(bench: &mut Bench, reset: Command) -> Option<Refusal> {
    let mut effects = Effects::default();
    bench.engine.handle(Now::at(0), reset, Here, &bench.log, &mut effects);
    let payload = effects.payload.freeze();
    if !payload.is_empty() {
        commit(bench, payload);
    }
    effects.now.pop().and_then(|(_, reply)| reply.err())
}

#[test]
fn an_earlier_id_moves_nothing_and_one_that_could_not_be_remembered_is_refused() {
    let mut bench = Bench::new(1);
    bench.send(3, 1);
    assert_eq!(bench.handles(&Filter::All).len(), 3);
    let ids: Vec<String> =
        (0..OFFSET_RESETS_REMEMBERED_MAX).map(|n| format!("reset-{n}")).collect();
    for id in &ids {
        assert_eq!(refusal_of(&mut bench, reset_named(id, OffsetAt::Latest, vec![topic()])), None);
    }
    for id in &ids {
        assert!(
            decide(&mut bench, reset_named(id, OffsetAt::Latest, vec![topic()])).is_empty(),
            "{id} would move progress again"
        );
        let other = refusal_of(&mut bench, reset_named(id, OffsetAt::Earliest, vec![topic()]));
        assert!(matches!(other, Some(Refusal::ResetDiffers { .. })), "{other:?}");
    }
    let more = refusal_of(&mut bench, reset_named("more", OffsetAt::Earliest, vec![topic()]));
    assert!(matches!(more, Some(Refusal::TooManyResets { .. })), "{more:?}");
    assert!(bench.handles(&Filter::All).is_empty(), "a refused reset moves nothing");
    assert_eq!(refusal_of(&mut bench, reset_named("", OffsetAt::Earliest, vec![topic()])), None);
    assert_eq!(bench.handles(&Filter::All).len(), 3, "one without an id needs no memory");
}
