//! Prolongs deliveries of push consumers while the client lives and has not answered (protocol section 3.6).
//! The client keeps the handle it was given; whoever settles a delivery asks here for the handle that is valid now.
//! What is held here is lost with the process: a delivery then ends with its slice and comes again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker_engine::{ChangeInvisible, Command, Outcome, Refusal};
use broker_model::limits::AUTO_RENEW_TOTAL_MS;
use broker_model::{GroupName, ReceiptHandle, TopicName};
use broker_replication::Catalog;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::limits::{
    RELEASE_INVISIBLE_MS, RENEWAL_AHEAD_MS, RENEWAL_FAILURES_MAX, RENEWAL_SETTLE_MS_MAX,
    RENEWAL_STEPS_MS, RENEWALS_MAX,
};
use crate::session::Sessions;

const LOCK: &str = "nothing panics while it holds the renewals";

/// The handle as the client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    shard: u32,
    topic: u32,
    group: u32,
    queue: u32,
    offset: u64,
    nonce: u32,
}

impl Key {
    fn of(handle: &ReceiptHandle) -> Self {
        Self {
            shard: handle.shard.0,
            topic: handle.topic,
            group: handle.group,
            queue: handle.queue,
            offset: handle.offset,
            nonce: handle.nonce,
        }
    }
}

/// What is happening to a delivery. Prolonging and settling exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Renewing,
    Settling,
}

#[derive(Debug, Clone)]
struct Held {
    current: ReceiptHandle,
    group: GroupName,
    topic: TopicName,
    client_id: Arc<str>,
    received_ms: u64,
    expires_ms: u64,
    renewals: usize,
    failures: u32,
    phase: Phase,
}

/// One delivery to watch over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tracked {
    pub(crate) handle: ReceiptHandle,
    pub(crate) expires_ms: u64,
}

/// All deliveries that are prolonged by this broker.
#[derive(Debug)]
pub(crate) struct Renewals {
    held: Mutex<HashMap<Key, Held>>,
    rounds: watch::Sender<()>,
}

/// A delivery being settled. Dropping it without [`Settlement::done`] leaves the delivery as it was.
#[derive(Debug)]
pub(crate) struct Settlement<'a> {
    renewals: &'a Renewals,
    key: Option<Key>,
    /// The handle to use now.
    pub(crate) handle: ReceiptHandle,
}

impl Settlement<'_> {
    /// The delivery is over, or in the client's own hands: it is prolonged no more.
    pub(crate) fn done(mut self) {
        if let Some(key) = self.key.take() {
            self.renewals.held.lock().expect(LOCK).remove(&key);
        }
    }
}

impl Drop for Settlement<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take()
            && let Some(held) = self.renewals.held.lock().expect(LOCK).get_mut(&key)
        {
            held.phase = Phase::Idle;
        }
    }
}

impl Renewals {
    pub(crate) fn new() -> Self {
        Self { held: Mutex::default(), rounds: watch::Sender::new(()) }
    }

    /// Watches over deliveries that were just handed to a client, as far as there is room.
    pub(crate) fn track(
        &self,
        client_id: &Arc<str>,
        (group, topic): (&GroupName, &TopicName),
        deliveries: impl Iterator<Item = Tracked>,
        now_ms: u64,
    ) {
        let mut held = self.held.lock().expect(LOCK);
        for delivery in deliveries {
            if held.len() >= RENEWALS_MAX {
                tracing::warn!(
                    limit = RENEWALS_MAX,
                    "too many deliveries to prolong; further ones end with their slice"
                );
                return;
            }
            let entry = Held {
                current: delivery.handle,
                group: group.clone(),
                topic: topic.clone(),
                client_id: Arc::clone(client_id),
                received_ms: now_ms,
                expires_ms: delivery.expires_ms,
                renewals: 0,
                failures: 0,
                phase: Phase::Idle,
            };
            held.insert(Key::of(&delivery.handle), entry);
        }
    }

    /// Forgets deliveries that reached nobody.
    pub(crate) fn forget(&self, handles: &[ReceiptHandle]) {
        let mut held = self.held.lock().expect(LOCK);
        for handle in handles {
            held.remove(&Key::of(handle));
        }
    }

