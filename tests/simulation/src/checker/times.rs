//! When messages were stored, as far as clients can know, and what a search by time may find.

use broker_engine::OffsetAt;

use super::{Asked, Checker, Place};

/// The time of an event, by the broker's clock: both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Between {
    pub(super) earliest_ms: u64,
    pub(super) latest_ms: u64,
}

impl Between {
    pub(super) fn at(time_ms: u64) -> Self {
        Self { earliest_ms: time_ms, latest_ms: time_ms }
    }

    fn holds(self, other: Self) -> bool {
        self.earliest_ms <= other.latest_ms && other.earliest_ms <= self.latest_ms
    }

    pub(super) fn is_before(self, time_ms: u64) -> bool {
        self.latest_ms < time_ms
    }

    pub(super) fn is_from(self, time_ms: u64) -> bool {
        self.earliest_ms >= time_ms
    }
}

impl Checker {
    /// When something happened that was asked then and is answered now.
    pub(super) fn between(&self, asked: &Asked, now_ms: u64) -> Between {
        let since = self.clock_set_back.iter().filter(|back| back.seq > asked.seq);
        let earliest_ms = since.map(|back| back.to_ms).fold(asked.wall_ms, u64::min);
        let set_back = self.clock_set_back.iter();
        // Stored times never go back, whatever the clock does.
        let latest_ms = set_back.map(|back| back.from_ms).fold(self.wall_ms(now_ms), u64::max);
        Between { earliest_ms, latest_ms }
    }

    /// More is known of when a message was stored.
    pub(super) fn note_stored_ms(&mut self, place: Place, known: Between) -> Result<(), String> {
        let Some(stored) = self.places.get_mut(&place) else { return Ok(()) };
        if !stored.stored_ms.holds(known) {
            return Err(format!(
                "message {} was stored at another time: {:?}, and now {known:?}",
                stored.id, stored.stored_ms
            ));
        }
        if known.latest_ms - known.earliest_ms
            < stored.stored_ms.latest_ms - stored.stored_ms.earliest_ms
        {
            stored.stored_ms = known;
        }
        Ok(())
    }

    /// The broker says which offset of a queue is the first at a time.
    pub(super) fn offset_told(
        &self,
        asked: &Asked,
        (topic, queue): (&str, u32),
        at: OffsetAt,
        told: u64,
    ) -> Result<(), String> {
        let OffsetAt::TimeMs(time_ms) = at else { return Ok(()) };
        let mut numbers = self.topics.iter().filter(|(_, named)| named.name == topic);
        let Some((number, named)) = numbers.next() else { return Ok(()) };
        // Deleted and made again, the topic has another number, which no message has told yet.
        if numbers.next().is_some() || named.may_be_gone {
            return Ok(());
        }
        let places = self.places.range((*number, queue, 0)..=(*number, queue, u64::MAX));
        for (place, stored) in places {
            let offset = place.2;
            let is_too_late = stored.stored_ms.is_from(time_ms)
                && offset < told
                && !self.may_be_taken(*place, asked.now_ms);
            let is_too_early = stored.stored_ms.is_before(time_ms)
                && offset >= told
                && stored.first_seen < asked.seq;
            if is_too_late || is_too_early {
                return Err(format!(
                    "at the time {time_ms} queue {queue} of {topic} begins with {told}, and message {} at {offset} is of {:?}",
                    stored.id, stored.stored_ms
                ));
            }
        }
        Ok(())
    }
}
