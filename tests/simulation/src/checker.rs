//! The checker: knows what clients asked, what they were answered, and the clock of the broker; never the engine's state.
//! Each event is checked when it comes; [`Checker::verdict`] says at the end whether anything is owed.
//!
//! What was asked and not answered may or may not have happened, and nothing is concluded from it.

mod answers;
mod delivered;
mod progress;
mod requests;
mod resets;
mod retention;
mod settings;
mod times;
mod transactions;
mod verdict;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use broker_engine::{Command, LIMITS, TransactionCheck, Visible};
use broker_model::Now;
use bytes::Bytes;

use crate::plan::{Plan, PlannedGroup, queues_of};
use progress::Progress;
use resets::{EndBehind, Reset};
use retention::Retention;
use settings::Settings;
use times::Between;
use transactions::Questions;
use waiting::Pending;

/// Topic number, queue, offset.
type Place = (u32, u32, u64);

/// A message that a producer made.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it is sent to.
    pub topic: String,
    /// Its tag.
    pub tag: &'static str,
    /// Of its message group; 0 = none.
    pub message_group_hash: u64,
    /// When it may be seen.
    pub visible: Visible,
    /// Bytes behind the number in its body.
    pub length: u64,
}

#[derive(Debug, Clone)]
struct Asked {
    seq: u64,
    now_ms: u64,
    /// The broker's wall clock then.
    wall_ms: u64,
    command: Command,
}

/// A message where consumers find it.
#[derive(Debug, Clone)]
struct Stored {
    id: u64,
    /// When its send was asked and answered; none when it was only seen so far.
    sent: Option<(u64, u64)>,
    first_seen: u64,
    /// When it came there, by the broker's clock.
    stored_ms: Between,
}

/// What happened to all messages that were made of one send.
#[derive(Debug, Clone, Default)]
struct Copies {
    /// Sends that reached the shard.
    asked: u64,
    /// Of those: answered.
    stored: u64,
    /// When the first of them was asked: the event, and the broker's clock.
    first_asked: Option<(u64, u64)>,
    /// Numbers given while hidden.
    hidden: BTreeSet<u64>,
    places: BTreeSet<Place>,
}

/// The broker's clock was set back.
#[derive(Debug, Clone, Copy)]
struct SetBack {
    seq: u64,
    from_ms: u64,
    to_ms: u64,
}

/// What was asked about one hidden message.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    shown_asked: bool,
    shown: bool,
    gone_asked: bool,
    gone: bool,
}

