//! Taking note of what is asked: from here on it may have happened.

use std::collections::BTreeSet;

use broker_engine::{Command, ResetOffsets, SetOffset};
use broker_model::ReceiptHandle;

use super::resets::{Reset, To};
use super::waiting::Before;
use super::{Asked, Checker, Place};

pub(super) fn place_of(handle: &ReceiptHandle) -> Place {
    (handle.topic, handle.queue, handle.offset)
}

impl Checker {
    /// A command reached the shard.
    pub fn submitted(&mut self, ticket: u64, command: &Command, now_ms: u64) {
        self.seq += 1;
        let (seq, wall_ms) = (self.seq, self.wall_ms(now_ms));
        match command {
            Command::Send(send) => {
                for id in send.messages.iter().filter_map(|message| Self::id_of(&message.body)) {
                    let copies = self.copies.entry(id).or_default();
                    copies.asked += 1;
                    copies.first_asked.get_or_insert((seq, wall_ms));
                    self.note_bytes(id);
                }
            }
            Command::Acknowledge(request) => {
                self.end_asked(ticket, &request.group.to_string(), &request.topic.to_string());
                for handle in &request.handles {
                    if self.is_given(handle) {
                        let progress = self.progress_mut(handle.group, place_of(handle));
                        progress.acknowledge(handle.nonce, now_ms, seq);
                    }
                }
            }
            Command::ChangeInvisible(change) if self.is_given(&change.handle) => {
                let progress = self.progress_mut(change.handle.group, place_of(&change.handle));
                progress.let_go(change.handle.nonce);
                progress.is_renaming |= progress.nonce == change.handle.nonce;
            }
            Command::ForwardToDeadLetter(forward) if self.is_given(&forward.handle) => {
                self.end_asked(ticket, &forward.group.to_string(), &forward.topic.to_string());
                let progress = self.progress_mut(forward.handle.group, place_of(&forward.handle));
                progress.give_up(forward.handle.nonce, seq);
            }
            Command::Release(handles) => self.note_release(handles, now_ms),
            Command::Recall(recall) => {
                self.ends.entry(u64::MAX - recall.handle.number).or_default().gone_asked = true;
            }
            Command::EndTransaction(end) => {
                let ends = self.ends.entry(end.id.number).or_default();
                ends.shown_asked |= end.is_commit;
                ends.gone_asked |= !end.is_commit;
            }
            Command::SetOffset(request) => self.note_set_offset(seq, ticket, request),
            Command::ResetOffsets(request) => self.note_reset(seq, ticket, request),
            Command::Redrive(redrive) if !redrive.is_dry_run => {
                self.note_redrive(&redrive.group.to_string());
            }
            Command::DeleteTopic(name) => self.note_topic_deletion(name.to_string()),
            Command::PutTopic(topic) => self.note_put(topic.name.as_str()),
            Command::PutGroup(group) => {
                self.note_put(group.name.as_str());
                self.settings_asked(seq, group);
            }
            Command::DeleteGroup(name) => self.note_reader_leaves(&name.to_string(), None),
            Command::Leave { group, client_id } => {
                self.note_reader_leaves(&group.to_string(), Some(client_id));
            }
            _ => {}
        }
        self.asked.insert(ticket, Asked { seq, now_ms, wall_ms, command: command.clone() });
    }

    fn note_topic_deletion(&mut self, name: String) {
        self.topics.values_mut().filter(|t| t.name == name).for_each(|t| t.may_be_gone = true);
        self.begun.retain(|(_, _, topic), _| *topic != name);
        self.cursors.retain(|(_, topic, _), _| *topic != name);
        self.unsure_names.insert(name);
    }

    fn note_release(&mut self, handles: &[ReceiptHandle], now_ms: u64) {
        let may_be_refused = !self.has_room_always;
        let at = Before { seq: self.seq, now_ms };
        for handle in handles {
            let progress = self.progress_mut(handle.group, place_of(handle));
            progress.release(handle.nonce, at, may_be_refused);
        }
    }

