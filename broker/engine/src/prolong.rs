//! Prolong deliveries of consumers that are at work: what is in flight of messages handed out together stays so for longer,
//! under the handles that the consumer has.

use broker_delivery::HandleState;
use broker_store::Record;
use broker_store::record::Place;

use crate::command::{Outcome, Prolong};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::receive::place_of;
use crate::refusal::Refusal;
use crate::state::Expiry;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn prolong(
        &mut self,
        now_ms: u64,
        request: &Prolong,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        let deadline_ms = now_ms.saturating_add(request.invisible_ms);
        let (mut is_any_in_flight, before) = (false, effects.records);
        for handle in &request.handles {
            match self.handle_state(&request.group, &request.topic, handle) {
                Ok(HandleState::Current) => is_any_in_flight = true,
                Ok(_) => continue,
                Err(refusal) => return effects.now.push((reply, Err(refusal))),
            }
            let place = place_of(handle);
            let lease = self.group_queue(place).and_then(|queue| queue.lease_of(place.offset));
            let Some((offset, _)) = lease else { continue };
            let first = Place { offset, ..place };
            // The others of its batch find it done. Committing it again changes nothing.
            if self.apply_prolong(first, handle.nonce, deadline_ms) {
                effects.append(&Record::Prolong { first, nonce: handle.nonce, deadline_ms });
            }
        }
        let answer = if is_any_in_flight { Ok(Outcome::Done) } else { Err(Refusal::InvalidHandle) };
        if effects.records > before {
            effects.on_commit.push((reply, answer));
        } else {
            effects.now.push((reply, answer));
        }
    }

    /// False when the deliveries are over, or end later anyway.
    pub(crate) fn apply_prolong(&mut self, first: Place, nonce: u32, deadline_ms: u64) -> bool {
        let Some(&index) = self.state.group_topic_indexes.get(&(first.group, first.topic)) else {
            return false;
        };
        let Some(progress) = self.state.group_topic_mut(index) else { return false };
        let queue = progress.queues.get_mut(first.queue as usize);
        let before_ms = queue.and_then(|queue| queue.prolong(first.offset, nonce, deadline_ms));
        let Some(before_ms) = before_ms else { return false };
        let expiry = Expiry {
            deadline_ms: before_ms,
            group_topic: index,
            queue: first.queue,
            first: first.offset,
            nonce,
        };
        progress.passed.retain(|passed| *passed != expiry);
        self.state.expiries.remove(&expiry);
        self.state.expiries.insert(Expiry { deadline_ms, ..expiry });
        true
    }
}
