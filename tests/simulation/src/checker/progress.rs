//! What is known of one message for one reader: a group, or a consumer of a broadcasting one.

use std::ops::RangeInclusive;

use super::waiting::Before;

/// See the head of this file.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// The last delivery seen, from 1.
    pub(super) attempt: u32,
    /// Deliveries that no crash can take back.
    floor: u32,
    /// A crash may have taken the last delivery back.
    lost: bool,
    /// The last delivery reached nobody and was given back: the next one may have its number.
    is_released: bool,
    /// In time, and the process has lived since: the next one has its number.
    is_uncounted: bool,
    /// The event by which it was given back, ahead of its time: a receive that was asked before does not find it.
    given_back: u64,
    /// Lost receives of the group when it was last looked at.
    pub(super) lost_receives: u64,
    pub(super) nonce: u32,
    until_ms: u64,
    decided: u64,
    /// Somebody has it, as far as anybody knows.
    is_held: bool,
    /// The same, whether or not who has it said that it is done.
    is_lasting: bool,
    /// A new name was asked for and not answered.
    pub(super) is_renaming: bool,
    /// An answered acknowledgement, or what comes to the same.
    pub(super) is_done: bool,
    /// When it was brought back as new.
    renewed: u64,
    /// Acknowledgements asked before that came before or after a reset, nobody knows.
    unclear_until: u64,
    /// One of these was answered with yes, and it did not come again since.
    pub(super) is_beside_reset: bool,
    /// When the last acknowledgement was asked.
    pub(super) done_asked: u64,
    /// Asked and not answered in this life, and in earlier ones.
    pub(super) unknown: u32,
    pub(super) ghosts: u32,
    /// It may be done, or new, for another reason.
    pub(super) is_unsure: bool,
    /// The delivery that told how it really was: a crash may take it back, and then all is as unsure as before.
    told: Option<u64>,
    /// A reset that was answered made it new.
    pub(super) is_owed: bool,
    pub(super) is_dead: bool,
    pub(super) may_be_dead: bool,
    /// There may be a dead letter of it, whatever became of it since.
    pub(super) has_dead_letter: bool,
    /// The last delivery was counted among the deaths.
    is_last: bool,
    /// Acknowledgements that were asked while it was held for certain.
    in_time: Vec<u64>,
    /// A redrive was asked since it may be dead.
    pub(super) may_revive: bool,
    pub(super) revivals: u64,
    /// Most times that it may have become a dead letter.
    pub(super) deaths_max: u64,
}

impl Progress {
    /// The process died; what was decided before `durable` is kept.
    pub(super) fn killed(&mut self, durable: u64) {
        self.ghosts += std::mem::take(&mut self.unknown);
        self.is_uncounted = false;
        self.is_unsure |= self.told.take().is_some_and(|told| told >= durable);
        if self.lost {
            // From an earlier life, and not seen since.
            return;
        }
        if self.attempt > 0 && self.decided < durable && !self.is_renaming {
            self.floor = self.counted();
        } else if self.attempt > 0 {
            self.lost = true;
            self.is_held = false;
            self.is_lasting = false;
        }
    }

    /// The broker's steady time goes through this range once more.
    pub(super) fn may_be_held_again(&mut self, times: &RangeInclusive<u64>) {
        if times.contains(&self.until_ms) {
            self.unsettle();
        }
    }

    /// Whether a handle with this name may be the valid one.
    pub(super) fn may_be_called(&self, nonce: u32) -> bool {
        self.nonce == nonce || self.is_renaming || self.lost || self.is_unsure
    }

    pub(super) fn is_held(&self, now_ms: u64) -> bool {
        self.is_held && now_ms < self.until_ms
    }

    /// An acknowledgement of this delivery was asked.
    pub(super) fn acknowledge(&mut self, nonce: u32, now_ms: u64, asked: u64) {
        let is_current = self.is_lasting && now_ms < self.until_ms;
        if is_current && self.nonce == nonce && !self.is_renaming {
            self.in_time.push(asked);
        }
        self.is_held &= self.nonce != nonce && !self.is_renaming;
        self.unknown += 1;
        self.done_asked = asked;
    }

    /// It was answered with yes.
    pub(super) fn acknowledged(&mut self, asked: u64) {
        if asked < self.renewed {
            // It was done when that was asked, and was brought back since.
            return;
        }
        if asked < self.unclear_until {
            self.is_unsure = true;
            self.is_beside_reset = true;
            return;
        }
        self.is_done = true;
        self.done_asked = self.done_asked.max(asked);
        if self.in_time.contains(&asked) && std::mem::take(&mut self.is_last) {
            // Who acknowledges in time keeps a message from dying of its last attempt.
            self.deaths_max -= 1;
            self.has_dead_letter = self.deaths_max > 0;
        }
    }

    /// Giving up on it was asked.
    pub(super) fn give_up(&mut self, nonce: u32, asked: u64) {
        self.done_asked = asked;
        self.let_go(nonce);
        if !self.may_be_dead && !self.is_last {
            self.deaths_max += 1;
        }
        self.may_be_dead = true;
        self.has_dead_letter = true;
        self.is_last = false;
    }

