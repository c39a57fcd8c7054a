//! The clients: what they know from the answers that arrived, and what they ask next. They know no more than that.

mod forged;
mod settings;
mod times;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use broker_engine::{
    Acknowledge, ChangeInvisible, Command, Delivery, EndTransaction, ForwardToDeadLetter, Hidden,
    Join, NewMessage, OffsetAt, Outcome, Recall, Receive, Redrive, Reply, ResetOffsets, Send,
    SetOffset, Target, TransactionCheck, Visible,
};
use broker_model::{
    GroupName, MessageType, Model, Now, RecallHandle, ReceiptHandle, ShardId, TopicName,
    TransactionId, message_group_hash, tag_hash,
};

use crate::checker::{Checker, Message};
use crate::plan::{LITE_TOPICS, Plan, TOPICS, queues_of, topic_name};
use crate::random::Random;

/// A delivery that a consumer has.
#[derive(Debug, Clone)]
struct Held {
    group: GroupName,
    topic: TopicName,
    handle: ReceiptHandle,
}

/// A call that was sent and is not answered.
#[derive(Debug, Clone)]
struct Call {
    command: Command,
    gone: Rc<Cell<bool>>,
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    next_call: u64,
    calls: BTreeMap<u64, Call>,
    held: Vec<Held>,
    halves: Vec<(u64, TransactionId)>,
    timed: Vec<RecallHandle>,
    resets: u64,
}

/// A call to send.
#[derive(Debug)]
pub struct NewCall {
    /// Its name.
    pub call: u64,
    /// What is asked.
    pub command: Command,
}

impl Clients {
    /// The next thing that some client does; none when there is nothing to do it with.
    pub fn act(
        &mut self,
        plan: &Plan,
        random: &mut Random,
        now: Now,
        checker: &mut Checker,
    ) -> Option<NewCall> {
        if random.happens(plan.resets) {
            return self.reset(plan, random);
        }
        if random.happens(plan.retention) {
            return self.query_oldest(plan, random);
        }
        if plan.is_steady {
            self.forget_old();
        }
        // No chance is taken where there is none, so that other histories stay what they are.
        if plan.times > 0 && random.happens(plan.times) {
            return self.ask_time(plan, random, now.wall_ms);
        }
        if plan.settings > 0 && random.happens(plan.settings) {
            return self.change_settings(plan, random);
        }
        if plan.forged > 0 && random.happens(plan.forged) {
            return self.forge(plan, random);
        }
        match random.below(100) {
            0..27 if plan.is_steady && random.happens(600) => self.acknowledge(random),
            0..27 => self.send(plan, random, now, checker),
            27..52 => self.receive(plan, random, now),
            52..75 => self.acknowledge(random),
            75..82 => self.change(plan, random),
            82..85 => self.forward(random),
            85..88 => self.recall(random),
            88..94 => self.end(random),
            94..96 => self.redrive(plan, random),
            96..97 => self.metadata(plan, random),
            97..98 => self.join(plan, random),
            98..99 => self.read_offset(plan, random),
            _ => self.give_up(random),
        }
    }

    /// Who keeps up has what came last.
    fn forget_old(&mut self) {
        fn keep_newest<T>(all: &mut Vec<T>, count: usize) {
            all.drain(..all.len().saturating_sub(count));
        }
        keep_newest(&mut self.held, 60);
        keep_newest(&mut self.halves, 20);
        keep_newest(&mut self.timed, 20);
    }

    fn call(&mut self, command: Command) -> Option<NewCall> {
        self.next_call += 1;
        let call = Call { command: command.clone(), gone: Rc::default() };
        self.calls.insert(self.next_call, call);
        Some(NewCall { call: self.next_call, command })
    }

    /// Whether the caller is still there, for the shard to ask.
    #[must_use]
    pub fn gone(&self, call: u64) -> Rc<Cell<bool>> {
        self.calls.get(&call).map_or_else(|| Rc::new(Cell::new(false)), |call| call.gone.clone())
    }

