//! What a consumer does with a delivery: acknowledge it, change its invisible duration, give up on it. Each is checked
//! against the current state, logged, and answered when committed; repeating one has no effect.

use broker_delivery::{GroupQueue, HandleState, LeaseBatch};
use broker_model::{GroupName, ReceiptHandle, TopicName};
use broker_store::Record;
use broker_store::record::{Death, DeathCause, Place};

use crate::command::{Acknowledge, ChangeInvisible, ForwardToDeadLetter, Outcome};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::receive::place_of;
use crate::refusal::Refusal;

/// Whether a delivery is an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Yes,
    No,
}

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn acknowledge(
        &mut self,
        request: &Acknowledge,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        let mut results = Vec::with_capacity(request.handles.len());
        let before = effects.records;
        for handle in &request.handles {
            let state = self.handle_state(&request.group, &request.topic, handle);
            results.push(match state {
                Ok(HandleState::Current | HandleState::Expired | HandleState::Leaving) => {
                    effects.append(&Record::Acknowledge(place_of(handle)));
                    self.begin_leaving(place_of(handle));
                    Ok(())
                }
                // Acknowledged before: the same answer again. What makes it done may not be committed, and a reset that was
                // decided and is not may undo it: behind both a record says it once more.
                Ok(HandleState::Done) => {
                    effects.append(&Record::Acknowledge(place_of(handle)));
                    self.note_end(place_of(handle));
                    Ok(())
                }
                // Too late, it is a dead letter, and comes again when that is put back.
                Ok(HandleState::Dead | HandleState::Stale | HandleState::Exhausted) => {
                    Err(Refusal::InvalidHandle)
                }
                Err(refusal) => Err(refusal),
            });
        }
        let reply = (reply, Ok(Outcome::Acknowledged(results)));
        if effects.records > before {
            effects.on_commit.push(reply)
        } else {
            effects.now.push(reply)
        }
    }

    pub(crate) fn change_invisible(
        &mut self,
        now_ms: u64,
        request: &ChangeInvisible,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        self.change(now_ms, request, Counts::Yes, reply, effects);
    }

    /// The consumer stops to take messages for a while: that it had this one is no attempt.
    pub(crate) fn suspend(
        &mut self,
        now_ms: u64,
        request: &ChangeInvisible,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        self.change(now_ms, request, Counts::No, reply, effects);
    }

    fn change(
        &mut self,
        now_ms: u64,
        request: &ChangeInvisible,
        counts: Counts,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        match self.handle_state(&request.group, &request.topic, &request.handle) {
            Ok(HandleState::Current | HandleState::Expired) => {
                let deadline_ms = now_ms.saturating_add(request.invisible_ms);
                let handle = self.renamed(&request.handle, deadline_ms, counts, effects);
                effects.on_commit.push((reply, Ok(Outcome::InvisibleChanged(handle))));
            }
            Ok(
                HandleState::Done
                | HandleState::Dead
                | HandleState::Stale
                | HandleState::Leaving
                | HandleState::Exhausted,
            ) => {
                effects.now.push((reply, Err(Refusal::InvalidHandle)));
            }
            Err(refusal) => effects.now.push((reply, Err(refusal))),
        }
    }

    pub(crate) fn forward_to_dead_letter(
        &mut self,
        request: &ForwardToDeadLetter,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        match self.handle_state(&request.group, &request.topic, &request.handle) {
            Ok(HandleState::Current | HandleState::Expired) => {
                let place = place_of(&request.handle);
                let queue = self.group_queue(place);
                let attempts = queue.and_then(|q| q.attempt_of(place.offset, request.handle.nonce));
                let attempts = attempts.unwrap_or(1);
                let cause = match attempts >= self.state.attempts_max(place.group) {
                    true => DeathCause::AttemptsUsedUp,
                    false => DeathCause::GivenUp,
                };
                self.dead_letter(place, Death { attempts, cause }, effects);
                self.begin_leaving(place);
                effects.on_commit.push((reply, Ok(Outcome::Done)));
            }
            // Its end is decided already, and changes nothing when it is said twice; the answer waits for it.
            Ok(HandleState::Leaving | HandleState::Exhausted | HandleState::Done) => {
                effects.append(&Record::Acknowledge(place_of(&request.handle)));
                self.note_end(place_of(&request.handle));
                effects.on_commit.push((reply, Ok(Outcome::Done)));
            }
            // Clients repeat this call until it is answered with OK; what is gone needs nothing more.
            Ok(HandleState::Dead | HandleState::Stale) => {
                effects.now.push((reply, Ok(Outcome::Done)))
            }
            Err(refusal) => effects.now.push((reply, Err(refusal))),
        }
    }

    /// A cursor that was decided before and is committed first brings the message back; between the two nobody gets it.
    fn note_end(&mut self, place: Place) {
        let index = self.state.group_topic_indexes.get(&(place.group, place.topic)).copied();
        let progress = index.and_then(|index| self.state.group_topic_mut(index));
        if let Some(progress) = progress.filter(|progress| progress.cursors_pending > 0) {
            progress.ends_behind.insert((place.queue, place.offset));
        }
    }

    /// Between the decision and its commit the message is nobody's.
    fn begin_leaving(&mut self, place: Place) {
        self.note_end(place);
        let Some(&index) = self.state.group_topic_indexes.get(&(place.group, place.topic)) else {
            return;
        };
        let progress = self.state.group_topic_mut(index);
        let queue = progress.and_then(|progress| progress.queues.get_mut(place.queue as usize));
        if let Some((first, batch)) = queue.and_then(|queue| queue.leave(place.offset)) {
            self.drop_expiry(index, place.queue, first, &batch);
        }
    }

    /// A new name and deadline for a delivery, known at once: the old deadline must not end it before the commit.
    /// Committing it again changes nothing.
    pub(crate) fn rename_delivery(
        &mut self,
        handle: &ReceiptHandle,
        deadline_ms: u64,
        effects: &mut Effects<R>,
    ) -> ReceiptHandle {
        self.renamed(handle, deadline_ms, Counts::Yes, effects)
    }

    fn renamed(
        &mut self,
        handle: &ReceiptHandle,
        deadline_ms: u64,
        counts: Counts,
        effects: &mut Effects<R>,
    ) -> ReceiptHandle {
        let place = place_of(handle);
        let new_nonce = self.nonce_for(place);
        // What the handle says of it is the client's word.
        let queue = self.group_queue(place);
        let attempt = queue.and_then(|queue| queue.attempt_of(place.offset, handle.nonce));
        // As the one before: the next delivery has the number of this one.
        let attempt = attempt.unwrap_or(1).saturating_sub(u32::from(counts == Counts::No));
        let nonce = handle.nonce;
        effects.append(&Record::ChangeInvisible { place, nonce, new_nonce, attempt, deadline_ms });
        let lease = LeaseBatch { mask: 1, attempt, nonce: new_nonce, deadline_ms };
        self.apply_change(place, nonce, lease);
        self.end_decided(place, nonce);
        self.coded(ReceiptHandle { nonce: new_nonce, attempt, ..*handle }, effects)
    }

    /// A name for a delivery of this message that no batch beginning there has.
    pub(crate) fn nonce_for(&mut self, first: Place) -> u32 {
        loop {
            let nonce = self.nonce();
            let queue = self.group_queue(first);
            if queue.is_none_or(|queue| !queue.is_named(first.offset, nonce)) {
                return nonce;
            }
        }
    }

    /// The progress that a place is part of.
    pub(crate) fn group_queue(&self, place: Place) -> Option<&GroupQueue> {
        let index = self.state.group_topic_indexes.get(&(place.group, place.topic))?;
        self.state.group_topic(*index)?.queues.get(place.queue as usize)
    }

    pub(crate) fn handle_state(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &ReceiptHandle,
    ) -> Result<HandleState, Refusal> {
        self.check_receipt(handle)?;
        let topic_number = self.topic_number(topic)?;
        let group_number = self.group_number(group)?;
        let member = self.state.members.get(&handle.group);
        let owner = member.map_or(handle.group, |member| member.group);
        if (owner, handle.topic, handle.shard) != (group_number, topic_number, self.shard) {
            return Err(Refusal::InvalidHandle);
        }
        let queue = self.group_queue(place_of(handle)).ok_or(Refusal::InvalidHandle)?;
        Ok(queue.handle_state(handle.offset, handle.nonce))
    }
}
