//! Transactions: the shard asks for a producer in time and often enough before it rolls back by itself, and never too often.

use std::collections::BTreeMap;

use broker_engine::{EndTransaction, Refusal, Reply, Visible};
use broker_model::limits::{TRANSACTION_AGE_MS_MAX, TRANSACTION_CHECKS_MAX};

use super::Checker;
use super::times::Between;

/// What is known of the questions about one transaction.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    /// Questions, and those that the shard was told to count.
    questions: u32,
    counted: u32,
    /// When the half message was stored; none while that is not answered.
    stored: Option<Between>,
    check_after_ms: u64,
    /// The first question comes then at the latest, by the broker's steady time like all times here.
    due_ms: u64,
}

/// About all transactions, by number.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<u64, Asked>);

impl Questions {
    /// After a start the pause before the first question may begin again.
    pub(super) fn begin_again(&mut self, begin_ms: u64) {
        for asked in self.0.values_mut() {
            asked.due_ms = asked.due_ms.max(begin_ms + asked.check_after_ms);
        }
    }
}

impl Checker {
    pub(super) fn half_stored(&mut self, id: u64, number: u64, stored: Between) {
        let Ok(Visible::OnCommit { check_after_ms }) = self.message(id).map(|m| m.visible) else {
            return;
        };
        let asked = self.questions.0.entry(number).or_default();
        asked.stored = Some(stored);
        asked.check_after_ms = check_after_ms;
        asked.due_ms = stored.latest_ms + check_after_ms;
    }

    /// The shard wants a producer to be asked, whether or not the message can be read.
    pub fn question(&mut self, number: u64) {
        self.questions.0.entry(number).or_default().questions += 1;
    }

    pub(super) fn question_counted(&mut self, number: u64) {
        self.questions.0.entry(number).or_default().counted += 1;
    }

    /// One more question is right only while fewer have been counted.
    pub(super) fn check_questions(&self, number: u64) -> Result<(), String> {
        let counted = self.questions.0.get(&number).map_or(0, |asked| asked.counted);
        if counted >= TRANSACTION_CHECKS_MAX {
            return Err(format!("transaction {number} is asked about after {counted} questions"));
        }
        Ok(())
    }

    /// Whose first question is late.
    pub(super) fn check_question_times(&self, now_ms: u64) -> Result<(), String> {
        let is_late = |number: &u64, asked: &Asked| {
            let ends = self.ends.get(number).copied().unwrap_or_default();
            let is_open = asked.stored.is_some() && !ends.shown_asked && !ends.gone_asked;
            is_open && asked.questions == 0 && asked.due_ms <= now_ms
        };
        match self.questions.0.iter().find(|(number, asked)| is_late(number, asked)) {
            Some((number, asked)) => Err(format!(
                "transaction {number} got no questions until {now_ms}, due at {}",
                asked.due_ms
            )),
            None => Ok(()),
        }
    }

    pub(super) fn ended(
        &mut self,
        end: &EndTransaction,
        reply: &Reply,
        now_ms: u64,
    ) -> Result<(), String> {
        let number = end.id.number;
        let ends = self.ends.entry(number).or_default();
        match reply {
            Ok(_) if end.is_commit => ends.shown = true,
            Ok(_) => ends.gone = true,
            Err(Refusal::TransactionEnded { is_commit }) if *is_commit == end.is_commit => {
                return Err("a transaction was refused its own end".to_owned());
            }
            Err(Refusal::TransactionEnded { .. }) if end.is_commit && !ends.gone_asked => {
                return self.check_own_rollback(number, now_ms);
            }
            Err(_) => {}
        }
        if ends.shown && ends.gone {
            return Err(format!("transaction {number} ended both ways"));
        }
        Ok(())
    }

    /// Nobody asked for it: the shard rolled back by itself.
    fn check_own_rollback(&self, number: u64, now_ms: u64) -> Result<(), String> {
        let asked = self.questions.0.get(&number).copied().unwrap_or_default();
        let Some(stored) = asked.stored else { return Ok(()) };
        let set_back = self.steady_set_back.iter();
        let latest_ms = set_back.map(|(_, last_ms)| *last_ms).fold(now_ms, u64::max);
        let may_be_old = latest_ms - stored.earliest_ms.min(latest_ms) > TRANSACTION_AGE_MS_MAX;
        if asked.questions < TRANSACTION_CHECKS_MAX && !may_be_old {
            return Err(format!(
                "transaction {number} was rolled back after {} questions",
                asked.questions
            ));
        }
        Ok(())
    }
}
