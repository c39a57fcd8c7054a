//! Resets of offsets: which messages they make new and which done, as far as clients can know.

use std::collections::BTreeSet;

use broker_model::Model;

use super::progress::Progress;
use super::times::Between;
use super::{Checker, Place, Stored};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Offset(u64),
    Latest,
    TimeMs(u64),
    Unknown,
}

#[derive(Debug, Clone)]
pub(super) struct Reset {
    pub(super) ticket: u64,
    /// What is asked again with the same is carried out once; empty: each time.
    pub(super) id: String,
    pub(super) asked: u64,
    /// None: it may or may not have happened.
    pub(super) answered: Option<u64>,
    /// From here on it has happened or never will: it was answered, or the process died with it.
    pub(super) settled: Option<u64>,
    pub(super) group: String,
    pub(super) topics: Vec<String>,
    pub(super) queue: Option<u32>,
    pub(super) to: To,
}

/// An end of messages that was asked while a reset was under way: until both are stored nothing is handed out.
#[derive(Debug)]
pub(super) struct EndBehind {
    ticket: u64,
    group: String,
    topic: String,
    settled: Option<u64>,
}

/// What a reset makes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    New,
    Done,
    Either,
}

/// When a message came into the world, as far as a reset cares.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Its send, if that was answered.
    asked: Option<u64>,
    first_seen: u64,
    /// When it was stored; none: nobody knows.
    stored_ms: Option<Between>,
}

impl Reset {
    pub(super) fn concerns(&self, group: &str, topic: &str, queue: u32) -> bool {
        let is_topic = self.topics.is_empty() || self.topics.iter().any(|name| name == topic);
        self.group == group && is_topic && self.queue.is_none_or(|own| own == queue)
    }

    fn effect(&self, place: Place, known: Known) -> Effect {
        let Some(answered) = self.answered else { return Effect::Either };
        match self.to {
            To::Offset(offset) if place.2 < offset => Effect::Done,
            To::Offset(_) => Effect::New,
            To::Latest => match known.asked {
                Some(asked) if asked > answered => Effect::New,
                _ if known.first_seen < self.asked => Effect::Done,
                _ => Effect::Either,
            },
            To::TimeMs(time_ms) => match known.stored_ms {
                Some(stored_ms) if stored_ms.is_from(time_ms) => Effect::New,
                _ if known.asked.is_some_and(|asked| asked > answered) => Effect::New,
                Some(stored_ms)
                    if stored_ms.is_before(time_ms) && known.first_seen < self.asked =>
                {
                    Effect::Done
                }
                _ => Effect::Either,
            },
            To::Unknown => Effect::Either,
        }
    }
}

impl Checker {
    fn known(&self, place: Place) -> Option<Known> {
        let unread = self.unread.get(&place);
        let unread = unread.map(|first_seen| Known {
            asked: None,
            first_seen: *first_seen,
            stored_ms: None,
        });
        let known = |stored: &Stored| Known {
            asked: stored.sent.map(|(asked, _)| asked),
            first_seen: stored.first_seen,
            stored_ms: Some(stored.stored_ms),
        };
        self.places.get(&place).map(known).or(unread)
    }

    /// Progress of a reader on a message; made with what earlier resets mean for it.
    pub(super) fn progress_mut(&mut self, reader: u32, place: Place) -> &mut Progress {
        let key = (reader, place);
        if !self.progress.contains_key(&key) {
            let (group, topic) = (self.group_of_reader(reader), self.topic_of_number(place.0));
            let mut progress = Progress::default();
            if let Some(known) = self.known(place) {
                for reset in self.resets.iter().filter(|r| r.concerns(&group, &topic, place.1)) {
                    apply(&mut progress, reset.effect(place, known), reset);
                }
            }
            self.progress.insert(key, progress);
        }
        self.progress.entry(key).or_default()
    }

    pub(super) fn begin_reset(&mut self, mut reset: Reset) {
        let group = self.group(&reset.group);
        let is_steady = |topic: &String| topic != "volatile";
        let may_be_another = group
            .is_none_or(|g| g.is_volatile || g.settings.model == Model::Broadcasting)
            || !reset.topics.iter().all(is_steady);
        if may_be_another {
            // Whose progress it meant may be gone by the time it matters.
            reset.to = To::Unknown;
        }
        self.for_concerned(&reset, |progress, _| progress.unsettle());
        let Reset { group, .. } = &reset;
        self.cursors.retain(|(name, _, _), _| name != group);
        self.disturbed_groups.insert(group.clone());
        self.resets.push(reset);
    }

