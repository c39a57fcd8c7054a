//! The engine of one shard: a match of one line per verb, each in its own file.

use std::collections::{BTreeSet, VecDeque};

use broker_model::limits::SEND_REQUEST_BYTES_MAX;
use broker_model::{ConsumerGroup, Now, ShardId, Topic, TopicName};
use broker_store::sealed_index::IndexError;
use broker_store::{IndexFailure, Log};

use crate::chance::{Chance, Seed};
use crate::command::{Command, Outcome, Pulled};
use crate::effects::{Effects, ReplyTo};
use crate::limits::limits;
use crate::refusal::Refusal;
use crate::retention::RetentionCheck;
use crate::state::State;
use crate::task::{Task, TaskKind};

/// State and decisions of one shard. `R` is where answers go.
#[derive(Debug)]
pub struct Engine<R> {
    pub(crate) shard: ShardId,
    pub(crate) state: State<R>,
    /// Source of nonces and keys.
    pub(crate) chance: Chance,
    pub(crate) next_waiter: u64,
    pub(crate) is_disk_full: bool,
    pub(crate) send_bytes_max: usize,
    /// Queues of group topics that may have something for a waiting poll.
    pub(crate) dirty: Vec<(usize, u32)>,
    /// Group topics with polls that have not looked at everything, and with which of them the next look begins.
    pub(crate) looking: BTreeSet<usize>,
    pub(crate) looking_from: usize,
    /// Polls may be among them whose time is over.
    pub(crate) holds_ended_polls: bool,
    /// Commands that are carried out step by step, the oldest first.
    pub(crate) tasks: VecDeque<Task<R>>,
    /// What may be done yet in this step.
    pub(crate) work: u32,
    /// Messages that polls may look at yet in this step.
    pub(crate) looks: u32,
    /// Groups and topics whose deletion is decided but not committed: made again, they get new numbers.
    pub(crate) deleting_groups: Vec<u32>,
    pub(crate) deleting_topics: Vec<u32>,
    /// Topics that may have something for a waiting pull.
    pub(crate) dirty_topics: Vec<u32>,
    /// When lite topics are looked through; none while there is no LITE topic.
    pub(crate) next_lite_check_ms: Option<u64>,
    /// The topic and queue with which the look at lite topics goes on.
    pub(crate) lite_checked_to: (u32, u32),
    pub(crate) retention: RetentionCheck,
    /// The group with which the look at declared subscriptions after a start goes on; none when it is over.
    pub(crate) declared_from: Option<u32>,
    /// Set when an index file could not be read: what was decided since then must not be carried out.
    index_failure: IndexFailure,
}

impl<R: ReplyTo> Engine<R> {
    /// An engine without state; `seed` is chance given from outside.
    #[must_use]
    pub fn new(shard: ShardId, seed: Seed) -> Self {
        Self {
            shard,
            state: State::default(),
            chance: Chance::new(seed),
            next_waiter: 0,
            is_disk_full: false,
            send_bytes_max: SEND_REQUEST_BYTES_MAX,
            dirty: Vec::new(),
            looking: BTreeSet::new(),
            looking_from: 0,
            holds_ended_polls: false,
            tasks: VecDeque::new(),
            work: limits().work_per_step,
            looks: limits().looked_at_per_step,
            deleting_groups: Vec::new(),
            deleting_topics: Vec::new(),
            dirty_topics: Vec::new(),
            next_lite_check_ms: None,
            lite_checked_to: (0, 0),
            retention: RetentionCheck::default(),
            declared_from: Some(0),
            index_failure: IndexFailure::default(),
        }
    }

    /// Decides one command. Only the leader calls this.
    pub fn handle(
        &mut self,
        now: Now,
        command: Command,
        reply: R,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        self.decide(now, command, reply, log, effects);
        effects.end_piece();
    }

