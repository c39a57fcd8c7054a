//! Applying what is said of messages that nobody sees yet: timed ones, and those of open transactions.

use broker_store::record::Reference;
use broker_store::{MessageRecord, Record};

use super::{RecordPlace, hidden};
use crate::effects::ReplyTo;
use crate::engine::Engine;
use crate::hidden::{HalfMessage, HiddenMessage};

impl<R: ReplyTo> Engine<R> {
    /// Has no effect on other records.
    pub(super) fn apply_hidden(&mut self, record: Record, at: RecordPlace) {
        match record {
            Record::Timed { number, due_ms, message } => {
                self.state.timed.insert((due_ms, number), hidden(&message, at));
                self.state.index_entries = self.state.index_entries.saturating_add(1);
            }
            Record::Due { number, due_ms, stands } => {
                if let Some(message) = self.state.timed.remove_due((due_ms, number)) {
                    self.show(stands.map_or(message, referred_to), at.time);
                }
            }
            Record::Recall { number, due_ms } => {
                let recalled = self.state.timed.remove((due_ms, number)).is_some();
                self.state.index_entries =
                    self.state.index_entries.saturating_sub(u64::from(recalled));
            }
            Record::Half { number, check_after_ms, message } => {
                self.apply_half(number, check_after_ms, &message, at);
            }
            Record::EndTransaction { number, is_commit, .. } => {
                match self.state.transactions.remove(number, is_commit) {
                    Some(half) if is_commit => self.show(half.message, at.time),
                    Some(_) => {
                        self.state.index_entries = self.state.index_entries.saturating_sub(1);
                    }
                    None => {}
                }
            }
            Record::TransactionCheck { number } => self.state.transactions.note_check(number),
            _ => {}
        }
    }

    fn apply_half(
        &mut self,
        number: u64,
        check_after_ms: u64,
        message: &MessageRecord,
        at: RecordPlace,
    ) {
        let half = HalfMessage {
            message: hidden(message, at),
            stored_ms: at.time.wall_ms,
            begun_ms: at.time.steady_ms,
            checks: 0,
            check_at_ms: at.time.steady_ms.saturating_add(check_after_ms),
        };
        self.state.transactions.insert(number, half);
        self.state.index_entries = self.state.index_entries.saturating_add(1);
    }
}

/// A message as the record says that makes it visible.
fn referred_to(stands: Reference) -> HiddenMessage {
    let Reference { topic, queue, position, length_bytes, tag_hash, .. } = stands;
    HiddenMessage { position, tag_hash, length_bytes, topic, queue }
}