    pub(super) fn reset_answered(&mut self, ticket: u64, seq: u64, is_done: bool) {
        let Some(at) = self.resets.iter().position(|reset| reset.ticket == ticket) else { return };
        if !is_done {
            // Refused: it never happened. What was unsure stays so.
            self.resets.remove(at);
            return;
        }
        self.resets[at].answered = Some(seq);
        self.resets[at].settled = Some(seq);
        let reset = self.resets[at].clone();
        self.for_concerned(&reset, |progress, effect| apply(progress, effect, &reset));
        // One that was asked later, and may have been carried out, has the last word.
        let is_behind = |other: &&Reset| other.asked > reset.asked && other.answered.is_none();
        let behind: Vec<Reset> = self.resets.iter().filter(is_behind).cloned().collect();
        for later in behind {
            self.for_concerned(&later, |progress, _| progress.unsettle());
        }
    }

    /// Whether a reset may have come before or after what was asked then.
    pub(super) fn is_overtaken(&self, group: &str, topic: &str, queue: u32, asked: u64) -> bool {
        let is_open = |reset: &Reset| reset.settled.is_none_or(|settled| settled > asked);
        self.resets.iter().any(|reset| reset.concerns(group, topic, queue) && is_open(reset))
    }

    /// Whether a reset of any queue may have been under way since then: meanwhile nothing of the topic is handed out.
    pub(super) fn is_being_reset(&self, group: &str, topic: &str, since: u64) -> bool {
        let is_behind = self.ends_behind.iter().any(|end| {
            let is_its = end.group == group && end.topic == topic;
            is_its && end.settled.is_none_or(|settled| settled > since)
        });
        is_behind
            || self.resets.iter().any(|reset| {
                let is_its = reset.concerns(group, topic, reset.queue.unwrap_or(0));
                is_its && reset.settled.is_none_or(|settled| settled > since)
            })
    }

    /// An acknowledgement, or giving up, was asked.
    pub(super) fn end_asked(&mut self, ticket: u64, group: &str, topic: &str) {
        if self.is_being_reset(group, topic, self.seq) {
            let (group, topic) = (group.to_owned(), topic.to_owned());
            self.ends_behind.push(EndBehind { ticket, group, topic, settled: None });
        }
    }

    /// It was answered; all are settled without a ticket, because the process died.
    pub(super) fn end_settled(&mut self, ticket: Option<u64>) {
        let seq = self.seq;
        let open = self.ends_behind.iter_mut().filter(|end| end.settled.is_none());
        open.filter(|end| ticket.is_none_or(|ticket| ticket == end.ticket))
            .for_each(|end| end.settled = Some(seq));
    }

    fn for_concerned(&mut self, reset: &Reset, mut change: impl FnMut(&mut Progress, Effect)) {
        let readers: Vec<u32> = self.readers.keys().copied().collect();
        // Also what was handed out and could not be read.
        let places: BTreeSet<Place> =
            self.places.keys().chain(self.unread.keys()).copied().collect();
        for reader in readers {
            for place in &places {
                let (group, topic) = (self.group_of_reader(reader), self.topic_of_number(place.0));
                if !reset.concerns(&group, &topic, place.1) {
                    continue;
                }
                let Some(known) = self.known(*place) else { continue };
                let effect = reset.effect(*place, known);
                change(self.progress_mut(reader, *place), effect);
            }
        }
    }
}

fn apply(progress: &mut Progress, effect: Effect, reset: &Reset) {
    match effect {
        Effect::New if progress.done_asked <= reset.asked => {
            progress.renew(reset.asked);
            progress.is_owed = true;
        }
        Effect::New | Effect::Either => progress.unsettle_until(reset.answered),
        Effect::Done => {
            // What was asked behind it may be carried out yet, and counts for a reset that comes behind both.
            let (done_asked, may_be_dead) = (progress.done_asked, progress.may_be_dead);
            progress.renew(reset.asked);
            progress.is_done = true;
            if done_asked > reset.asked {
                progress.done_asked = done_asked;
                progress.may_be_dead = may_be_dead;
            }
        }
    }
}
