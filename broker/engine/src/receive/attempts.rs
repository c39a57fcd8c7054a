//! Receives that have a name: what a group in order gave to one is given to its repetition, as the answer did not arrive.

use broker_delivery::HandleState;
use broker_model::ReceiptHandle;
use broker_model::limits::{
    ATTEMPT_BYTES_PER_SHARD_MAX, ATTEMPT_IDS_MAX, ATTEMPT_IDS_PER_SHARD_MAX,
};
use broker_store::Log;

use crate::command::{Delivery, Receive};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::state::State;
use crate::waiting::Waiter;

impl<R: ReplyTo> Engine<R> {
    /// A group in order gives a named receive that comes again what it gave before: the answer did not arrive.
    pub(super) fn repeat_attempt(
        &mut self,
        now_ms: u64,
        index: usize,
        waiter: &Waiter<R>,
        log: &Log,
        effects: &mut Effects<R>,
    ) -> Vec<Delivery> {
        let receive = &waiter.receive;
        let Some(progress) = self.state.group_topic_mut(index) else { return Vec::new() };
        let known = progress.attempts.iter().position(|(id, _)| *id == receive.attempt_id);
        let Some((id, mut handles)) = known.and_then(|at| progress.attempts.remove(at)) else {
            return Vec::new();
        };
        handles.retain(|handle| {
            let queue = progress.queues.get(handle.queue as usize);
            let state = queue.map(|queue| queue.handle_state(handle.offset, handle.nonce));
            state == Some(HandleState::Current)
        });
        if !handles.is_empty() && !waiter.reply.claim() {
            progress.attempts.push_back((id, handles));
            return Vec::new();
        }
        let (mut renamed, mut deliveries) = (Vec::new(), Vec::new());
        let deadline_ms = now_ms.saturating_add(receive.invisible_ms);
        for handle in handles {
            let new = self.rename_delivery(&handle, deadline_ms, effects);
            renamed.push(new);
            deliveries.extend(self.delivery(new, deadline_ms, log));
        }
        if let Some(progress) = self.state.group_topic_mut(index) {
            progress.attempts.push_back((id, renamed));
        }
        deliveries
    }

    pub(super) fn remember_attempt(
        &mut self,
        index: usize,
        receive: &Receive,
        deliveries: &[Delivery],
    ) {
        if receive.attempt_id.is_empty() || deliveries.is_empty() {
            return;
        }
        let handles = deliveries.iter().map(|delivery| delivery.handle).collect();
        self.state.remember_attempt(index, receive.attempt_id.clone(), handles);
    }
}

/// An attempt without its name and what it was given, in both places that know of it.
const ATTEMPT_BYTES: usize = 96;

impl<R> State<R> {
    /// The oldest ones are forgotten, of this group on this topic, and of all.
    fn remember_attempt(&mut self, index: usize, id: String, handles: Vec<ReceiptHandle>) {
        let handle_bytes = handles.len().saturating_mul(size_of::<ReceiptHandle>());
        let bytes = id.len().saturating_add(handle_bytes).saturating_add(ATTEMPT_BYTES);
        // An entry for each attempt that is remembered at the least, the oldest first.
        while (self.attempts.len() >= ATTEMPT_IDS_PER_SHARD_MAX
            || self.attempt_bytes.saturating_add(bytes) > ATTEMPT_BYTES_PER_SHARD_MAX)
            && let Some((oldest, its_bytes)) = self.attempts.pop_front()
        {
            self.attempt_bytes = self.attempt_bytes.saturating_sub(its_bytes);
            if let Some(progress) = self.group_topic_mut(oldest) {
                progress.attempts.pop_front();
            }
        }
        let Some(progress) = self.group_topic_mut(index) else { return };
        if progress.attempts.len() >= ATTEMPT_IDS_MAX {
            progress.attempts.pop_front();
        }
        progress.attempts.push_back((id, handles));
        self.attempts.push_back((index, bytes));
        self.attempt_bytes = self.attempt_bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_have_a_limit_for_each_group_and_for_the_shard() {
        let mut state = State::<()>::default();
        let count = |state: &State<()>| {
            let all = state.group_topics.iter().flatten();
            all.map(|progress| progress.attempts.len()).sum::<usize>()
        };
        for group in 1..=40 {
            let index = state.group_topic_index(group, 1);
            for n in 0..2 * ATTEMPT_IDS_MAX {
                state.remember_attempt(index, format!("attempt-{n}"), Vec::new());
            }
            let progress = state.group_topic(index).unwrap();
            assert_eq!(progress.attempts.len(), ATTEMPT_IDS_MAX);
            assert_eq!(progress.attempts[0].0, format!("attempt-{ATTEMPT_IDS_MAX}"));
            assert!(count(&state) <= ATTEMPT_IDS_PER_SHARD_MAX);
            assert!(state.attempts.len() <= ATTEMPT_IDS_PER_SHARD_MAX);
        }
        // Whoever goes leaves its places behind, and no more are taken.
        for index in 0..20 {
            state.remove_group_topic(index);
        }
        assert!(count(&state) <= state.attempts.len());
    }

    #[test]
    fn attempts_of_a_shard_take_no_more_bytes_than_they_may() {
        let mut state = State::<()>::default();
        let index = |state: &mut State<()>, n: usize| {
            state.group_topic_index(u32::try_from(n % 40).unwrap() + 1, 1)
        };
        let handle = ReceiptHandle {
            shard: broker_model::ShardId(0),
            topic: 1,
            group: 1,
            queue: 0,
            offset: 0,
            nonce: 1,
            attempt: 1,
            code: None,
        };
        for n in 0..ATTEMPT_IDS_PER_SHARD_MAX {
            let index = index(&mut state, n);
            state.remember_attempt(index, "a".repeat(255), vec![handle; 32]);
        }
        let all = state.group_topics.iter().flatten().flat_map(|progress| &progress.attempts);
        let held: usize =
            all.map(|(id, handles)| id.len() + handles.len() * size_of::<ReceiptHandle>()).sum();
        assert!(held <= ATTEMPT_BYTES_PER_SHARD_MAX, "{held} bytes");
        assert!(held > ATTEMPT_BYTES_PER_SHARD_MAX / 2, "{held} bytes");
    }
}
