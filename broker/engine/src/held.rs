//! What a shard holds in memory, counted by kind: for simulations to see that nothing grows without an end. Changes nothing.

use broker_delivery::GroupQueue;

use crate::effects::ReplyTo;
use crate::engine::Engine;

/// Bytes of an ended transaction in a snapshot.
const ENDED_TRANSACTION_BYTES: u64 = 14;

/// Counts of what is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Messages that no index file holds, runs of index files, and hidden messages.
    pub index_entries: u64,
    /// Messages in flight, of all groups.
    pub leases: u64,
    /// Timers: of deliveries, polls and pulls.
    pub timers: u64,
    /// Polls and pulls that wait.
    pub waiters: u64,
    /// Consumers of broadcasting groups.
    pub members: u64,
    /// Clients that have a number.
    pub clients: u64,
    /// Pairs of a group, or consumer, and a topic.
    pub progress: u64,
    /// Receives that are remembered by their name.
    pub attempts: u64,
    /// Transactions that have ended and are remembered, so that nobody ends them otherwise; at most 100,000.
    pub ended_transactions: u64,
    /// Bytes of all of this that a snapshot holds, but for ended transactions.
    pub state_bytes: u64,
}

impl<R: ReplyTo> Engine<R> {
    /// See [`Held`].
    #[must_use]
    pub fn held(&self) -> Held {
        let state = &self.state;
        let progress = || state.group_topics.iter().flatten();
        let timers = state
            .expiries
            .len()
            .saturating_add(state.poll_ends.len())
            .saturating_add(state.pull_ends.len());
        let mut state_bytes = 0_u64;
        let stored = self.store_state::<std::convert::Infallible>(&mut |part| {
            state_bytes = state_bytes.saturating_add(part.len() as u64);
            Ok(())
        });
        let Ok(()) = stored;
        let ended_transactions = state.transactions.ended().count() as u64;
        Held {
            index_entries: state.index_entries,
            leases: progress().flat_map(|p| &p.queues).map(GroupQueue::inflight).sum(),
            timers: timers as u64,
            waiters: state.waiters as u64,
            members: state.members.len() as u64,
            clients: state.clients.by_number().count() as u64,
            progress: progress().count() as u64,
            attempts: progress().map(|p| p.attempts.len() as u64).sum(),
            ended_transactions,
            state_bytes: state_bytes
                .saturating_sub(ENDED_TRANSACTION_BYTES.saturating_mul(ended_transactions)),
        }
    }
}