    /// Begins to settle the delivery that the client knows by this handle. Waits for a prolonging on its way, because
    /// the handle that it replaces is void.
    pub(crate) async fn settle(&self, original: ReceiptHandle) -> Settlement<'_> {
        let mut rounds = self.rounds.subscribe();
        loop {
            if let Some(settlement) = self.try_settle(original) {
                return settlement;
            }
            let limit = Duration::from_millis(RENEWAL_SETTLE_MS_MAX);
            if timeout(limit, rounds.changed()).await.is_err() {
                return Settlement { renewals: self, key: None, handle: original };
            }
        }
    }

    fn try_settle(&self, original: ReceiptHandle) -> Option<Settlement<'_>> {
        let key = Key::of(&original);
        let mut held = self.held.lock().expect(LOCK);
        let Some(entry) = held.get_mut(&key) else {
            return Some(Settlement { renewals: self, key: None, handle: original });
        };
        match entry.phase {
            Phase::Renewing => None,
            // Two answers to one delivery at a time: the first one decides about the entry.
            Phase::Settling => {
                Some(Settlement { renewals: self, key: None, handle: entry.current })
            }
            Phase::Idle => {
                entry.phase = Phase::Settling;
                Some(Settlement { renewals: self, key: Some(key), handle: entry.current })
            }
        }
    }

    /// Prolongs what is about to end and drops what is over. Called every few seconds.
    pub(crate) async fn round(&self, catalog: &Catalog, sessions: &Sessions, now_ms: u64) {
        let due = self.take_due(sessions, now_ms);
        let mut renewing: FuturesUnordered<_> =
            due.into_iter().map(|(key, held)| renew(catalog, key, held, now_ms)).collect();
        while let Some((key, result)) = renewing.next().await {
            self.renewed(key, result, now_ms);
            self.rounds.send_replace(());
        }
    }

    /// Marks the deliveries to prolong now.
    fn take_due(&self, sessions: &Sessions, now_ms: u64) -> Vec<(Key, Held)> {
        let mut due = Vec::new();
        let mut held = self.held.lock().expect(LOCK);
        held.retain(|key, entry| {
            let is_ending = entry.expires_ms < now_ms + RENEWAL_AHEAD_MS;
            if entry.phase != Phase::Idle || !is_ending {
                return true;
            }
            let may_stay = now_ms.saturating_sub(entry.received_ms) < AUTO_RENEW_TOTAL_MS
                && entry.failures < RENEWAL_FAILURES_MAX
                && sessions.is_alive(&entry.client_id, now_ms);
            if may_stay && entry.expires_ms > now_ms {
                entry.phase = Phase::Renewing;
                due.push((*key, entry.clone()));
                return true;
            }
            // Until the end of its slice the client may still settle it.
            entry.expires_ms > now_ms
        });
        due
    }

    fn renewed(&self, key: Key, result: Result<(ReceiptHandle, u64), Refusal>, now_ms: u64) {
        let mut held = self.held.lock().expect(LOCK);
        let Some(entry) = held.get_mut(&key) else { return };
        entry.phase = Phase::Idle;
        match result {
            Ok((current, invisible_ms)) => {
                entry.current = current;
                entry.expires_ms = now_ms + invisible_ms;
                entry.renewals += 1;
                entry.failures = 0;
            }
            Err(Refusal::InvalidHandle | Refusal::TopicNotFound(_) | Refusal::GroupNotFound(_)) => {
                held.remove(&key);
            }
            Err(_) => entry.failures += 1,
        }
    }

    /// Gives back what a client holds that is gone: others get it after a moment.
    pub(crate) async fn release_client(&self, catalog: &Catalog, client_id: &str) {
        let mut released = Vec::new();
        self.held.lock().expect(LOCK).retain(|key, entry| {
            let is_theirs = &*entry.client_id == client_id;
            if is_theirs {
                released.push((*key, entry.clone()));
            }
            !is_theirs
        });
        let mut releasing: FuturesUnordered<_> = released
            .into_iter()
            .map(|(_, held)| change(catalog, held, RELEASE_INVISIBLE_MS))
            .collect();
        // A delivery that was settled in the meantime refuses, which is as good.
        while releasing.next().await.is_some() {}
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.held.lock().expect(LOCK).len()
    }
}

async fn renew(
    catalog: &Catalog,
    key: Key,
    held: Held,
    now_ms: u64,
) -> (Key, Result<(ReceiptHandle, u64), Refusal>) {
    let step = RENEWAL_STEPS_MS[held.renewals.min(RENEWAL_STEPS_MS.len() - 1)];
    let left = (held.received_ms + AUTO_RENEW_TOTAL_MS).saturating_sub(now_ms);
    let invisible_ms = step.min(left.max(RENEWAL_AHEAD_MS));
    let result = change(catalog, held, invisible_ms).await;
    (key, result.map(|handle| (handle, invisible_ms)))
}

async fn change(
    catalog: &Catalog,
    held: Held,
    invisible_ms: u64,
) -> Result<ReceiptHandle, Refusal> {
    let shard = catalog.shard(held.current.shard).ok_or(Refusal::InvalidHandle)?;
    let command = ChangeInvisible {
        group: held.group,
        topic: held.topic,
        handle: held.current,
        invisible_ms,
    };
    match shard.submit(Command::ChangeInvisible(command)).await? {
        Outcome::InvisibleChanged(handle) => Ok(handle),
        _ => Ok(held.current),
    }
}

#[cfg(test)]
mod tests;
