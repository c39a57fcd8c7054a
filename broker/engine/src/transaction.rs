//! Transactions: a half message becomes visible on commit and is gone on rollback; its producer is asked when neither
//! comes (protocol section 5.2).

use broker_model::TransactionId;
use broker_model::limits::{
    TRANSACTION_AGE_MS_MAX, TRANSACTION_CHECK_INTERVAL_MS, TRANSACTION_CHECKS_MAX,
};
#[cfg(feature = "simulation")]
use broker_store::switches::{Bug, has_bug};
use broker_store::{Log, MessageIdentity, Record, Stored};

use crate::command::{EndTransaction, Outcome, TransactionCheck};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::hidden::{HalfMessage, HiddenMessage};
use crate::receive::source_at;
use crate::refusal::Refusal;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn end_transaction(
        &mut self,
        request: &EndTransaction,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        match self.decide_end(request) {
            Ok(is_news) => {
                if is_news {
                    self.append_end(request.id.number, request.is_commit, effects);
                    effects.on_commit.push((reply, Ok(Outcome::Done)));
                } else {
                    effects.now.push((reply, Ok(Outcome::Done)));
                }
            }
            Err(refusal) => effects.now.push((reply, Err(refusal))),
        }
    }

    /// Whether the end is to be logged: repeating an end that was committed is not.
    fn decide_end(&self, request: &EndTransaction) -> Result<bool, Refusal> {
        let EndTransaction { topic, id, is_commit } = request;
        self.check_transaction(id)?;
        let number = id.number;
        if (id.shard, id.topic) != (self.shard, self.topic_number(topic)?) {
            return Err(Refusal::TransactionNotFound);
        }
        match self.state.transactions.end_of(number) {
            Some(ended) if ended != *is_commit => {
                Err(Refusal::TransactionEnded { is_commit: ended })
            }
            // Ended the same way, or about to: in that case the answer waits for the commit.
            Some(_) => Ok(self.state.transactions.get(number).is_some()),
            None if self.state.transactions.get(number).is_some() => Ok(true),
            // So long ago that the end is forgotten.
            None if self.state.transactions.was_begun(number) => Ok(false),
            None => Err(Refusal::TransactionNotFound),
        }
    }

    fn append_end(&mut self, number: u64, is_commit: bool, effects: &mut Effects<R>) {
        let half = self.state.transactions.get(number).copied();
        let is_first = self.state.transactions.end_of(number).is_none();
        let shown = half.filter(|_| is_commit && is_first);
        let stands = shown.map(|half| self.reference_to(half.message));
        self.state.transactions.end(number, is_commit);
        effects.append(&Record::EndTransaction { number, is_commit, stands });
    }

    pub(crate) fn note_transaction_check(
        &mut self,
        id: TransactionId,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        if self.state.transactions.get(id.number).is_some() {
            effects.append(&Record::TransactionCheck { number: id.number });
            effects.on_commit.push((reply, Ok(Outcome::Done)));
        } else {
            effects.now.push((reply, Ok(Outcome::Done)));
        }
    }

    /// Asks for the producers of transactions that stay open; rolls back those that were asked about often enough. Does up to
    /// this much of work, and says how much was done.
    pub(crate) fn check_transactions(
        &mut self,
        now_ms: u64,
        work: u32,
        log: &Log,
        effects: &mut Effects<R>,
    ) -> u32 {
        let mut done = 0;
        while done < work
            && let Some((number, half)) =
                self.state.transactions.take_due(now_ms, TRANSACTION_CHECK_INTERVAL_MS)
        {
            done = done.saturating_add(1);
            if self.state.transactions.end_of(number).is_some() {
                continue;
            }
            let age_ms = now_ms.saturating_sub(half.begun_ms);
            let checks_max = TRANSACTION_CHECKS_MAX;
            #[cfg(feature = "simulation")]
            let checks_max = if has_bug(Bug::OneQuestion) { 1 } else { checks_max };
            if half.checks >= checks_max || age_ms > TRANSACTION_AGE_MS_MAX {
                self.append_end(number, false, effects);
                effects.end_piece();
            } else if let Some(mut check) = self.check_of(number, &half, log) {
                check.id.code = Some(self.handle_key(effects).of_transaction(&check.id));
                effects.checks.push(check);
            }
        }
        done
    }

    fn check_of(&self, number: u64, half: &HalfMessage, log: &Log) -> Option<TransactionCheck> {
        let topic = self.state.topics.get(&half.message.topic)?;
        let HiddenMessage { position, length_bytes, tag_hash, topic: sent_to, .. } = half.message;
        let stored = Stored::Hidden { number };
        let identity = MessageIdentity { topic: sent_to, tag_hash, stored };
        Some(TransactionCheck {
            topic: topic.topic.name.clone(),
            id: TransactionId { shard: self.shard, topic: half.message.topic, number, code: None },
            stored_ms: half.stored_ms,
            source: source_at(position, length_bytes, log, || identity),
        })
    }
}
