//! However much one step decides, the log takes it in frames that its reader takes.

use broker_model::limits::SEND_BATCH_MESSAGES_MAX;
use broker_store::limits::{
    FRAME_BYTES_TARGET, FRAME_PAYLOAD_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_BYTES_USUAL,
    frame_payload_bytes_max, send_bytes_max,
};
use broker_store::record::Record;

use super::*;

/// With the smallest segments that brokers make, and with those that most have.
fn with_real_segments(test: impl Fn(u64)) {
    for segment_bytes in [SEGMENT_BYTES_MIN, SEGMENT_BYTES_USUAL] {
        SEGMENT_BYTES.set(segment_bytes);
        test(segment_bytes);
    }
}

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
    with_real_segments(|_| {
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
    });
}

/// Messages of a send that have so many bytes together.
fn messages(count: usize, bytes: usize) -> Vec<NewMessage> {
    let body_bytes = |n| bytes / count + usize::from(n < bytes % count);
    let body = |n| Bytes::from(vec![7; body_bytes(n)]);
    (0..count)
        .map(|n| NewMessage { head: Bytes::new(), body: body(n), ..message("", None) })
        .collect()
}

#[test]
fn the_largest_send_is_stored_in_one_frame_and_a_larger_one_is_refused_before_anything_is_written()
{
    with_real_segments(|segment_bytes| {
        let frame_bytes_max = frame_payload_bytes_max(segment_bytes);
        let bytes_max = send_bytes_max(frame_bytes_max);
        for count in [1, SEND_BATCH_MESSAGES_MAX] {
            for begun_bytes in [0, FRAME_BYTES_TARGET - 1] {
                let mut shard = Shard::new();
                shard.create_of(MessageType::Delay, "orders", 1);
                let end = shard.replica.log().end();
                let timed = |bytes| {
                    let visible = Visible::At { due_ms: 900_000 };
                    let timed = messages(count, bytes).into_iter();
                    let messages = timed.map(|m| NewMessage { visible, ..m }).collect();
                    let (topic, target) = (name("orders"), Target::Queue(0));
                    Command::Send(Send { topic, messages, target })
                };
                let refused = Refusal::SendTooLarge { bytes: bytes_max + 1, bytes_max };
                assert_eq!(shard.ask(timed(bytes_max + 1)).unwrap_err(), refused);
                assert_eq!(shard.replica.log().end(), end, "nothing is written");
                // In the same step something else was decided before.
                decide(&mut shard, begun_bytes);
                shard.replica.open.end_piece();
                shard.ask(timed(bytes_max)).expect("stored");
                assert!(shard.replica.failure().is_none());
                shard.restart();
                assert_eq!(shard.replica.damage(), None);
                // What nobody waits for is written a little later.
                for now_ms in [900_000, 900_100] {
                    shard.now_ms = now_ms;
                    shard.settle();
                }
                let Ok(Outcome::Topics(topics, _)) = shard.ask(Command::ReadTopics(0)) else {
                    panic!()
                };
                assert_eq!(topics[0].messages, count as u64);
            }
        }
    });
}

#[test]
fn pieces_stay_whole_and_answers_wait_for_their_own_piece_only() {
    SEGMENT_BYTES.set(SEGMENT_BYTES_USUAL);
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