    fn send(
        &mut self,
        plan: &Plan,
        random: &mut Random,
        now: Now,
        checker: &mut Checker,
    ) -> Option<NewCall> {
        let is_brief = plan.retention > 0 && random.happens(400);
        let mut limited = if is_brief { plan.limited_topics() } else { Vec::new() };
        limited.retain(|topic| !topic.name.is_dead_letter());
        let topic = match random.pick(&limited) {
            Some(topic) => *topic,
            None => random.pick(&plan.topics)?,
        };
        let count = if random.happens(300) { random.between(2, 6) } else { 1 };
        let message_type = topic.message_type;
        let group_text = ["x", "y", "z"][random.index(3)];
        let level = u32::try_from(random.below(u64::from(topic.queues))).unwrap_or(0);
        let mut hash = 0;
        let target = match message_type {
            MessageType::Fifo => {
                hash = message_group_hash(Some(group_text));
                Target::Queue(topic.queue_of(hash)?.1)
            }
            MessageType::Priority => Target::Queue(level),
            MessageType::Lite => Target::LiteTopic(LITE_TOPICS[random.index(3)].into()),
            _ => Target::AnyQueue,
        };
        let messages = (0..count)
            .map(|_| {
                let visible = match message_type {
                    MessageType::Delay => Visible::At {
                        due_ms: now.wall_ms + random.below(plan.message_delay_ms_max),
                    },
                    MessageType::Transaction => {
                        Visible::OnCommit { check_after_ms: random.between(500, 6_000) }
                    }
                    _ => Visible::AtOnce,
                };
                let tag = ["a", "b"][random.index(2)];
                let mut length = random.below(plan.body_bytes_max);
                if plan.faults.misdirected_reads > 0 && visible != Visible::AtOnce {
                    // Where it will stand is not in its record: only the length tells it from others of its tag and queue.
                    length = checker.messages() as u64;
                }
                let id = checker.new_message(Message {
                    topic: topic.name.to_string(),
                    tag,
                    message_group_hash: hash,
                    visible,
                    length,
                });
                let (head, body) = checker.bytes(id);
                let tag_hash = tag_hash(Some(tag));
                NewMessage { tag_hash, message_group_hash: hash, visible, head, body }
            })
            .collect();
        let send = Send { topic: topic.name.clone(), messages, target };
        self.call(Command::Send(send))
    }

    fn receive(&mut self, plan: &Plan, random: &mut Random, now: Now) -> Option<NewCall> {
        let group = random.pick(&plan.groups)?;
        let topic = random.pick(&group.topics)?.clone();
        let client = random.pick(&group.clients)?;
        let lite = LITE_TOPICS.iter().filter(|_| random.happens(700));
        let lite = lite.map(|name| (*name).to_owned()).collect();
        let is_lite = TOPICS.iter().any(|(n, t, _)| *n == topic && *t == MessageType::Lite);
        let attempt_id =
            if random.happens(200) { format!("try-{}", random.below(6)) } else { String::new() };
        let poll_ms = if random.happens(500) { random.below(10_000) } else { 0 };
        let receive = Receive {
            group: group.settings.name.clone(),
            topic: topic_name(&topic),
            filter: group.filter.clone(),
            messages_max: u32::try_from(random.between(1, plan.batch_max)).unwrap_or(1),
            invisible_ms: random.between(100, plan.invisible_ms_max),
            poll_until_ms: now.steady_ms + poll_ms,
            client_id: client.as_str().into(),
            attempt_id,
            lite_topics: is_lite.then(|| Arc::new(lite)),
        };
        self.call(Command::Receive(receive))
    }

    fn take_held(&mut self, random: &mut Random) -> Option<Held> {
        if self.held.is_empty() {
            return None;
        }
        let at = random.index(self.held.len());
        // Some are used again: a client that repeats itself.
        Some(if random.happens(150) { self.held[at].clone() } else { self.held.swap_remove(at) })
    }

    fn acknowledge(&mut self, random: &mut Random) -> Option<NewCall> {
        let Held { group, topic, handle } = self.take_held(random)?;
        let mut handles = vec![handle];
        while handles.len() < 5 && random.happens(600) {
            let alike = self.held.iter().position(|h| h.group == group && h.topic == topic);
            let Some(at) = alike else { break };
            handles.push(self.held.swap_remove(at).handle);
        }
        self.call(Command::Acknowledge(Acknowledge { group, topic, handles }))
    }