    fn decide(
        &mut self,
        now: Now,
        command: Command,
        reply: R,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        // What a verb decides are durations.
        let now_ms = now.steady_ms;
        match command {
            Command::Send(send) => self.send(send, reply, effects),
            Command::Receive(receive) => self.receive(now_ms, receive, reply, log, effects),
            Command::Acknowledge(request) => self.acknowledge(&request, reply, effects),
            Command::ChangeInvisible(request) => {
                self.change_invisible(now_ms, &request, reply, effects)
            }
            Command::Suspend(request) => self.suspend(now_ms, &request, reply, effects),
            Command::ForwardToDeadLetter(request) => {
                self.forward_to_dead_letter(&request, reply, effects)
            }
            Command::Prolong(request) => self.prolong(now_ms, &request, reply, effects),
            Command::Release(handles) => self.release(&handles, reply, effects),
            Command::Recall(recall) => self.recall(&recall, reply, effects),
            Command::EndTransaction(request) => self.end_transaction(&request, reply, effects),
            Command::NoteTransactionCheck(id) => self.note_transaction_check(id, reply, effects),
            Command::Pull(pull) => self.pull(now_ms, pull, reply, log, effects),
            Command::SetOffset(request) => self.set_offset(&request, reply, effects),
            Command::ReadOffset { group, topic, queue } => {
                effects.now.push((reply, self.read_offset(&group, &topic, queue)));
            }
            Command::QueryOffset { topic, queue, at } => {
                effects.now.push((reply, self.query_offset(&topic, queue, at)));
            }
            Command::SetLiteOffsets(request) => self.set_lite_offsets(&request, reply, effects),
            Command::ResetOffsets(request) => {
                self.begin_task(reply, TaskKind::Reset(request.into()), effects);
            }
            Command::ListDeadLetters(request) => {
                effects.now.push((reply, self.list_dead_letters(&request, log)));
            }
            Command::Redrive(request) => {
                self.begin_task(reply, TaskKind::Redrive(request.into()), effects);
            }
            Command::Join(join) => self.begin_task(reply, TaskKind::Join(join.into()), effects),
            Command::Leave { group, client_id } => self.leave(&group, &client_id, reply, effects),
            Command::ReadMembers => {
                effects.now.push((reply, Ok(Outcome::Members(self.members()))));
            }
            Command::PutTopic(topic) => self.put_topic(*topic, reply, effects),
            Command::DeleteTopic(name) => self.delete_topic(&name, reply, effects),
            Command::PutGroup(group) => self.put_group(*group, reply, effects),
            Command::DeleteGroup(name) => self.delete_group(&name, reply, effects),
            Command::MakeGroup(name) => self.make_group(name, reply, effects),
            Command::NoteGroupUse { groups, is_hour_over } => {
                self.note_group_use(&groups, is_hour_over, reply, effects);
            }
            Command::ReadUnusedGroups(names) => {
                self.begin_task(reply, TaskKind::ReadUnusedGroups(names.into()), effects);
            }
            Command::ForgetGroup(name) => {
                self.begin_task(reply, TaskKind::ForgetGroup(name.into()), effects);
            }
            Command::ReadProgress(query) => self.read_progress(&query, reply, effects),
            Command::Layout(command) => self.layout(command, reply, effects),
            Command::ReadTopics(first) => self.read_topics(first, reply, effects),
            Command::ReadNames(of) => self.read_names(&of, reply, effects),
        }
    }

    /// Whether the disk has no room for more messages; sends are refused meanwhile.
    pub fn set_disk_full(&mut self, is_full: bool) {
        self.is_disk_full = is_full;
        if is_full {
            self.retention.is_wanted();
        }
    }

    /// Most bytes of heads and bodies in one send from now on, beside [`SEND_REQUEST_BYTES_MAX`]: what a frame holds.
    pub fn set_send_bytes_max(&mut self, bytes_max: usize) {
        self.send_bytes_max = bytes_max.min(SEND_REQUEST_BYTES_MAX);
    }

    /// Answers everything that waits: the shard stops.
    pub fn answer_all_waiters(&mut self, effects: &mut Effects<R>) {
        for index in 0..self.state.group_topics.len() {
            let Some(progress) = self.state.group_topic_mut(index) else { continue };
            let waiters = std::mem::take(&mut progress.waiters);
            self.state.waiters = self.state.waiters.saturating_sub(waiters.len());
            let empty = |waiter: crate::waiting::Waiter<R>| {
                (waiter.reply, Ok(Outcome::Received(Vec::new())))
            };
            effects.now.extend(waiters.into_waiters().map(empty));
        }
        self.state.poll_ends.clear();
        self.looking.clear();
        self.holds_ended_polls = false;
        let unfinished = self.tasks.drain(..);
        effects.now.extend(unfinished.map(|task| (task.reply, Err(Refusal::Unavailable))));
        for topic in self.state.topics.values_mut() {
            for waiter in topic.pulls.drain(..) {
                self.state.waiters = self.state.waiters.saturating_sub(1);
                let next_offset = waiter.pull.offset;
                let pulled = Pulled { messages: Vec::new(), next_offset, is_out_of_range: false };
                effects.now.push((waiter.reply, Ok(Outcome::Pulled(pulled))));
            }
        }
        self.state.pull_ends.clear();
    }

    /// Where index files that are opened for this engine note that they cannot be read.
    #[must_use]
    pub fn index_failure_note(&self) -> &IndexFailure {
        &self.index_failure
    }

    /// The index file that could not be read, if there is one. What was decided since then must not be carried out: it
    /// took messages for gone that are there.
    #[must_use]
    pub fn index_failure(&self) -> Option<&IndexError> {
        self.index_failure.get()
    }

    /// All topics of this shard.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.state.topics.values().map(|topic| &topic.topic)
    }

    /// Its number.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// All groups of this shard.
    pub fn groups(&self) -> impl Iterator<Item = &ConsumerGroup> {
        self.state.groups.values()
    }

    pub(crate) fn topic_number(&self, name: &TopicName) -> Result<u32, Refusal> {
        let number = self.state.topic_numbers.get(name);
        number.copied().ok_or_else(|| Refusal::TopicNotFound(name.clone()))
    }

    /// Nobody who knows earlier ones can tell the next.
    pub(crate) fn nonce(&mut self) -> u32 {
        self.chance.word()
    }
}

#[cfg(test)]
mod tests;
