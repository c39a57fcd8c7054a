//! A reset, and what is decided between it and its commit.

use super::*;
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