/// A number that stands for a topic, a group or a member, and what it stands for.
#[derive(Debug, Clone)]
struct Named {
    name: String,
    client: String,
    /// It may be deleted.
    may_be_gone: bool,
    /// It is.
    is_gone: bool,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Checker {
    messages: Vec<Message>,
    groups: BTreeMap<String, PlannedGroup>,
    seq: u64,
    asked: BTreeMap<u64, Asked>,
    copies: BTreeMap<u64, Copies>,
    ends: BTreeMap<u64, Ends>,
    /// Due, as the broker's clock said before it was set back.
    was_due: BTreeSet<u64>,
    places: BTreeMap<Place, Stored>,
    /// Handed out without bytes, and when first.
    unread: BTreeMap<Place, u64>,
    topics: BTreeMap<u32, Named>,
    readers: BTreeMap<u32, Named>,
    /// Topics and groups whose deletion was asked and not answered: what is new under the name may be old.
    unsure_names: BTreeSet<String>,
    progress: BTreeMap<(u32, Place), Progress>,
    resets: Vec<Reset>,
    /// The ids of resets of a group that were answered.
    reset_ids: BTreeMap<String, BTreeSet<String>>,
    /// Receives that had no answer when the process died, by group and topic.
    lost_receives: BTreeMap<(String, String), u64>,
    attempt_ids: BTreeSet<(String, String, String)>,
    /// Everything decided before this is durable.
    durable: u64,
    /// Highest offset answered per queue, and when.
    sent_offsets: BTreeMap<(u32, u32), Vec<(u64, u64)>>,
    cursors: BTreeMap<(String, String, u32), u64>,
    /// When readers that begin late have begun: group, client, topic.
    begun: BTreeMap<(String, String, String), u64>,
    /// When readers left for the last time; never, as far as anybody knows, while that is not answered.
    left: BTreeMap<(String, String), u64>,
    redriven: BTreeMap<String, u64>,
    dead_places: BTreeMap<(String, u64), BTreeSet<Place>>,
    disturbed_groups: BTreeSet<String>,
    overlapping: BTreeSet<String>,
    clock_set_back: Vec<SetBack>,
    /// How far the broker's wall clock is ahead of its steady time, in which times are given here.
    wall_ahead_ms: i64,
    /// When the broker's steady time began again before this time.
    steady_set_back: Vec<(u64, u64)>,
    retention: Retention,
    settings: BTreeMap<String, Settings>,
    /// Queues of topics.
    queues: BTreeMap<String, u32>,
    /// Timed messages that may be hidden yet.
    pending: BTreeMap<u64, Pending>,
    /// Messages that were hidden, and since when they are not any more.
    shown: BTreeMap<u64, u64>,
    /// By reader and topic: queues that something waits in, and how many receives in a row brought nothing of them.
    passed_over: BTreeMap<(u32, u32), BTreeMap<u32, u32>>,
    /// Polls look through little in one step.
    looks_are_few: bool,
    /// Little may be in flight, behind others, or wait.
    are_places_few: bool,
    /// The volume always has room.
    has_room_always: bool,
    questions: Questions,
    ends_behind: Vec<EndBehind>,
    /// Names of deliveries that somebody was given, by reader and place.
    given: BTreeSet<(u32, Place, u32)>,
    /// How often the process died.
    lives: u64,
    /// Unanswered, and nobody waits for it.
    given_up_polls: BTreeSet<u64>,
    /// Deliveries after an acknowledgement that was answered while a reset ran.
    pub beside_resets: u64,
    /// Deliveries checked.
    pub deliveries: u64,
}

impl Checker {
    /// A checker for a plan.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let groups = plan.groups.iter().map(|g| (g.settings.name.to_string(), g.clone())).collect();
        let settings = |g: &PlannedGroup| (g.settings.name.to_string(), Settings::new(&g.settings));
        Self {
            messages: Vec::new(),
            groups,
            seq: 0,
            asked: BTreeMap::new(),
            copies: BTreeMap::new(),
            ends: BTreeMap::new(),
            was_due: BTreeSet::new(),
            places: BTreeMap::new(),
            unread: BTreeMap::new(),
            topics: BTreeMap::new(),
            readers: BTreeMap::new(),
            unsure_names: BTreeSet::new(),
            progress: BTreeMap::new(),
            resets: Vec::new(),
            reset_ids: BTreeMap::new(),
            lost_receives: BTreeMap::new(),
            attempt_ids: BTreeSet::new(),
            durable: 0,
            sent_offsets: BTreeMap::new(),
            cursors: BTreeMap::new(),
            begun: BTreeMap::new(),
            left: BTreeMap::new(),
            redriven: BTreeMap::new(),
            dead_places: BTreeMap::new(),
            disturbed_groups: BTreeSet::new(),
            overlapping: BTreeSet::new(),
            clock_set_back: Vec::new(),
            wall_ahead_ms: 0,
            steady_set_back: Vec::new(),
            retention: Retention::new(plan),
            settings: plan.groups.iter().map(settings).collect(),
            queues: plan.topics.iter().map(|t| (t.name.to_string(), queues_of(t))).collect(),
            pending: BTreeMap::new(),
            shown: BTreeMap::new(),
            passed_over: BTreeMap::new(),
            looks_are_few: plan.limits.is_some(),
            are_places_few: plan.limits.is_some_and(|limits| {
                limits.inflight_per_group_queue < LIMITS.inflight_per_group_queue
            }),
            has_room_always: plan.faults.disk_full == 0,
            questions: Questions::default(),
            ends_behind: Vec::new(),
            given: BTreeSet::new(),
            lives: 0,
            given_up_polls: BTreeSet::new(),
            beside_resets: 0,
            deliveries: 0,
        }
    }

    /// A producer makes a message; its number.
    pub fn new_message(&mut self, message: Message) -> u64 {
        self.messages.push(message);
        self.messages.len() as u64 - 1
    }

    /// Head and body of a message.
    #[must_use]
    pub fn bytes(&self, id: u64) -> (Bytes, Bytes) {
        let message = usize::try_from(id).ok().and_then(|at| self.messages.get(at));
        let length = message.map_or(0, |message| message.length);
        let mut body = format!("m{id}.").into_bytes();
        body.extend((0..length).map(|n| ((id * 31 + n * 7) % 251) as u8));
        (Bytes::from(format!("head of {id}")), Bytes::from(body))
    }

    /// The number of a message by its body.
    #[must_use]
    pub fn id_of(body: &[u8]) -> Option<u64> {
        let digits = body.strip_prefix(b"m")?;
        let end = digits.iter().position(|byte| *byte == b'.')?;
        std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
    }