    /// It may die of the delivery that was just noted.
    pub(super) fn was_last(&mut self) {
        self.deaths_max += 1;
        self.has_dead_letter = true;
        self.is_last = true;
    }

    pub(super) fn let_go(&mut self, nonce: u32) {
        if self.nonce == nonce || self.is_renaming {
            self.is_held = false;
            self.is_lasting = false;
        }
    }

    /// Attempt numbers that the next delivery may have, `extra` deliveries having perhaps not been seen.
    pub(super) fn next_attempts(&self, extra: u64) -> (u32, u32) {
        let high = self.attempt.saturating_add(1).saturating_add(extra.try_into().unwrap_or(9_999));
        if self.is_unsure {
            return (1, u32::MAX);
        }
        let high = high - u32::from(self.is_uncounted && extra == 0);
        (if self.lost { self.floor + 1 } else { self.counted() + 1 }, high)
    }

    /// The deliveries that count for certain.
    fn counted(&self) -> u32 {
        self.attempt - u32::from(self.is_released)
    }

    /// It was asked to take this delivery back, which reached nobody.
    pub(super) fn release(&mut self, nonce: u32, at: Before, may_be_refused: bool) {
        let is_it = self.is_held && self.nonce == nonce && self.attempt > 0;
        self.is_released |= is_it;
        if is_it && at.now_ms < self.until_ms && !self.is_renaming && !may_be_refused {
            self.is_uncounted = true;
            self.given_back = at.seq;
            self.until_ms = at.now_ms;
        }
        self.let_go(nonce);
    }

    /// Whether it may have used up its deliveries.
    pub(super) fn may_be_exhausted(&self, extra: u64, attempts_max: u32) -> bool {
        u64::from(self.attempt) + extra >= u64::from(attempts_max)
    }

    /// Whether nobody can have it, `lost_receives` of the group having perhaps not been seen.
    pub(super) fn is_free(&self, lost_receives: u64, before: Before) -> bool {
        let is_certain = self.unknown + self.ghosts == 0
            && !self.lost
            && !self.is_renaming
            && !self.is_unsure
            && self.lost_receives >= lost_receives;
        let is_back = self.until_ms <= before.now_ms && self.given_back <= before.seq;
        is_certain && (self.attempt == 0 || is_back)
    }

    /// Whether the next receive finds it.
    pub(super) fn waits(&self, lost_receives: u64, attempts_max: u32, before: Before) -> bool {
        self.is_open()
            && self.is_free(lost_receives, before)
            && self.attempt - u32::from(self.is_uncounted) < attempts_max
    }

    /// Whether it is done for certain, and stays so.
    pub(super) fn is_over(&self) -> bool {
        self.is_done && !self.is_unsure && !self.may_revive && self.revivals == 0
    }

    /// Nobody has it and nothing says that it is done.
    pub(super) fn is_open(&self) -> bool {
        let is_over = self.is_done || self.is_dead || self.may_be_dead;
        !is_over && self.ghosts == 0 && !self.is_unsure && !self.may_revive && self.revivals == 0
    }

    /// Whether giving up on it makes it a dead letter for certain.
    pub(super) fn is_open_to_death(&self) -> bool {
        !self.is_done && self.unknown + self.ghosts == 0 && !self.is_unsure && !self.lost
    }

    /// A reset may have changed it in any way.
    pub(super) fn unsettle(&mut self) {
        self.is_unsure = true;
        self.is_held = false;
        self.is_lasting = false;
        self.may_be_dead |= std::mem::take(&mut self.is_dead);
    }

    /// The same, by a reset that was answered then.
    pub(super) fn unsettle_until(&mut self, answered: Option<u64>) {
        self.unsettle();
        self.unclear_until = self.unclear_until.max(answered.unwrap_or(0));
    }

    /// As if it had never been delivered.
    pub(super) fn renew(&mut self, seq: u64) {
        *self = Self {
            renewed: seq,
            lost_receives: self.lost_receives,
            deaths_max: self.deaths_max,
            has_dead_letter: self.has_dead_letter,
            may_revive: self.may_revive,
            revivals: self.revivals,
            ..Self::default()
        };
    }

    pub(super) fn deliver(&mut self, attempt: u32, nonce: u32, until_ms: u64, decided: u64) {
        self.attempt = attempt;
        self.nonce = nonce;
        self.until_ms = until_ms;
        self.decided = decided;
        self.is_held = true;
        self.is_lasting = true;
        self.lost = false;
        self.is_released = false;
        self.is_uncounted = false;
        self.given_back = 0;
        self.is_renaming = false;
        self.ghosts = 0;
        if std::mem::take(&mut self.is_unsure) {
            self.told = Some(decided);
            self.floor = self.floor.min(attempt.saturating_sub(1));
        }
        self.is_last = false;
        self.in_time.clear();
    }

    pub(super) fn renamed(&mut self, nonce: u32, until_ms: u64, decided: u64, is_over: bool) {
        self.nonce = nonce;
        self.until_ms = until_ms;
        self.decided = decided;
        self.is_held = !is_over;
        self.is_lasting = !is_over;
        self.lost = false;
        self.is_renaming = false;
    }
}