    /// Made again while its deletion is under way, a topic or group keeps its number.
    fn note_put(&mut self, name: &str) {
        let is_under_way = self.asked.values().any(|asked| match &asked.command {
            Command::DeleteTopic(topic) => topic.as_str() == name,
            Command::DeleteGroup(group) => group.as_str() == name,
            _ => false,
        });
        if is_under_way {
            self.overlapping.insert(name.to_owned());
        }
    }

    fn note_reader_leaves(&mut self, group: &str, client: Option<&str>) {
        let is_them = |name: &str, its: &str| name == group && client.is_none_or(|c| c == its);
        let leaving = self.readers.values_mut().filter(|r| is_them(&r.name, &r.client));
        leaving.for_each(|reader| reader.may_be_gone = true);
        self.begun.retain(|(name, its, _), _| !is_them(name, its));
        self.cursors.retain(|(name, _, _), _| name != group);
        self.left.insert((group.to_owned(), client.unwrap_or_default().to_owned()), u64::MAX);
        self.reset_ids.remove(group);
        self.disturbed_groups.insert(group.to_owned());
        self.unsure_names.insert(format!("{group} {}", client.unwrap_or_default()));
    }

    fn note_set_offset(&mut self, seq: u64, ticket: u64, request: &SetOffset) {
        self.begin_reset(Reset {
            ticket,
            id: String::new(),
            asked: seq,
            answered: None,
            settled: None,
            group: request.group.to_string(),
            topics: vec![request.topic.to_string()],
            queue: Some(request.queue),
            to: To::Offset(request.offset),
        });
    }

    fn note_reset(&mut self, seq: u64, ticket: u64, request: &ResetOffsets) {
        let group = request.group.to_string();
        let is_known = |ids: &BTreeSet<String>| ids.contains(&request.id);
        if !request.id.is_empty() && self.reset_ids.get(&group).is_some_and(is_known) {
            // It was carried out; once more means nothing.
            return;
        }
        let is_same = |other: &Reset| other.group == group && other.id == request.id;
        let mut unanswered = self.resets.iter().filter(|reset| reset.answered.is_none());
        // It may have been carried out when it was asked before.
        let may_mean_nothing = !request.id.is_empty() && unanswered.any(is_same);
        let to = match request.to {
            _ if may_mean_nothing => To::Unknown,
            broker_engine::OffsetAt::Earliest => To::Offset(0),
            broker_engine::OffsetAt::Latest => To::Latest,
            broker_engine::OffsetAt::TimeMs(time_ms) => To::TimeMs(time_ms),
            broker_engine::OffsetAt::Offset(offset) => To::Offset(offset),
            broker_engine::OffsetAt::Shift(_) | broker_engine::OffsetAt::Last(_) => To::Unknown,
        };
        self.begin_reset(Reset {
            ticket,
            id: request.id.clone(),
            asked: seq,
            answered: None,
            settled: None,
            group,
            topics: request.topics.iter().map(ToString::to_string).collect(),
            queue: None,
            to,
        });
    }

    fn note_redrive(&mut self, group: &str) {
        let attempts_max = self.attempts_least(group);
        let keys: Vec<_> = self.progress.keys().copied().collect();
        for (reader, place) in keys {
            if self.group_of_reader(reader) != group {
                continue;
            }
            let extra = self.extra_attempts(reader, place);
            let progress = self.progress_mut(reader, place);
            if progress.has_dead_letter || progress.may_be_exhausted(extra, attempts_max) {
                progress.may_revive = true;
            }
        }
    }

    /// Deliveries that may have happened without anybody seeing them.
    pub(super) fn extra_attempts(&mut self, reader: u32, place: Place) -> u64 {
        let group = self.group_of_reader(reader);
        let lost = self.lost_receives_of(&group, &self.topic_of_number(place.0));
        lost - self.progress_mut(reader, place).lost_receives.min(lost)
    }
}