    /// How many messages were made.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// The process died, and with it what was not durable.
    pub fn killed(&mut self) {
        self.seq += 1;
        for asked in std::mem::take(&mut self.asked).into_values() {
            if let Command::Receive(receive) = asked.command {
                let key = (receive.group.to_string(), receive.topic.to_string());
                *self.lost_receives.entry(key).or_default() += 1;
            }
        }
        let durable = self.durable;
        self.progress.values_mut().for_each(|progress| progress.killed(durable));
        self.begun.retain(|_, begun| *begun < durable);
        let seq = self.seq;
        self.resets.iter_mut().for_each(|reset| reset.settled = reset.settled.or(Some(seq)));
        self.end_settled(None);
        self.left.values_mut().filter(|left| **left == u64::MAX).for_each(|left| *left = seq);
        // A named receive is remembered in memory only, and so is whose turn it is.
        self.attempt_ids.clear();
        self.passed_over.clear();
        self.given_up_polls.clear();
        self.lives += 1;
    }

    /// Nobody waits for the answer to a poll any more; it may come yet.
    pub fn poll_given_up(&mut self, ticket: u64) {
        self.given_up_polls.insert(ticket);
    }

    /// A poll that nobody waits for was answered with nothing, which says nothing.
    pub fn poll_ended(&mut self, ticket: u64) {
        self.seq += 1;
        let asked = self.asked.remove(&ticket);
        if let Some(Asked { command: Command::Receive(receive), .. }) = asked {
            self.forget_turns(&receive);
        }
        self.given_up_polls.remove(&ticket);
    }

    /// What the broker's clocks say.
    pub fn set_clock(&mut self, now: Now) {
        self.wall_ahead_ms = now.wall_ms.cast_signed() - now.steady_ms.cast_signed();
    }

    fn wall_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add_signed(self.wall_ahead_ms)
    }

    /// A process begins to count its steady time; when that is earlier than the last one came, what was over by then stays so.
    pub fn steady_time_begins(&mut self, last_ms: u64, begin_ms: u64) {
        if begin_ms < last_ms {
            self.seq += 1;
            self.steady_set_back.push((self.seq, last_ms));
            let held_again = begin_ms..=last_ms;
            self.progress.values_mut().for_each(|progress| progress.may_be_held_again(&held_again));
        }
        self.questions.begin_again(begin_ms);
    }

    /// The broker's wall clock is about to be set back: what was due by now stays so.
    pub fn clock_goes_back(&mut self, from_ms: u64, to_ms: u64) {
        self.seq += 1;
        self.clock_set_back.push(SetBack { seq: self.seq, from_ms, to_ms });
        for (id, message) in (0u64..).zip(&self.messages) {
            if matches!(message.visible, Visible::At { due_ms } if due_ms <= from_ms) {
                self.was_due.insert(id);
            }
        }
    }

    /// The shard asks how a transaction ended.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_asked(&mut self, check: &TransactionCheck, body: &[u8]) -> Result<(), String> {
        let id = Self::id_of(body).ok_or("a check with a body that nobody sent")?;
        if self.bytes(id).1 != body {
            return Err(format!("a check of message {id} with other bytes"));
        }
        let ends = self.ends.get(&check.id.number).copied().unwrap_or_default();
        if ends.shown || ends.gone {
            return Err(format!("a check of message {id}, whose transaction has ended"));
        }
        self.copies.entry(id).or_default().hidden.insert(check.id.number);
        self.check_questions(check.id.number)
    }

    fn message(&self, id: u64) -> Result<&Message, String> {
        let message = usize::try_from(id).ok().and_then(|at| self.messages.get(at));
        message.ok_or_else(|| format!("message {id} was never sent"))
    }

    fn group(&self, name: &str) -> Option<&PlannedGroup> {
        self.groups.get(name)
    }

    fn is_wanted(&self, group: &str, id: u64) -> bool {
        let tag = self.group(group).and_then(|group| group.tag);
        tag.is_none_or(|tag| self.message(id).is_ok_and(|message| message.tag == tag))
    }

    fn lost_receives_of(&self, group: &str, topic: &str) -> u64 {
        let key = (group.to_owned(), topic.to_owned());
        self.lost_receives.get(&key).copied().unwrap_or(0)
    }

    fn group_of_reader(&self, reader: u32) -> String {
        self.readers.get(&reader).map(|named| named.name.clone()).unwrap_or_default()
    }

    fn topic_of_number(&self, topic: u32) -> String {
        self.topics.get(&topic).map(|named| named.name.clone()).unwrap_or_default()
    }
}