    fn change(&mut self, plan: &Plan, random: &mut Random) -> Option<NewCall> {
        let Held { group, topic, handle } = self.take_held(random)?;
        let invisible_ms =
            if random.happens(500) { 0 } else { random.below(plan.invisible_ms_max) };
        let change = ChangeInvisible { group, topic, handle, invisible_ms };
        self.call(Command::ChangeInvisible(change))
    }

    fn forward(&mut self, random: &mut Random) -> Option<NewCall> {
        let Held { group, topic, handle } = self.take_held(random)?;
        self.call(Command::ForwardToDeadLetter(ForwardToDeadLetter { group, topic, handle }))
    }

    fn recall(&mut self, random: &mut Random) -> Option<NewCall> {
        let handle = random.pick(&self.timed)?.clone();
        self.call(Command::Recall(Recall { topic: topic_name("delay"), handle }))
    }

    fn end(&mut self, random: &mut Random) -> Option<NewCall> {
        let (message, id) = *random.pick(&self.halves)?;
        self.call(Self::end_of(message, id, random))
    }

    /// Each message has a fate; now and then a producer errs.
    fn end_of(message: u64, id: TransactionId, random: &mut Random) -> Command {
        let is_commit = message.is_multiple_of(3) == random.happens(50);
        Command::EndTransaction(EndTransaction { topic: topic_name("transaction"), id, is_commit })
    }

    fn redrive(&mut self, plan: &Plan, random: &mut Random) -> Option<NewCall> {
        let group = random.pick(&plan.groups)?;
        let redrive = Redrive {
            group: group.settings.name.clone(),
            topic: None,
            messages_max: u32::try_from(random.between(1, 20)).unwrap_or(1),
            only: None,
            is_purge: false,
            is_dry_run: random.happens(100),
        };
        self.call(Command::Redrive(redrive))
    }

    fn reset(&mut self, plan: &Plan, random: &mut Random) -> Option<NewCall> {
        let group = random.pick(&plan.groups)?;
        let topic = topic_name(random.pick(&group.topics)?);
        let name = group.settings.name.clone();
        if random.happens(300) && group.settings.model == Model::Clustering {
            let queue = u32::try_from(random.below(3)).unwrap_or(0);
            let offset = random.below(20);
            let request = SetOffset { group: name, topic, queue, offset };
            return self.call(Command::SetOffset(request));
        }
        self.resets += 1;
        let to = match random.below(4) {
            0 | 1 => OffsetAt::Earliest,
            2 => OffsetAt::Latest,
            _ => OffsetAt::Shift(i64::try_from(random.below(20)).unwrap_or(0) - 10),
        };
        let id = if random.happens(500) { format!("reset-{}", self.resets) } else { String::new() };
        let request = ResetOffsets { group: name, topics: vec![topic], to, id };
        self.call(Command::ResetOffsets(request))
    }

    fn metadata(&mut self, plan: &Plan, random: &mut Random) -> Option<NewCall> {
        if random.happens(500) {
            let mut group = random.pick(&plan.groups)?.clone();
            if group.is_volatile && random.happens(600) {
                return self.call(Command::DeleteGroup(group.settings.name));
            }
            group.settings.is_consuming = random.happens(800);
            return self.call(Command::PutGroup(Box::new(group.settings)));
        }
        let topic = random.pick(&plan.topics)?.clone();
        let is_volatile = plan.volatile_topics.iter().any(|name| *name == topic.name.to_string());
        if is_volatile && random.happens(600) {
            return self.call(Command::DeleteTopic(topic.name));
        }
        self.call(Command::PutTopic(Box::new(topic)))
    }

