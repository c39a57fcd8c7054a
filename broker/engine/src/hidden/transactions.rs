//! Half messages by transaction, with the time of the next check, and how ended transactions ended.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::HiddenMessage;

/// Ends of transactions remembered, so that a repeated end gets the same answer.
const ENDED_TRANSACTIONS_MAX: usize = 100_000;

/// A half message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HalfMessage {
    pub(crate) message: HiddenMessage,
    /// When it was stored, Unix time.
    pub(crate) stored_ms: u64,
    /// The same in steady time.
    pub(crate) begun_ms: u64,
    /// How often its producer was asked.
    pub(crate) checks: u32,
    /// When its producer is asked next.
    pub(crate) check_at_ms: u64,
}

/// All transactions of a shard.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    open: HashMap<u64, HalfMessage>,
    checks: BTreeSet<(u64, u64)>,
    /// Decided to end this way, and not committed yet.
    ending: HashMap<u64, bool>,
    ended: HashMap<u64, bool>,
    ended_order: VecDeque<u64>,
    next_number: u64,
}

impl Transactions {
    pub(crate) fn take_number(&mut self) -> u64 {
        self.next_number = self.next_number.saturating_add(1);
        self.next_number
    }

    pub(crate) fn insert(&mut self, number: u64, half: HalfMessage) {
        self.next_number = self.next_number.max(number);
        self.checks.insert((half.check_at_ms, number));
        self.open.insert(number, half);
    }

    pub(crate) fn get(&self, number: u64) -> Option<&HalfMessage> {
        self.open.get(&number)
    }

    /// Whether it was begun here, and how it ended or will, if that is known.
    pub(crate) fn end_of(&self, number: u64) -> Option<bool> {
        self.ending.get(&number).or_else(|| self.ended.get(&number)).copied()
    }

    pub(crate) fn was_begun(&self, number: u64) -> bool {
        (1..=self.next_number).contains(&number)
    }

    /// Decides the end.
    pub(crate) fn end(&mut self, number: u64, is_commit: bool) {
        self.ending.insert(number, is_commit);
    }

    /// Carries out the end; the half message, unless it had ended before.
    pub(crate) fn remove(&mut self, number: u64, is_commit: bool) -> Option<HalfMessage> {
        self.ending.remove(&number);
        let half = self.open.remove(&number)?;
        self.checks.remove(&(half.check_at_ms, number));
        self.remember_end(number, is_commit);
        Some(half)
    }

    pub(crate) fn note_check(&mut self, number: u64) {
        if let Some(half) = self.open.get_mut(&number) {
            half.checks = half.checks.saturating_add(1);
        }
    }

    /// When the next producer is to be asked.
    pub(crate) fn next_check_ms(&self) -> Option<u64> {
        self.checks.first().map(|(check_at_ms, _)| *check_at_ms)
    }

    /// The next transaction to check by now; its next check is then `interval_ms` later.
    pub(crate) fn take_due(&mut self, now_ms: u64, interval_ms: u64) -> Option<(u64, HalfMessage)> {
        let (check_at_ms, number) = self.checks.first().copied()?;
        if check_at_ms > now_ms {
            return None;
        }
        self.checks.remove(&(check_at_ms, number));
        let half = self.open.get_mut(&number)?;
        half.check_at_ms = now_ms.saturating_add(interval_ms);
        self.checks.insert((half.check_at_ms, number));
        Some((number, *half))
    }

    /// The last number given.
    pub(crate) fn last_number(&self) -> u64 {
        self.next_number
    }

    pub(crate) fn set_last_number(&mut self, number: u64) {
        self.next_number = self.next_number.max(number);
    }

    /// Every transaction that has not ended, by number.
    pub(crate) fn open(&self) -> Vec<(u64, HalfMessage)> {
        let mut open: Vec<_> = self.open.iter().map(|(number, half)| (*number, *half)).collect();
        open.sort_unstable_by_key(|(number, _)| *number);
        open
    }

    /// Those that have not ended, by the time of their next check and number, from there on.
    pub(crate) fn open_from(
        &self,
        from: (u64, u64),
    ) -> impl Iterator<Item = ((u64, u64), &HalfMessage)> {
        let checks = self.checks.range(from..);
        checks.filter_map(|check| Some((*check, self.open.get(&check.1)?)))
    }

    /// How transactions ended that are remembered, the oldest first.
    pub(crate) fn ended(&self) -> impl Iterator<Item = (u64, bool)> {
        self.ended_order.iter().filter_map(|number| Some((*number, *self.ended.get(number)?)))
    }

    pub(crate) fn remember_end(&mut self, number: u64, is_commit: bool) {
        self.ended.insert(number, is_commit);
        self.ended_order.push_back(number);
        if self.ended_order.len() > ENDED_TRANSACTIONS_MAX {
            self.ended_order.pop_front().map(|oldest| self.ended.remove(&oldest));
        }
    }

    /// Forgets the transactions of a topic; says how many they were.
    pub(crate) fn forget_topic(&mut self, topic: u32) -> u64 {
        let check = |(number, half): (&u64, &HalfMessage)| (half.check_at_ms, *number);
        let gone = self.open.iter().filter(|(_, half)| half.message.topic == topic);
        let gone: Vec<(u64, u64)> = gone.map(check).collect();
        let left = self.open.len().saturating_sub(gone.len());
        // Whichever is less work: to take out what goes, or to gather what stays.
        if gone.len() < left {
            for check in &gone {
                self.checks.remove(check);
                self.open.remove(&check.1);
            }
        } else {
            self.open.retain(|_, half| half.message.topic != topic);
            self.checks = self.open.iter().map(check).collect();
        }
        gone.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_topic_leaves_behind_is_nothing_and_the_others_are_asked_as_before() {
        // Of ten transactions so many are of the topic that goes.
        for of_topic in 0..=10 {
            let mut transactions = Transactions::default();
            for number in 1..=10 {
                let topic = if number <= of_topic { 1 } else { 2 };
                let message = HiddenMessage {
                    position: number,
                    tag_hash: 0,
                    length_bytes: 1,
                    topic,
                    queue: 0,
                };
                let check_at_ms = 100 - number;
                let half =
                    HalfMessage { message, stored_ms: 0, begun_ms: 0, checks: 0, check_at_ms };
                transactions.insert(number, half);
            }
            assert_eq!(transactions.forget_topic(1), of_topic);
            let open: Vec<u64> = transactions.open().into_iter().map(|(n, _)| n).collect();
            assert_eq!(open, (of_topic + 1..=10).collect::<Vec<_>>());
            let checks: Vec<(u64, u64)> = transactions.checks.iter().copied().collect();
            let expected = (of_topic + 1..=10).rev().map(|number| (100 - number, number));
            assert_eq!(checks, expected.collect::<Vec<_>>());
        }
    }
}
