//! What became of a message: one pass over the log from where it was stored. Records name the message by its place. Of a
//! message that came to stand somewhere by a record of format 1, which does not say where, nothing more is told.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use broker_engine::{Command, Names, NamesOf, Outcome, Refusal};
use broker_model::{GroupName, TopicName};
use broker_store::record::{DeadLetterReference, Origin, Place, Reference};
use broker_store::{Lease, LoggedRecord, Record};

use super::find::{FoundMessage, message};
use super::search::{Search, Searched};
use super::{IsWanted, TRACE_EVENTS_MAX, TRACED_COPIES_MAX};

/// What to trace.
#[derive(Debug, Clone)]
pub struct TraceMessage {
    /// The topic it was sent to.
    pub topic: TopicName,
    /// It was not stored before, Unix milliseconds.
    pub since_ms: u64,
}

/// The answer to [`TraceMessage`].
#[derive(Debug, Clone)]
pub struct MessageTraces {
    /// One per stored copy, oldest first.
    pub traces: Vec<MessageTrace>,
    /// How far the search came.
    pub searched: Searched,
}

/// What became of one stored message.
#[derive(Debug, Clone)]
pub struct MessageTrace {
    /// The message.
    pub message: FoundMessage,
    /// In order.
    pub events: Vec<TraceEvent>,
    /// Whether later events are left out.
    pub is_cut: bool,
}

/// Something happened to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    /// When, Unix time.
    pub time_ms: u64,
    /// What.
    pub step: TraceStep,
    /// The group that it is about; none when it is about none, or the group is gone.
    pub group: Option<GroupName>,
    /// The client that got the message, or whose progress it is in a broadcasting group.
    pub client_id: Option<Arc<str>>,
    /// The group from whose dead letters the message was delivered, when it was not from its own topic.
    pub dead_letters_of: Option<GroupName>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceStep {
    /// Its time came.
    Due,
    /// It was taken back before its time.
    Recalled,
    /// Its producer was asked how the transaction ended.
    ProducerAsked,
    /// Its transaction was committed.
    Committed,
    /// Its transaction was rolled back.
    RolledBack,
    /// It was handed out.
    Delivered {
        /// Which delivery it is, from 1.
        attempt: u32,
        /// Visible again then unless it is acknowledged, Unix time.
        invisible_until_ms: u64,
    },
    /// It did not pass the group's filter and is done for the group.
    FilteredOut,
    /// The end of a delivery's invisible duration moved.
    InvisibleChanged {
        /// Which delivery it is, from 1.
        attempt: u32,
        /// Visible again then, Unix time.
        invisible_until_ms: u64,
    },
    /// The delivery reached nobody: it does not count.
    Released,
    /// It is done for the group.
    Acknowledged,
    /// It went to the dead letters of the group.
    DeadLettered,
    /// It came back from the dead letters of the group.
    Redriven,
    /// It was taken out of the dead letters of the group for good.
    Purged,
    /// The progress of the group was set behind it: it is done for the group.
    PassedOver,
    /// The progress of the group was set to it or before it: it is new for the group.
    Rewound,
}

/// Where a copy stands, and which it is.
struct Stand {
    copy: usize,
    topic: u32,
    queue: u32,
    offset: u64,
    /// Number of the group, for a place among dead letters.
    dead_letters_of: u32,
}

/// A copy while it is traced; groups and clients are numbers yet.
struct StoredCopy {
    message: FoundMessage,
    hidden: Option<HiddenNumber>,
    events: Vec<(TraceEvent, Numbers)>,
    is_cut: bool,
}

/// Names a message that nobody sees yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HiddenNumber {
    Timed(u64),
    Half(u64),
}

#[derive(Clone, Copy, Default)]
struct Numbers {
    group: u32,
    client: u32,
    dead_letters_of: u32,
}

