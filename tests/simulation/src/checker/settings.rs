//! The settings that a group may have now: those that were asked for last and answered, and all that were asked for since.

use broker_engine::Reply;
use broker_model::{ConsumerGroup, DeadLetterPolicy, Order};

use super::Checker;

/// What one group may have, and had.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// In the order asked; when each was.
    candidates: Vec<(u64, ConsumerGroup)>,
    /// When it was certain last that it has one of another kind no more.
    changed: u64,
    /// Least and most deliveries that it ever may have allowed.
    attempts: (u32, u32),
    /// Whether it ever may have thrown dead letters away, or kept them.
    discards: bool,
    stores: bool,
}

impl Settings {
    pub(super) fn new(planned: &ConsumerGroup) -> Self {
        let attempts_max = planned.retry.max_attempts;
        let is_kept = planned.dead_letter == DeadLetterPolicy::Store;
        Self {
            candidates: vec![(0, planned.clone())],
            changed: 0,
            attempts: (attempts_max, attempts_max),
            discards: !is_kept,
            stores: is_kept,
        }
    }

    fn asked(&mut self, seq: u64, settings: &ConsumerGroup) {
        let Self { attempts: (least, most), .. } = self;
        *least = (*least).min(settings.retry.max_attempts);
        *most = (*most).max(settings.retry.max_attempts);
        self.discards |= settings.dead_letter == DeadLetterPolicy::Discard;
        self.stores |= settings.dead_letter == DeadLetterPolicy::Store;
        self.candidates.push((seq, settings.clone()));
    }

    /// Those that were asked for at `asked` are in force, or some that were asked for later.
    fn answered(&mut self, asked: u64, seq: u64, reply: &Reply) {
        let before = self.candidates.len();
        match reply {
            Ok(_) => self.candidates.retain(|(other, _)| *other >= asked),
            Err(_) => self.candidates.retain(|(other, _)| *other != asked),
        }
        if self.candidates.len() < before {
            self.changed = seq;
        }
    }

    fn are_all(&self, is_so: impl Fn(&ConsumerGroup) -> bool) -> bool {
        self.candidates.iter().all(|(_, settings)| is_so(settings))
    }
}

impl Checker {
    pub(super) fn settings_asked(&mut self, seq: u64, settings: &ConsumerGroup) {
        let group = settings.name.as_str();
        let Some(known) = self.settings.get_mut(group) else { return };
        let before = known.attempts.0;
        known.asked(seq, settings);
        let attempts_max = known.attempts.0;
        if attempts_max == before {
            return;
        }
        // Deliveries that are under way may be the last ones now.
        let readers = self.readers.iter().filter(|(_, named)| named.name == group);
        let readers: Vec<u32> = readers.map(|(reader, _)| *reader).collect();
        for ((reader, _), progress) in &mut self.progress {
            if readers.contains(reader) && (attempts_max..before).contains(&progress.attempt) {
                progress.was_last();
            }
        }
    }

    pub(super) fn settings_answered(&mut self, asked: u64, group: &str, reply: &Reply) {
        if let Some(known) = self.settings.get_mut(group) {
            known.answered(asked, self.seq, reply);
        }
    }

    /// Whether the group gets messages, and got them since before that event.
    pub(super) fn consumes(&self, group: &str, since: u64) -> bool {
        let is_consuming = |settings: &ConsumerGroup| settings.is_consuming;
        let known = self.settings.get(group);
        known.is_none_or(|known| known.are_all(is_consuming) && known.changed < since)
    }

    /// Whether the group was told to pause, and nothing else since.
    pub(super) fn is_paused(&self, group: &str) -> bool {
        self.settings.get(group).is_some_and(|known| known.are_all(|s| !s.is_consuming))
    }

    /// Fewest deliveries that the group ever may have allowed.
    pub(super) fn attempts_least(&self, group: &str) -> u32 {
        self.settings.get(group).map_or(u32::MAX, |known| known.attempts.0)
    }

    /// Most deliveries that the group ever may have allowed.
    pub(super) fn attempts_most(&self, group: &str) -> u32 {
        self.settings.get(group).map_or(u32::MAX, |known| known.attempts.1)
    }

    /// Whether all of its dead letters are kept.
    pub(super) fn keeps_dead_letters(&self, group: &str) -> bool {
        self.settings.get(group).is_none_or(|known| !known.discards)
    }

    /// Whether none of its dead letters is kept.
    pub(super) fn discards_dead_letters(&self, group: &str) -> bool {
        self.settings.get(group).is_some_and(|known| !known.stores)
    }

    /// In which order a group has its messages, and had them since before that event; none when that is not certain.
    pub(super) fn order_of(&self, group: &str, topic: &str, since: u64) -> Option<Order> {
        let known = self.settings.get(group)?;
        let (_, first) = known.candidates.first()?;
        if topic == "lite" {
            return Some(Order::Fifo);
        }
        let is_certain = known.are_all(|s| s.order == first.order) && known.changed < since;
        is_certain.then_some(first.order)
    }
}