    fn join(&mut self, plan: &Plan, random: &mut Random) -> Option<NewCall> {
        let broadcasts = |g: &&crate::plan::PlannedGroup| g.settings.model == Model::Broadcasting;
        let group = plan.groups.iter().find(broadcasts)?;
        let client_id = random.pick(&group.clients)?.clone();
        let name = group.settings.name.clone();
        if random.happens(300) {
            return self.call(Command::Leave { group: name, client_id });
        }
        let topics = group.topics.iter().map(|topic| topic_name(topic)).collect();
        self.call(Command::Join(Join { group: name, topics, client_id }))
    }

    fn read_offset(&mut self, plan: &Plan, random: &mut Random) -> Option<NewCall> {
        let group = random.pick(&plan.groups)?;
        let topic = topic_name(random.pick(&group.topics)?);
        let queue = u32::try_from(random.below(3)).unwrap_or(0);
        self.call(Command::ReadOffset { group: group.settings.name.clone(), topic, queue })
    }

    /// Where a queue begins: what is below is gone.
    fn query_oldest(&mut self, plan: &Plan, random: &mut Random) -> Option<NewCall> {
        let limited = plan.limited_topics();
        let topic = random.pick(&limited)?;
        let queue = u32::try_from(random.below(u64::from(queues_of(topic)))).unwrap_or(0);
        let name = topic.name.clone();
        self.call(Command::QueryOffset { topic: name, queue, at: OffsetAt::Earliest })
    }

    /// A client stops waiting; the shard may notice.
    fn give_up(&mut self, random: &mut Random) -> Option<NewCall> {
        let polls: Vec<u64> = self.calls.keys().copied().collect();
        let call = *random.pick(&polls)?;
        if let Some(call) = self.calls.get(&call) {
            call.gone.set(true);
        }
        None
    }

    /// Half messages and their transactions, whatever became of them.
    #[must_use]
    pub fn halves(&self) -> Vec<(u64, TransactionId)> {
        self.halves.clone()
    }

    /// Clients start anew: they forget what they waited for and what they had.
    pub fn restart(&mut self) {
        self.calls.values().for_each(|call| call.gone.set(true));
        self.calls.clear();
        self.held.clear();
    }

    /// Messages came.
    pub fn was_given(&mut self, receive: &Receive, deliveries: &[Delivery]) {
        self.held.extend(deliveries.iter().map(|delivery| Held {
            group: receive.group.clone(),
            topic: receive.topic.clone(),
            handle: delivery.handle,
        }));
    }

    /// A transaction's producer is asked how it ended.
    pub fn asked(&mut self, check: &TransactionCheck, random: &mut Random) -> Option<NewCall> {
        let broker_engine::Source::Memory { body, .. } = &check.source else { return None };
        let message = Checker::id_of(body)?;
        if random.happens(300) {
            return None;
        }
        self.call(Self::end_of(message, check.id, random))
    }

    /// An answer arrived.
    pub fn answered(&mut self, call: u64, reply: &Reply) {
        let Some(Call { command, .. }) = self.calls.remove(&call) else { return };
        match (command, reply) {
            (Command::Send(send), Ok(Outcome::Sent(sent))) => {
                for (message, place) in send.messages.iter().zip(sent) {
                    let topic = place.topic;
                    let Some(id) = Checker::id_of(&message.body) else { continue };
                    match place.hidden {
                        Some(Hidden::Half { number, code }) => {
                            let shard = ShardId(0);
                            let code = Some(code);
                            let transaction = TransactionId { shard, topic, number, code };
                            self.halves.push((id, transaction));
                        }
                        Some(Hidden::Timed { number, due_ms, code }) => {
                            self.timed.push(RecallHandle {
                                shard: ShardId(0),
                                topic,
                                number,
                                due_ms,
                                message_id: String::new(),
                                code: Some(code),
                            })
                        }
                        None => {}
                    }
                }
            }
            (Command::Receive(receive), Ok(Outcome::Received(deliveries))) => {
                self.was_given(&receive, deliveries);
            }
            (Command::ChangeInvisible(change), Ok(Outcome::InvisibleChanged(handle))) => {
                let (group, topic) = (change.group, change.topic);
                self.held.push(Held { group, topic, handle: *handle });
            }
            _ => {}
        }
    }
}
