//! Whatever records make of the progress is stored as bytes that are taken in again, and gives the same progress.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::group_queue::dead::DEAD_RUNS_MAX;
use crate::group_queue::{Batch, HandleState};

/// Records as a log may hold them: those of an earlier version too, which wrote down numbers that clients gave.
#[derive(Debug, Clone)]
enum Logged {
    Lease(Batch, u32, u64),
    Acknowledge(u64),
    Bury(u64),
    Change { offset: u64, nonce: u32, attempt: u32, new_nonce: u32 },
    Revive(u64),
    Trim(u64),
    Reset(u64),
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![30 => 0u64..200, 1 => (OFFSETS_END - 70)..=OFFSETS_END, 1 => Just(u64::MAX)]
        // Far ahead, everything before it waits: too many to be written down here.
        .prop_filter("near, or no offset at all", |offset| {
            *offset < 200 || *offset >= OFFSETS_END - 1
        })
}

fn logged() -> impl Strategy<Value = Logged> {
    let attempt = prop_oneof![4 => 1u32..4, 1 => Just(0), 1 => (1 << 31)..=u32::MAX];
    let lease = (offset(), 0u32..70, any::<u64>(), attempt, 0u32..8, any::<u64>());
    prop_oneof![
        4 => lease.prop_map(|(first, span, mask, attempt, nonce, deadline_ms)| {
            Logged::Lease(Batch { first, span, mask, attempt }, nonce, deadline_ms)
        }),
        4 => offset().prop_map(Logged::Acknowledge),
        2 => offset().prop_map(Logged::Bury),
        4 => (offset(), 0u32..8, any::<u32>(), 8u32..1_000_000).prop_map(
            |(offset, nonce, attempt, new_nonce)| {
                Logged::Change { offset, nonce, attempt, new_nonce }
            }
        ),
        2 => offset().prop_map(Logged::Revive),
        1 => offset().prop_map(Logged::Trim),
        1 => offset().prop_map(Logged::Reset),
    ]
}

fn apply(queue: &mut GroupQueue, logged: &Logged) {
    match *logged {
        // Deliveries that may be in flight together have different names.
        Logged::Lease(batch, nonce, _) if queue.is_named(batch.first, nonce) => {}
        Logged::Lease(batch, nonce, deadline_ms) => {
            queue.lease(batch, nonce, deadline_ms);
        }
        Logged::Acknowledge(offset) => {
            queue.acknowledge(offset);
        }
        Logged::Bury(offset) => {
            queue.bury(offset);
        }
        Logged::Change { offset, new_nonce, .. } if queue.is_named(offset, new_nonce) => {}
        Logged::Change { offset, nonce, attempt, new_nonce } => {
            queue.change_invisible(offset, nonce, attempt, new_nonce, 100);
        }
        Logged::Revive(offset) => queue.revive(offset, 0),
        Logged::Trim(offset) => {
            queue.trim_below(offset);
        }
        Logged::Reset(offset) => queue.reset(offset),
    }
}

fn stored_dead(queue: &GroupQueue) -> Bytes {
    let mut bytes = BytesMut::new();
    queue.store_dead(&mut bytes);
    bytes.freeze()
}

fn stored(queue: &GroupQueue) -> Bytes {
    let mut bytes = BytesMut::new();
    queue.store(&mut bytes);
    bytes.freeze()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_was_logged_is_stored_and_comes_back_the_same(
        log in proptest::collection::vec(logged(), 0..60),
    ) {
        let mut queue = GroupQueue::default();
        for logged in &log {
            apply(&mut queue, logged);
            let bytes = stored(&queue);
            let dead = stored_dead(&queue);
            let mut loaded = GroupQueue::load(&mut bytes.clone());
            prop_assert!(loaded.is_some(), "after {:?}", logged);
            let taken = loaded.as_mut().and_then(|loaded| loaded.load_dead(&mut dead.clone()));
            prop_assert!(taken.is_some(), "after {:?}", logged);
            prop_assert_eq!(loaded.as_ref(), Some(&queue), "after {:?}", logged);
            let loaded = loaded.unwrap();
            prop_assert_eq!((stored(&loaded), stored_dead(&loaded)), (bytes, dead));
            let (next, cursor) = (queue.next, queue.cursor);
            let open = queue.touched_in(cursor..next);
            prop_assert!(open.iter().all(|offset| !queue.is_done(*offset)));
            let done = queue.not_done_in(cursor..next).map(|part| part.end - part.start);
            let not_revived = open.difference(&queue.revived).count() as u64;
            prop_assert_eq!(done.sum::<u64>(), not_revived, "one state for each offset");
            prop_assert!(!queue.is_done(next) || queue.done.end_of(next).is_none());
        }
    }
}