pub(super) fn run(
    search: Search<'_>,
    topic: u32,
    is_wanted: &IsWanted,
) -> Result<MessageTraces, Refusal> {
    let mut tracer =
        Tracer { search, topic, copies: Vec::new(), stands: Vec::new(), held: HashMap::new() };
    while let Some(record) = tracer.search.next() {
        tracer.record(record?, is_wanted);
    }
    tracer.finish()
}

struct Tracer<'a> {
    search: Search<'a>,
    topic: u32,
    copies: Vec<StoredCopy>,
    stands: Vec<Stand>,
    /// The last delivery at a place of `stands`, for a group.
    held: HashMap<(usize, u32), Delivered>,
}

struct Delivered {
    nonce: u32,
    attempt: u32,
}

impl Delivered {
    fn of(lease: &Lease) -> Self {
        Self { nonce: lease.nonce, attempt: lease.attempt }
    }
}

impl Tracer<'_> {
    fn record(&mut self, logged: LoggedRecord, is_wanted: &IsWanted) {
        let time_ms = logged.time_ms;
        match logged.record {
            Record::Message(_) | Record::Timed { .. } | Record::Half { .. } => {
                self.stored(logged, is_wanted);
            }
            Record::Due { number, stands, .. } => {
                let copy = self.hidden(HiddenNumber::Timed(number), time_ms, TraceStep::Due);
                self.appears(copy, stands);
            }
            Record::Recall { number, .. } => {
                self.hidden(HiddenNumber::Timed(number), time_ms, TraceStep::Recalled);
            }
            Record::TransactionCheck { number } => {
                self.hidden(HiddenNumber::Half(number), time_ms, TraceStep::ProducerAsked);
            }
            Record::EndTransaction { number, is_commit: true, stands } => {
                let copy = self.hidden(HiddenNumber::Half(number), time_ms, TraceStep::Committed);
                self.appears(copy, stands);
            }
            Record::EndTransaction { number, is_commit: false, .. } => {
                self.hidden(HiddenNumber::Half(number), time_ms, TraceStep::RolledBack);
            }
            Record::Lease(lease) => self.lease(&lease, time_ms),
            Record::ChangeInvisible { place, attempt, deadline_ms: invisible_until_ms, .. } => {
                let step = TraceStep::InvisibleChanged { attempt, invisible_until_ms };
                self.over(place);
                self.at(place, time_ms, step);
            }
            Record::Release { place, .. } => self.at(place, time_ms, TraceStep::Released),
            Record::Prolong { first, nonce, deadline_ms } => {
                self.prolonged(first, nonce, deadline_ms, time_ms);
            }
            Record::Acknowledge(place) => {
                self.over(place);
                self.at(place, time_ms, TraceStep::Acknowledged);
            }
            Record::DeadLetter { place, stands } => self.dead_lettered(place, stands, time_ms),
            Record::Redrive { topic, offset, back_to } => {
                let step = match back_to {
                    Some(Origin::NOWHERE) => TraceStep::Purged,
                    _ => TraceStep::Redriven,
                };
                self.taken_back(topic, offset, time_ms, step);
            }
            Record::Cursor(place) => self.cursor(place, time_ms),
            Record::Skip { first, end } => self.skipped(first, end, time_ms),
            _ => {}
        }
    }

    fn stored(&mut self, logged: LoggedRecord, is_wanted: &IsWanted) {
        let hidden = match &logged.record {
            Record::Timed { number, .. } => Some(HiddenNumber::Timed(*number)),
            Record::Half { number, .. } => Some(HiddenNumber::Half(*number)),
            _ => None,
        };
        let found = message(logged, self.topic);
        let Some(message) = found.filter(|message| is_wanted(&message.head)) else { return };
        if self.copies.len() >= TRACED_COPIES_MAX {
            return self.search.cut();
        }
        if let Some(offset) = message.offset {
            let (copy, topic, queue) = (self.copies.len(), self.topic, message.queue);
            self.stands.push(Stand { copy, topic, queue, offset, dead_letters_of: 0 });
        }
        self.copies.push(StoredCopy { message, hidden, events: Vec::new(), is_cut: false });
    }

    /// Notes a step of a message that nobody sees yet; says which copy it is.
    fn hidden(&mut self, number: HiddenNumber, time_ms: u64, step: TraceStep) -> Option<usize> {
        let copy = self.copies.iter().position(|copy| copy.hidden == Some(number))?;
        self.note(copy, time_ms, step, Numbers::default());
        Some(copy)
    }

    /// A hidden message stands in its queue from now on.
    fn appears(&mut self, copy: Option<usize>, stands: Option<Reference>) {
        let (Some(copy), Some(stands)) = (copy, stands) else { return };
        let Reference { topic, queue, offset, .. } = stands;
        self.copies[copy].message.offset = Some(offset);
        self.stands.push(Stand { copy, topic, queue, offset, dead_letters_of: 0 });
    }

    fn lease(&mut self, lease: &Lease, time_ms: u64) {
        let first = lease.first;
        let delivered =
            TraceStep::Delivered { attempt: lease.attempt, invisible_until_ms: lease.deadline_ms };
        for index in self.standing(first.topic, first.queue) {
            let Some(distance) = self.stands[index].offset.checked_sub(first.offset) else {
                continue;
            };
            let is_given = distance < 64 && lease.mask & (1 << distance) != 0;
            let step = match is_given {
                true => delivered,
                false if distance < u64::from(lease.span) => TraceStep::FilteredOut,
                false => continue,
            };
            let client = if is_given { lease.client } else { 0 };
            if is_given {
                self.held.insert((index, first.group), Delivered::of(lease));
            }
            self.note_at(index, first.group, client, time_ms, step);
        }
    }

    /// Names the messages by the one lease that holds them.
    fn prolonged(&mut self, first: Place, nonce: u32, invisible_until_ms: u64, time_ms: u64) {
        for index in self.standing(first.topic, first.queue) {
            let Some(held) = self.held.get(&(index, first.group)).filter(|h| h.nonce == nonce)
            else {
                continue;
            };
            let step = TraceStep::InvisibleChanged { attempt: held.attempt, invisible_until_ms };
            self.note_at(index, first.group, 0, time_ms, step);
        }
    }

    fn skipped(&mut self, first: Place, end: u64, time_ms: u64) {
        for index in self.standing(first.topic, first.queue) {
            if (first.offset..end).contains(&self.stands[index].offset) {
                self.note_at(index, first.group, 0, time_ms, TraceStep::FilteredOut);
            }
        }
    }

    fn cursor(&mut self, place: Place, time_ms: u64) {
        for index in self.standing(place.topic, place.queue) {
            let last = self.last_step(index, place.group);
            let is_behind = place.offset > self.stands[index].offset;
            let step = if is_behind { TraceStep::PassedOver } else { TraceStep::Rewound };
            // A consumer that keeps its own offsets sets them all the time: only what changes something is told.
            if last != Some(step) && (is_behind || last.is_some()) {
                self.note_at(index, place.group, 0, time_ms, step);
            }
        }
    }

    /// Nobody has it, or under another name.
    fn over(&mut self, place: Place) {
        for index in self.standing(place.topic, place.queue) {
            if self.stands[index].offset == place.offset {
                self.held.remove(&(index, place.group));
            }
        }
    }

    fn at(&mut self, place: Place, time_ms: u64, step: TraceStep) {
        for index in self.standing(place.topic, place.queue) {
            if self.stands[index].offset == place.offset {
                self.note_at(index, place.group, 0, time_ms, step);
            }
        }
    }

    fn dead_lettered(&mut self, place: Place, stands: Option<DeadLetterReference>, time_ms: u64) {
        for index in self.standing(place.topic, place.queue) {
            if self.stands[index].offset != place.offset {
                continue;
            }
            self.note_at(index, place.group, 0, time_ms, TraceStep::DeadLettered);
            let copy = self.stands[index].copy;
            let Some(DeadLetterReference { reference, .. }) = stands else { continue };
            let Reference { topic, queue, offset, .. } = reference;
            self.stands.push(Stand { copy, topic, queue, offset, dead_letters_of: place.group });
        }
    }

    fn taken_back(&mut self, topic: u32, offset: u64, time_ms: u64, step: TraceStep) {
        for index in self.standing(topic, 0) {
            let Stand { copy, offset: at, dead_letters_of, .. } = self.stands[index];
            if at == offset && dead_letters_of != 0 {
                let numbers = Numbers { group: dead_letters_of, ..Numbers::default() };
                self.note(copy, time_ms, step, numbers);
            }
        }
    }

    /// The last that happened to a copy for a group, at one place.
    fn last_step(&self, index: usize, group: u32) -> Option<TraceStep> {
        let Stand { copy, dead_letters_of, .. } = self.stands[index];
        let mut events = self.copies[copy].events.iter().rev();
        let last =
            events.find(|(_, of)| (of.group, of.dead_letters_of) == (group, dead_letters_of));
        last.map(|(event, _)| event.step)
    }

    fn standing(&self, topic: u32, queue: u32) -> Vec<usize> {
        let stands = self.stands.iter().enumerate();
        let here = stands.filter(|(_, stand)| (stand.topic, stand.queue) == (topic, queue));
        here.map(|(index, _)| index).collect()
    }

    fn note_at(&mut self, index: usize, group: u32, client: u32, time_ms: u64, step: TraceStep) {
        let Stand { copy, dead_letters_of, .. } = self.stands[index];
        self.note(copy, time_ms, step, Numbers { group, client, dead_letters_of });
    }

    fn note(&mut self, copy: usize, time_ms: u64, step: TraceStep, numbers: Numbers) {
        let copy = &mut self.copies[copy];
        if copy.events.len() >= TRACE_EVENTS_MAX {
            copy.is_cut = true;
            return;
        }
        let unnamed =
            TraceEvent { time_ms, step, group: None, client_id: None, dead_letters_of: None };
        copy.events.push((unnamed, numbers));
    }

    /// Numbers become names.
    fn finish(self) -> Result<MessageTraces, Refusal> {
        let events = || self.copies.iter().flat_map(|copy| &copy.events);
        let groups = events().flat_map(|(_, numbers)| [numbers.group, numbers.dead_letters_of]);
        let of = NamesOf {
            topics: Vec::new(),
            groups: distinct(groups),
            clients: distinct(events().map(|(_, numbers)| numbers.client)),
        };
        let Outcome::Names(names) = self.search.ask(Command::ReadNames(of))? else {
            return Err(Refusal::Unavailable);
        };
        let searched = self.search.searched();
        let traces = self.copies.into_iter().map(|copy| MessageTrace {
            message: copy.message,
            events: copy.events.into_iter().map(|(event, of)| named(event, of, &names)).collect(),
            is_cut: copy.is_cut,
        });
        Ok(MessageTraces { traces: traces.collect(), searched })
    }
}

fn named(event: TraceEvent, of: Numbers, names: &Names) -> TraceEvent {
    let group = names.groups.get(&of.group);
    let client =
        names.clients.get(&of.client).or_else(|| group.and_then(|(_, member)| member.as_ref()));
    TraceEvent {
        group: group.map(|(group, _)| group.clone()),
        client_id: client.cloned(),
        dead_letters_of: names.groups.get(&of.dead_letters_of).map(|(group, _)| group.clone()),
        ..event
    }
}

/// Each number once; 0 names nothing.
fn distinct(numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let distinct: BTreeSet<u32> = numbers.filter(|number| *number != 0).collect();
    distinct.into_iter().collect()
}
