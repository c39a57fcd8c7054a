//! Give back deliveries that reached nobody: a poll that was dropped, a client that left before its answer was written. They
//! do not count as attempts, and their messages are due at once.

use broker_delivery::GroupQueue;
use broker_model::ReceiptHandle;
use broker_store::Record;
use broker_store::record::Place;

use crate::command::Outcome;
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::receive::place_of;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn release(
        &mut self,
        handles: &[ReceiptHandle],
        reply: R,
        effects: &mut Effects<R>,
    ) {
        for handle in handles {
            // Known at once, so that others get it now; committing it again changes nothing.
            if self.apply_release(place_of(handle), handle.nonce) {
                self.end_decided(place_of(handle), handle.nonce);
                effects.append(&Record::Release { place: place_of(handle), nonce: handle.nonce });
            }
        }
        effects.now.push((reply, Ok(Outcome::Done)));
    }

    /// Its lease may be committed yet, and must not come back.
    pub(crate) fn end_decided(&mut self, place: Place, nonce: u32) {
        if let Some(queue) = self.group_queue_mut(place) {
            queue.end_decided(place.offset, nonce);
        }
    }

    pub(crate) fn end_committed(&mut self, place: Place, nonce: u32) {
        if let Some(queue) = self.group_queue_mut(place) {
            queue.end_committed(place.offset, nonce);
        }
    }

    fn group_queue_mut(&mut self, place: Place) -> Option<&mut GroupQueue> {
        let index = *self.state.group_topic_indexes.get(&(place.group, place.topic))?;
        self.state.group_topic_mut(index)?.queues.get_mut(place.queue as usize)
    }

    /// False when the delivery is over.
    pub(crate) fn apply_release(&mut self, place: Place, nonce: u32) -> bool {
        let Some(&index) = self.state.group_topic_indexes.get(&(place.group, place.topic)) else {
            return false;
        };
        let progress = self.state.group_topic_mut(index);
        let queue = progress.and_then(|progress| progress.queues.get_mut(place.queue as usize));
        let Some(left) = queue.and_then(|queue| queue.release(place.offset, nonce)) else {
            return false;
        };
        if let Some((first, batch)) = left {
            self.drop_expiry(index, place.queue, first, &batch);
        }
        self.wake(index, place.queue);
        true
    }
}