#[test]
fn a_change_of_an_invisible_duration_never_raises_the_attempt() {
    let mut queue = GroupQueue::default();
    let batch = queue.select_new(2, 2, |_| true).unwrap();
    queue.lease(batch, 7, 100);
    assert_eq!(queue.attempt_of(0, 7), Some(1));
    assert!(queue.change_invisible(0, 7, 1 << 31, 8, 200).is_some());
    assert_eq!((queue.attempt_of(0, 7), queue.attempt_of(0, 8)), (None, Some(1)));
    queue.expire(0, 8, 5);
    assert_eq!(queue.attempt_of(0, 8), Some(1), "nobody else has it");
    assert!(queue.change_invisible(0, 8, 1_000, 9, 300).is_some());
    assert_eq!(queue.attempt_of(0, 9), Some(1));
}

#[test]
fn attempts_that_an_earlier_version_took_from_a_client_can_be_read_and_counted_on() {
    let mut queue = GroupQueue::default();
    for (first, attempt) in [(0, 1 << 31), (1, u32::MAX)] {
        queue.lease(Batch { first, span: 1, mask: 1, attempt }, 7, 100);
    }
    let mut loaded = GroupQueue::load(&mut stored(&queue)).expect("what was written can be read");
    assert_eq!(loaded, queue);
    assert_eq!(loaded.expire(1, 7, 17), [1], "it is a dead letter");
    assert_eq!(loaded.expire(0, 7, u32::MAX), []);
    assert_eq!(
        loaded.select_again(1, None, &mut 9, |_| Some(0)).batch.map(|again| again.attempt),
        Some((1 << 31) + 1)
    );
}

#[test]
fn what_was_put_back_is_not_passed_over_by_a_batch_that_was_decided_before() {
    let mut queue = GroupQueue::default();
    queue.trim_below(61);
    queue.revive(58, 0);
    queue.lease(Batch { first: 31, span: 28, mask: 1, attempt: 1 }, 7, 100);
    assert_eq!(
        queue.select_again(1, None, &mut 9, |_| Some(0)).batch.map(|again| again.first),
        Some(58)
    );
    assert_eq!(GroupQueue::load(&mut stored(&queue)), Some(queue));
}

#[test]
fn dead_letters_are_told_from_what_was_acknowledged_and_the_oldest_are_forgotten() {
    let mut queue = GroupQueue::default();
    // Every other message dies: each is a run of its own.
    let count = 2 * DEAD_RUNS_MAX as u64 + 20;
    for offset in 0..count {
        queue.lease(Batch { first: offset, span: 1, mask: 1, attempt: 1 }, 7, 100);
        if offset.is_multiple_of(2) {
            queue.bury(offset)
        } else {
            queue.acknowledge(offset)
        };
    }
    assert_eq!(queue.handle_state(0, 7), HandleState::Done, "so long ago");
    for offset in count - 100..count {
        let expected = if offset.is_multiple_of(2) { HandleState::Dead } else { HandleState::Done };
        assert_eq!(queue.handle_state(offset, 7), expected);
    }
    assert_eq!(stored_dead(&queue).len(), 16 * DEAD_RUNS_MAX);
    let last = count - 2;
    queue.bury(last + 1);
    assert_eq!(queue.handle_state(last + 1, 7), HandleState::Done, "it was acknowledged");
    queue.revive(last, 0);
    assert_eq!(queue.handle_state(last, 7), HandleState::Stale);
    queue.acknowledge(last);
    assert_eq!(queue.handle_state(last, 7), HandleState::Done, "put back, and done in the end");
    queue.trim_below(last);
    assert!(!queue.has_dead());
}

#[test]
fn runs_of_dead_letters_that_cannot_be_are_refused() {
    let taken = |runs: &[(u64, u64)]| {
        let mut queue = GroupQueue::default();
        queue.reset(100);
        let bytes: Vec<u8> = runs
            .iter()
            .flat_map(|(start, end)| [start.to_le_bytes(), end.to_le_bytes()].concat())
            .collect();
        queue.load_dead(&mut &bytes[..]).is_some()
    };
    assert!(taken(&[(1, 2), (5, 100)]));
    for refused in [&[(2, 2)][..], &[(3, 2)], &[(5, 101)], &[(5, 9), (1, 2)], &[(1, 5), (5, 9)]] {
        assert!(!taken(refused), "{refused:?}");
    }
    let mut queue = GroupQueue::default();
    assert!(queue.load_dead(&mut &[1u8, 2, 3][..]).is_none());
}
