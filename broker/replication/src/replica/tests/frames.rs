//! However much one step decides, the log takes it in frames that its reader takes.

use broker_store::limits::{FRAME_BYTES_TARGET, FRAME_PAYLOAD_BYTES_MAX};
use broker_store::record::Record;

use super::*;

/// Adds records of so many bytes, and an answer that waits for them.
fn decide(shard: &mut Shard, bytes: usize) -> Ticket {
    let id = "n".repeat(64 * 1024);
    let end = shard.replica.open.payload.len() + bytes;
    while shard.replica.open.payload.len() < end {
        shard.replica.open.append(&Record::Client { number: 1, id: id.clone() });
    }
    shard.tickets += 1;
    let ticket = Ticket(shard.tickets);
    shard.replica.open.on_commit.push((ticket, Ok(Outcome::Done)));
    ticket
}

/// Payload bytes of the frames proposed now, and how many answers wait for each.
fn proposed(shard: &mut Shard) -> Vec<(usize, usize)> {
    shard.replica.close_frame(Now::at(shard.now_ms));
    let frames = shard.replica.proposed.iter().map(|closed| &closed.frame);
    frames.map(|frame| (frame.payload.len(), frame.on_commit.len())).collect()
}

#[test]
fn what_one_step_decides_is_read_again_however_much_it_is() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    let ticket = decide(&mut shard, FRAME_PAYLOAD_BYTES_MAX + FRAME_BYTES_TARGET);
    shard.settle();
    assert!(matches!(shard.replies.remove(&ticket), Some(Ok(Outcome::Done))));
    shard.ask(send("orders", &["behind it"])).expect("stored");
    shard.restart();
    assert_eq!(shard.replica.damage(), None);
    let received = shard.receive("billing", "orders", Filter::All);
    assert_eq!(bodies(&received), BTreeSet::from(["behind it".to_owned()]));
}

#[test]
fn pieces_stay_whole_and_answers_wait_for_their_own_piece_only() {
    let mut shard = Shard::new();
    let target = FRAME_BYTES_TARGET;
    let pieces = [target / 2, target * 5, target * 3 / 4, target * 63 / 2, 1];
    for bytes in pieces {
        decide(&mut shard, bytes);
        shard.replica.open.end_piece();
    }
    let frames = proposed(&mut shard);
    assert!(frames.iter().all(|(bytes, _)| *bytes <= FRAME_PAYLOAD_BYTES_MAX), "{frames:?}");
    let answers: Vec<usize> = frames.iter().map(|(_, answers)| *answers).collect();
    assert_eq!(
        answers,
        [2, 1, 1, 1],
        "what exceeds the largest frame goes on in the next: {frames:?}"
    );
    shard.settle();
    assert_eq!(shard.replies.len(), pieces.len());
}

#[test]
fn an_answer_without_records_waits_for_those_before() {
    let mut shard = Shard::new();
    decide(&mut shard, 100);
    shard.replica.close_frame(Now::at(shard.now_ms));
    shard.replica.open.on_commit.push((Ticket(77), Ok(Outcome::Done)));
    let output = shard.replica.step(Now::at(shard.now_ms));
    assert!(output.replies.is_empty() && output.write.is_some());
    let written = shard.writer.write(&output.write.unwrap()).unwrap();
    shard.replica.written(Now::at(shard.now_ms), written);
    shard.settle();
    assert!(matches!(shard.replies.remove(&Ticket(77)), Some(Ok(Outcome::Done))));
}

#[test]
fn a_record_that_no_frame_holds_stops_the_shard_and_leaves_its_log_whole() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    let id = "n".repeat(FRAME_PAYLOAD_BYTES_MAX);
    shard.replica.open.append(&Record::Client { number: 1, id });
    let refused = shard.ask(send("orders", &["with it"]));
    assert!(matches!(refused, Err(Refusal::LogFailed(_))), "{refused:?}");
    shard.restart();
    assert_eq!(shard.replica.damage(), None);
    shard.ask(send("orders", &["later"])).expect("stored");
}
