//! Random histories against simple rules: no offset is lost, none has two holders, an acknowledged one never comes
//! back, attempts count up to the limit, and replaying what was logged gives the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proptest::prelude::*;

use super::*;

const ATTEMPTS_MAX: u32 = 3;

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    Receive {
        limit: u32,
        filter: u64,
    },
    Acknowledge(prop::sample::Index),
    AcknowledgeOld(prop::sample::Index),
    Change {
        which: prop::sample::Index,
        by_ms: u64,
    },
    Release(prop::sample::Index),
    Prolong {
        which: prop::sample::Index,
        by_ms: u64,
    },
    Leave(prop::sample::Index),
    Commit,
    Wait(u64),
    Revive(prop::sample::Index),
    SwitchOrder,
    /// A delivery from before a reset, ahead of what is new.
    LeaseAhead {
        by: u64,
        span: u32,
        mask: u64,
    },
    /// A dead letter that is put back ahead of who reads it.
    AcknowledgeAhead(u64),
    SkipAhead {
        by: u64,
        count: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1u64..80).prop_map(Step::Append),
        (1u32..33, 1u64..4).prop_map(|(limit, filter)| Step::Receive { limit, filter }),
        any::<prop::sample::Index>().prop_map(Step::Acknowledge),
        any::<prop::sample::Index>().prop_map(Step::AcknowledgeOld),
        (any::<prop::sample::Index>(), 0u64..50)
            .prop_map(|(which, by_ms)| Step::Change { which, by_ms }),
        any::<prop::sample::Index>().prop_map(Step::Release),
        (any::<prop::sample::Index>(), 0u64..90)
            .prop_map(|(which, by_ms)| Step::Prolong { which, by_ms }),
        any::<prop::sample::Index>().prop_map(Step::Leave),
        Just(Step::Commit),
        (1u64..60).prop_map(Step::Wait),
        any::<prop::sample::Index>().prop_map(Step::Revive),
        Just(Step::SwitchOrder),
        (0u64..100, 0u32..65, any::<u64>()).prop_map(|(by, span, mask)| Step::LeaseAhead {
            by,
            span,
            mask
        }),
        (0u64..100).prop_map(Step::AcknowledgeAhead),
        (0u64..100, 1u64..30).prop_map(|(by, count)| Step::SkipAhead { by, count }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What a log would keep.
#[derive(Debug, Clone)]
enum Logged {
    Lease(Batch, u32, u64),
    Skip(u64, u64),
    Acknowledge(u64),
    Change { offset: u64, nonce: u32, attempt: u32, new_nonce: u32, deadline_ms: u64 },
    Release { offset: u64, nonce: u32 },
    Prolong { first: u64, nonce: u32, deadline_ms: u64 },
    Revive(u64),
}

#[derive(Default)]
struct Model {
    state: GroupQueue,
    end: u64,
    now_ms: u64,
    nonces: u32,
    /// Current holder: offset to (nonce, attempt).
    held: BTreeMap<u64, (u32, u32)>,
    old: Vec<(u64, u32)>,
    /// Deliveries that count.
    counted: BTreeMap<u64, u32>,
    done: BTreeSet<u64>,
    dead: BTreeSet<u64>,
    log: Vec<Logged>,
    is_ordered: bool,
    revived: BTreeSet<u64>,
    /// Their end is decided and not committed.
    leaving: BTreeSet<u64>,
    /// Handed out before the order was switched on: not held against it.
    before_order: BTreeSet<u64>,
}

/// Seven message groups, unevenly mixed; one of them is "none".
fn message_group(offset: u64) -> u64 {
    offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61
}

impl Model {
    fn nonce(&mut self) -> u32 {
        self.nonces += 1;
        self.nonces
    }

    fn receive(&mut self, limit: u32, filter: u64) {
        let passes = |offset: u64| offset.is_multiple_of(filter);
        let mut looks = 1_000;
        let batch = if self.is_ordered {
            self.select_in_order(limit, passes)
        } else {
            let again =
                self.state.select_again(limit, None, &mut looks, |o| passes(o).then_some(0));
            for skipped in again.skipped {
                self.skip(skipped, passes);
            }
            again.batch.or_else(|| {
                self.skip_new(&mut looks, passes);
                self.state.select_new(self.end, limit, passes)
            })
        };
        let Some(batch) = batch else { return };
        assert!(batch.mask.count_ones() <= limit && batch.attempt <= ATTEMPTS_MAX);
        let (nonce, deadline_ms) = (self.nonce(), self.now_ms + 30);
        assert!(self.state.lease(batch, nonce, deadline_ms));
        self.log.push(Logged::Lease(batch, nonce, deadline_ms));
        for offset in offsets(batch.first, batch.mask) {
            assert!(offset < self.end, "a message that does not exist");
            assert!(!self.done.contains(&offset), "delivered after an acknowledgement");
            if self.is_ordered {
                self.assert_turn_of(offset);
            }
            let counted = self.counted.entry(offset).or_default();
            assert_eq!(batch.attempt, *counted + 1, "what reached nobody counts");
            *counted += 1;
            assert!(!self.leaving.contains(&offset), "its end is decided");
            let before = self.held.insert(offset, (nonce, batch.attempt));
            assert!(before.is_none(), "two holders");
        }
        for offset in batch.first..batch.first + u64::from(batch.span) {
            let is_new = !self.done.contains(&offset) && self.was_never_out(offset);
            if is_new && batch.mask >> (offset - batch.first) & 1 == 0 {
                assert!(!passes(offset), "skipped a message that passes");
                self.done.insert(offset);
            }
        }
    }

    fn skip_new(&mut self, looks: &mut u32, passes: impl Fn(u64) -> bool) {
        let Range { start: first, end } = self.state.look_for_new(self.end, looks, &passes);
        self.skip(Skipped { first, end, is_new: true }, passes);
    }

    fn skip(&mut self, skipped: Skipped, passes: impl Fn(u64) -> bool) {
        let Skipped { first, end, is_new } = skipped;
        for offset in first..end {
            if !self.done.contains(&offset) && (!is_new || self.was_never_out(offset)) {
                assert!(!passes(offset) && !self.held.contains_key(&offset));
                self.done.insert(offset);
            }
        }
        if is_new {
            self.state.skip(first, end);
            self.log.push(Logged::Skip(first, end));
        } else {
            assert_eq!(end, first + 1);
            self.state.acknowledge(first);
            self.log.push(Logged::Acknowledge(first));
        }
    }

    /// What a record that was decided before a reset finds behind it.
    fn lease_ahead(&mut self, by: u64, span: u32, mask: u64) {
        let first = self.state.next + by;
        let exists = |offset: &u64| *offset < self.end;
        let held = offsets(first, mask & mask >> 1);
        let mask = held.filter(exists).fold(0, |mask, offset| mask | bit(first, offset));
        let span = span.min(u32::try_from(self.end.saturating_sub(first)).unwrap());
        let mask = if span == 0 { mask } else { mask & ((1_u128 << span) - 1) as u64 };
        let (nonce, deadline_ms) = (self.nonce(), self.now_ms + 30);
        let batch = Batch { first, span, mask, attempt: 1 };
        self.state.lease(batch, nonce, deadline_ms);
        self.log.push(Logged::Lease(batch, nonce, deadline_ms));
        for offset in offsets(first, mask).filter(|offset| !self.done.contains(offset)) {
            let is_free = self.counted.get(&offset).is_none_or(|counted| *counted == 0)
                && !self.leaving.contains(&offset);
            assert_eq!(self.state.handle_state(offset, nonce) == HandleState::Current, is_free);
            if is_free {
                self.counted.insert(offset, 1);
                self.held.insert(offset, (nonce, 1));
            }
        }
        let passed_over = (first..first + u64::from(span))
            .filter(|offset| mask & bit(first, *offset) == 0 && self.was_never_out(*offset));
        self.done.extend(passed_over.collect::<Vec<_>>());
    }

    fn was_never_out(&self, offset: u64) -> bool {
        !self.counted.contains_key(&offset) && !self.revived.contains(&offset)
    }

    fn select_in_order(&mut self, limit: u32, passes: impl Fn(u64) -> bool) -> Option<Batch> {
        loop {
            let mut looks = 25;
            let state = &mut self.state;
            let turn =
                state.select_in_order(self.end, limit, 40, &mut looks, message_group, &passes);
            for skipped in &turn.skipped {
                self.skip(*skipped, &passes);
            }
            if turn.batch.is_some() || turn.skipped.is_empty() {
                return turn.batch;
            }
        }
    }

    /// All earlier messages of its group are done, and no other is in flight.
    fn assert_turn_of(&self, offset: u64) {
        let group = message_group(offset);
        let mut earlier = (0..offset).filter(|other| message_group(*other) == group);
        let before = |other: &u64| self.done.contains(other) || self.before_order.contains(other);
        assert!(earlier.all(|other| before(&other)), "{offset} overtakes one of its message group");
        // One behind it may be acknowledged by who had it before a reset.
        let mut taken = self.held.keys().chain(self.leaving.range(..offset));
        let in_flight = taken.any(|held| message_group(*held) == group);
        assert!(!in_flight, "two of a message group in flight");
    }

    fn acknowledge(&mut self, offset: u64, nonce: u32) {
        let state = self.state.handle_state(offset, nonce);
        let is_holder = self.held.get(&offset).is_some_and(|(current, _)| *current == nonce);
        assert_eq!(state == HandleState::Current, is_holder);
        assert_eq!(state == HandleState::Done, self.done.contains(&offset));
        if matches!(state, HandleState::Current | HandleState::Expired) {
            self.state.acknowledge(offset);
            self.log.push(Logged::Acknowledge(offset));
            self.done.insert(offset);
            self.held.remove(&offset);
            self.revived.remove(&offset);
        }
    }

    /// Who has a message, or had it last, decides its end.
    fn leave(&mut self, offset: u64, nonce: u32) {
        let state = self.state.handle_state(offset, nonce);
        if matches!(state, HandleState::Current | HandleState::Expired) {
            self.state.leave(offset);
            assert_eq!(self.state.handle_state(offset, nonce), HandleState::Leaving);
            self.held.remove(&offset);
            self.leaving.insert(offset);
        }
    }

    fn commit(&mut self) {
        for offset in std::mem::take(&mut self.leaving) {
            self.state.acknowledge(offset);
            self.log.push(Logged::Acknowledge(offset));
            self.done.insert(offset);
            self.revived.remove(&offset);
        }
    }

    fn change(&mut self, offset: u64, nonce: u32, attempt: u32, by_ms: u64) {
        let (new_nonce, deadline_ms) = (self.nonce(), self.now_ms + by_ms);
        let changed = self.state.change_invisible(offset, nonce, attempt, new_nonce, deadline_ms);
        assert!(changed.is_some());
        self.log.push(Logged::Change { offset, nonce, attempt, new_nonce, deadline_ms });
        self.old.push((offset, nonce));
        self.held.insert(offset, (new_nonce, attempt));
    }

    fn release(&mut self, offset: u64, nonce: u32) {
        assert!(self.state.release(offset, nonce).is_some());
        assert!(self.state.release(offset, nonce).is_none(), "given back twice");
        self.log.push(Logged::Release { offset, nonce });
        self.old.push((offset, nonce));
        self.held.remove(&offset);
        *self.counted.entry(offset).or_default() -= 1;
    }

    /// All that is in flight of the batch stays as it is called.
    fn prolong(&mut self, offset: u64, nonce: u32, by_ms: u64) {
        let (first, before) = self.state.lease_of(offset).unwrap();
        let deadline_ms = self.now_ms + by_ms;
        let moved = self.state.prolong(first, nonce, deadline_ms);
        let is_later = deadline_ms > before.deadline_ms;
        assert_eq!(moved, is_later.then_some(before.deadline_ms));
        self.log.push(Logged::Prolong { first, nonce, deadline_ms });
        let after = self.state.lease_of(offset).unwrap().1;
        let deadline_ms = deadline_ms.max(before.deadline_ms);
        assert_eq!(after, LeaseBatch { deadline_ms, ..before });
    }

    fn wait(&mut self, by_ms: u64) {
        self.now_ms += by_ms;
        let due: Vec<_> = self
            .state
            .leases()
            .filter(|(_, lease)| lease.deadline_ms <= self.now_ms)
            .map(|(first, lease)| (first, *lease))
            .collect();
        for (first, lease) in due {
            let exhausted = self.state.expire(first, lease.nonce, ATTEMPTS_MAX);
            assert_eq!(exhausted.is_empty(), lease.attempt < ATTEMPTS_MAX);
            for offset in offsets(first, lease.mask) {
                let (nonce, _) = self.held.remove(&offset).expect("only what is held expires");
                self.old.push((offset, nonce));
            }
            for offset in exhausted {
                self.dead.insert(offset);
                self.state.acknowledge(offset);
                self.log.push(Logged::Acknowledge(offset));
                self.done.insert(offset);
                self.revived.remove(&offset);
            }
        }
    }

    fn acknowledge_ahead(&mut self, by: u64) {
        let offset = self.state.next + by;
        if offset < self.end {
            self.leaving.remove(&offset);
            self.state.acknowledge(offset);
            self.log.push(Logged::Acknowledge(offset));
            self.done.insert(offset);
            self.held.remove(&offset);
            self.revived.remove(&offset);
        }
    }

    fn skip_ahead(&mut self, by: u64, count: u64) {
        let first = self.state.next + by;
        let end = self.end.min(first + count);
        self.state.skip(first, end);
        self.log.push(Logged::Skip(first, end));
        let skipped = (first..end).filter(|offset| self.was_never_out(*offset));
        self.done.extend(skipped.collect::<Vec<_>>());
    }

    fn step(&mut self, step: &Step) {
        let pick = |index: &prop::sample::Index, held: &BTreeMap<u64, (u32, u32)>| {
            (!held.is_empty())
                .then(|| held.iter().nth(index.index(held.len())).map(|(o, h)| (*o, *h)))?
        };
        match step {
            Step::Append(count) => self.end += count,
            Step::Receive { limit, filter } => self.receive(*limit, *filter),
            Step::Acknowledge(index) => {
                if let Some((offset, (nonce, _))) = pick(index, &self.held) {
                    self.acknowledge(offset, nonce);
                }
            }
            Step::AcknowledgeOld(index) => {
                if !self.old.is_empty() {
                    let (offset, nonce) = self.old[index.index(self.old.len())];
                    self.acknowledge(offset, nonce);
                }
            }
            Step::Change { which, by_ms } => {
                if let Some((offset, (nonce, attempt))) = pick(which, &self.held) {
                    self.change(offset, nonce, attempt, *by_ms);
                }
            }
            Step::Release(index) => {
                if let Some((offset, (nonce, _))) = pick(index, &self.held) {
                    self.release(offset, nonce);
                }
            }
            Step::Prolong { which, by_ms } => {
                if let Some((offset, (nonce, _))) = pick(which, &self.held) {
                    self.prolong(offset, nonce, *by_ms);
                }
            }
            Step::Leave(index) => {
                // One whose delivery is over, or one that is held.
                let of_old = index.index(self.old.len().max(1));
                let old = self.old.get(of_old).copied().filter(|_| index.index(2) == 0);
                let held = pick(index, &self.held).map(|(offset, (nonce, _))| (offset, nonce));
                if let Some((offset, nonce)) = old.or(held) {
                    self.leave(offset, nonce);
                }
            }
            Step::Commit => self.commit(),
            Step::Wait(by_ms) => self.wait(*by_ms),
            Step::Revive(index) => {
                if !self.done.is_empty() {
                    let offset = *self.done.iter().nth(index.index(self.done.len())).unwrap();
                    self.state.revive(offset, message_group(offset));
                    self.log.push(Logged::Revive(offset));
                    self.done.remove(&offset);
                    self.counted.remove(&offset);
                    self.revived.insert(offset);
                    // What was behind it may be in flight already.
                    self.before_order.insert(offset);
                }
            }
            Step::SwitchOrder => {
                self.is_ordered = !self.is_ordered;
                if !self.is_ordered {
                    self.state.forget_order();
                }
            }
            Step::LeaseAhead { by, span, mask } => self.lease_ahead(*by, *span, *mask),
            Step::AcknowledgeAhead(by) => self.acknowledge_ahead(*by),
            Step::SkipAhead { by, count } => self.skip_ahead(*by, *count),
        }
        let done_above = self.done.iter().filter(|offset| **offset < self.end).count() as u64;
        assert_eq!(self.state.lag(self.end), self.end - done_above);
        assert_eq!(self.state.inflight(), self.held.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_message_is_delivered_until_it_is_done_and_never_to_two_at_once(steps in steps()) {
        let mut model = Model::default();
        steps.iter().for_each(|step| model.step(step));
        model.commit();
        // Drain: whatever is not done must still come, to a consumer that takes everything.
        for _ in 0..1_000 {
            model.wait(1_000);
            model.receive(32, 1);
            let held: Vec<_> = model.held.iter().map(|(o, (n, _))| (*o, *n)).collect();
            held.into_iter().for_each(|(offset, nonce)| model.acknowledge(offset, nonce));
        }
        prop_assert_eq!(model.done.len() as u64, model.end);
        prop_assert_eq!(model.state.cursor(), model.end);
    }

    #[test]
    fn replaying_the_log_gives_the_same_progress(steps in steps()) {
        let mut model = Model::default();
        steps.iter().for_each(|step| model.step(step));
        model.commit();
        model.wait(0);
        let mut replayed = GroupQueue::default();
        for logged in &model.log {
            match logged {
                Logged::Lease(batch, nonce, deadline_ms) => {
                    replayed.lease(*batch, *nonce, *deadline_ms);
                    prop_assert!(!replayed.lease(*batch, *nonce, *deadline_ms), "applied twice");
                }
                Logged::Skip(first, end) => replayed.skip(*first, *end),
                Logged::Acknowledge(offset) => {
                    replayed.acknowledge(*offset);
                }
                Logged::Change { offset, nonce, attempt, new_nonce, deadline_ms } => {
                    replayed.change_invisible(*offset, *nonce, *attempt, *new_nonce, *deadline_ms);
                }
                Logged::Release { offset, nonce } => {
                    replayed.release(*offset, *nonce);
                }
                Logged::Prolong { first, nonce, deadline_ms } => {
                    replayed.prolong(*first, *nonce, *deadline_ms);
                }
                Logged::Revive(offset) => replayed.revive(*offset, message_group(*offset)),
            }
        }
        prop_assert_eq!(replayed.cursor(), model.state.cursor());
        for offset in 0..model.end {
            prop_assert_eq!(replayed.is_done(offset), model.state.is_done(offset));
        }
        // What expired by time alone is still leased in the replay, until time passes there too.
        let due: Vec<_> = replayed.leases().map(|(first, lease)| (first, *lease)).collect();
        for (first, lease) in due.iter().filter(|(_, lease)| lease.deadline_ms <= model.now_ms) {
            replayed.expire(*first, lease.nonce, ATTEMPTS_MAX);
        }
        prop_assert_eq!(replayed.inflight(), model.state.inflight());
    }
}

#[test]
fn a_filter_that_nothing_passes_finishes_messages_without_delivering_them() {
    let mut queue = GroupQueue::default();
    while let Some(batch) = queue.select_new(200, 32, |_| false) {
        assert_eq!(batch.mask, 0);
        assert!(queue.lease(batch, 1, 10));
    }
    assert_eq!((queue.cursor(), queue.lag(200), queue.inflight()), (200, 0, 0));
}

#[test]
fn no_look_goes_on_for_longer_than_it_may() {
    let mut queue = GroupQueue::default();
    let mut looks = 500;
    assert_eq!(queue.look_for_new(100_000, &mut looks, |_| false), 0..500);
    queue.skip(0, 500);
    queue.skip(0, 500);
    assert_eq!((queue.cursor(), looks), (500, 0), "the next look goes on there");
    assert!(queue.has_ready(100_000));
    for batch in (0..10).map(|n| 500 + n * 64) {
        queue.lease(Batch { first: batch, span: 64, mask: u64::MAX, attempt: 1 }, 7, 100);
        queue.expire(batch, 7, 5);
    }
    let tag_of = |offset| Some(u64::from(offset > 1_100));
    looks = 100;
    assert_eq!(queue.select_again(32, Some(&[1]), &mut looks, tag_of), Turn::default());
    assert!(looks == 0 && queue.may_have_due(Some(&[1])));
    let mut looks = 1_000;
    let found = queue.select_again(32, Some(&[1]), &mut looks, tag_of).batch.unwrap();
    assert_eq!((found.first, found.mask.count_ones(), looks), (1_101, 32, 460));
    assert!(!queue.may_have_due(Some(&[2])), "all is known by now");
    let mut queue = GroupQueue::default();
    let mut looks = 500;
    let turn = queue.select_in_order(100_000, 32, 1_000, &mut looks, |_| 7, |_| false);
    assert_eq!((turn.batch, looks), (None, 0), "of one message group, so that none is free before");
    assert!(turn.skipped.len() <= 1 && queue.next <= 500);
}

#[test]
fn a_stale_handle_is_told_from_an_expired_one() {
    let mut queue = GroupQueue::default();
    let batch = queue.select_new(1, 1, |_| true).unwrap();
    queue.lease(batch, 7, 100);
    assert_eq!(queue.handle_state(0, 7), HandleState::Current);
    queue.expire(0, 7, 5);
    assert_eq!(
        queue.handle_state(0, 7),
        HandleState::Expired,
        "nobody else has it: an ack still counts"
    );
    let again = queue.select_again(1, None, &mut 9, |_| Some(0)).batch.unwrap();
    assert_eq!(again.attempt, 2);
    queue.lease(again, 8, 200);
    assert_eq!(queue.handle_state(0, 7), HandleState::Stale);
    queue.expire(0, 8, 5);
    assert_eq!(queue.handle_state(0, 7), HandleState::Stale, "only the last delivery counts");
    assert_eq!(queue.handle_state(0, 8), HandleState::Expired);
    queue.acknowledge(0);
    assert_eq!(queue.handle_state(0, 7), HandleState::Done);
}

#[test]
fn what_leaves_does_not_expire_and_is_nobodys() {
    let mut queue = GroupQueue::default();
    let batch = queue.select_new(2, 2, |_| true).unwrap();
    queue.lease(batch, 7, 100);
    queue.leave(0);
    assert_eq!(queue.handle_state(0, 7), HandleState::Leaving);
    assert!(queue.expire(0, 7, 1).iter().eq(&[1]), "the other one of its batch expires");
    assert!(queue.select_again(2, None, &mut 9, |_| Some(0)).batch.is_none());
    queue.acknowledge(0);
    assert_eq!(queue.handle_state(0, 7), HandleState::Done);
    assert_eq!((queue.cursor(), queue.inflight()), (1, 0));
}

#[test]
fn an_acknowledgement_after_the_last_delivery_expired_is_too_late() {
    let mut queue = GroupQueue::default();
    let batch = queue.select_new(1, 1, |_| true).unwrap();
    queue.lease(batch, 7, 100);
    assert_eq!(queue.expire(0, 7, 1), [0], "it had its only delivery");
    assert_eq!(queue.handle_state(0, 7), HandleState::Exhausted, "it will be a dead letter");
    queue.bury(0);
    assert_eq!(queue.handle_state(0, 7), HandleState::Dead, "it is one");
}

#[test]
fn a_batch_of_new_messages_counts_although_an_acknowledgement_from_before_a_reset_is_read_first() {
    let mut queue = GroupQueue::default();
    queue.reset(0);
    queue.acknowledge(6);
    let batch = Batch { first: 0, span: 4, mask: 0b1011, attempt: 1 };
    assert!(queue.lease(batch, 7, 100), "it was decided before the acknowledgement was applied");
    assert!(!queue.lease(batch, 7, 100), "once");
    assert_eq!(queue.inflight(), 3);
    assert_eq!(queue.handle_state(0, 7), HandleState::Current);
    assert_eq!(queue.handle_state(2, 7), HandleState::Done, "it did not pass the filter");
    queue.expire(0, 7, 5);
    assert_eq!(
        queue.select_again(10, None, &mut 9, |_| Some(0)).batch.map(|again| again.attempt),
        Some(2)
    );
    let new = queue.select_new(8, 10, |_| true).unwrap();
    assert_eq!((new.first, new.mask), (4, 0b1011), "nobody looked at those between");
}

#[test]
fn what_is_done_far_ahead_is_one_step_and_one_range() {
    let end = 1 << 50;
    let mut queue = GroupQueue::default();
    for offset in (end - 1_000..end).rev() {
        queue.acknowledge(offset);
    }
    queue.skip(end - 2_000, end - 1_000);
    assert_eq!(queue.done.ranges().len(), 1);
    assert_eq!((queue.next(), queue.again.len(), queue.lag(end)), (0, 0, end - 2_000));
    assert!(queue.not_done_in(0..end).eq(std::iter::once(0..end - 2_000)));
    assert!(queue.lease(Batch { first: end - 3_000, span: 0, mask: 1, attempt: 1 }, 7, 100));
    assert_eq!(queue.handle_state(end - 3_000, 7), HandleState::Current);
    let hash_of = |offset| u64::from(offset >= 9);
    let turn = queue.select_in_order(end, 1, 100, &mut 20, hash_of, |_| true);
    assert!(queue.lease(turn.batch.unwrap(), 8, 200));
    queue.expire(end - 3_000, 7, 5);
    let turn = queue.select_in_order(end, 1, 100, &mut 20, hash_of, |_| true);
    assert_eq!(turn.batch.map(|batch| batch.first), Some(9), "it overtakes nobody of its group");
    queue.skip(0, end - 3_000);
    let turn = queue.select_in_order(end, 1, 100, &mut 9, |_| 7, |_| true);
    assert_eq!(turn.batch.map(|batch| (batch.first, batch.attempt)), Some((end - 3_000, 2)));
}

#[test]
fn a_delivery_that_reached_nobody_does_not_count_and_its_message_stays_the_first_of_its_group() {
    let mut queue = GroupQueue::default();
    for nonce in 1..5 {
        let turn = queue.select_in_order(3, 32, 100, &mut 9, |_| 7, |_| true);
        assert_eq!(
            turn.batch.map(|batch| (batch.first, batch.mask, batch.attempt)),
            Some((0, 1, 1))
        );
        assert!(queue.lease(turn.batch.unwrap(), nonce, 100));
        assert!(queue.release(0, nonce).is_some());
        assert!(!queue.lease(turn.batch.unwrap(), nonce, 100), "committed after it was given back");
    }
    assert!(queue.expire(0, 4, 1).is_empty(), "it is nobody's and does not expire");
    let concurrent = GroupQueue::default().select_new(3, 2, |_| true).unwrap();
    let mut queue = GroupQueue::default();
    queue.lease(concurrent, 9, 100);
    queue.release(1, 9);
    assert_eq!(queue.handle_state(0, 9), HandleState::Current, "the other one of its batch stays");
    let again = queue.select_again(32, None, &mut 9, |_| Some(0)).batch.unwrap();
    assert_eq!((again.first, again.mask, again.attempt), (1, 1, 1));
}

proptest! {
    #[test]
    fn to_skip_ranges_of_untouched_progress_is_to_acknowledge_each_of_their_messages(
        cursor in 0..20u64, ranges in proptest::collection::btree_set(0..60u64, 0..12),
    ) {
        let mut skipped = GroupQueue::default();
        skipped.reset(cursor);
        let mut acknowledged = skipped.clone();
        let ranges: Vec<u64> = ranges.into_iter().collect();
        for range in ranges.chunks_exact(2) {
            skipped.skip(range[0].max(cursor), range[1]);
            for offset in range[0].max(cursor)..range[1] {
                acknowledged.acknowledge(offset);
            }
        }
        prop_assert_eq!(skipped, acknowledged);
    }
}
