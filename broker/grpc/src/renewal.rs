//! Prolongs deliveries of push consumers while the client lives, has them, and has not answered (protocol section 3.6). They
//! keep their handles. That a client lives is no proof that it got an answer: that is known of an answer whose connection
//! outlived it for a while, or of which something was settled. What is held here is lost with the process: a delivery
//! then ends at the time that it has.

mod timing;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use broker_engine::{ChangeInvisible, Command, Prolong, Refusal};
use broker_model::{GroupName, ReceiptHandle, TopicName};
use broker_replication::Catalog;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

pub use timing::RenewalTiming;

use crate::connection::Connection;
use crate::limits::{RELEASE_INVISIBLE_MS, RENEWAL_FAILURES_MAX, RENEWALS_AT_ONCE, RENEWALS_MAX};
use crate::session::Sessions;

const LOCK: &str = "nothing panics while it holds the renewals";
/// Messages of one queue that are handed out together stand so close to each other.
const BATCH_SPAN: u64 = 64;

/// Messages of one queue that were handed out together, which share a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    shard: u32,
    topic: u32,
    group: u32,
    queue: u32,
    nonce: u32,
}

impl Key {
    fn of(handle: &ReceiptHandle) -> Self {
        Self {
            shard: handle.shard.0,
            topic: handle.topic,
            group: handle.group,
            queue: handle.queue,
            nonce: handle.nonce,
        }
    }
}

/// One answer to a client.
#[derive(Debug)]
struct Answer {
    client_id: Arc<str>,
    /// None when whoever owns the socket does not tell: then the client's word is all there is.
    connection: Option<Connection>,
    written_ms: u64,
    /// The client settled something of it.
    is_seen: AtomicBool,
}

impl Answer {
    /// Whether the connection broke so early that nobody knows whether it carried the answer.
    fn may_be_lost(&self, timing: RenewalTiming) -> bool {
        let proven_ms = self.written_ms.saturating_add(timing.receipt_ms());
        let closed_ms = self.connection.as_ref().and_then(Connection::closed_ms);
        !self.is_seen.load(Ordering::Relaxed) && closed_ms.is_some_and(|ms| ms < proven_ms)
    }
}

/// What of a batch is not settled.
#[derive(Debug, Clone)]
struct Held {
    /// The first delivery; the others differ in their offsets.
    first: ReceiptHandle,
    /// Bit n: the delivery at the offset of the first one and n.
    mask: u64,
    group: GroupName,
    topic: TopicName,
    answer: Arc<Answer>,
    expires_ms: u64,
    renewals: usize,
    failures: u32,
    is_prolonging: bool,
}

impl Held {
    fn handles(&self) -> Vec<ReceiptHandle> {
        let offsets = (0..BATCH_SPAN).filter(|n| self.mask >> n & 1 == 1);
        offsets
            .map(|n| ReceiptHandle { offset: self.first.offset + n, code: None, ..self.first })
            .collect()
    }

    fn bit(&self, offset: u64) -> u64 {
        let distance = offset.checked_sub(self.first.offset).filter(|n| *n < BATCH_SPAN);
        distance.map_or(0, |n| 1 << n)
    }
}

/// To whom deliveries went.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) client_id: Arc<str>,
    pub(crate) group: GroupName,
    pub(crate) topic: TopicName,
    pub(crate) connection: Option<Connection>,
}

/// One delivery to watch over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tracked {
    pub(crate) handle: ReceiptHandle,
    pub(crate) expires_ms: u64,
}

/// What a look at all deliveries found.
#[derive(Debug, Default)]
struct Due {
    to_prolong: Vec<(Key, Held)>,
    to_release: Vec<Held>,
}

/// All deliveries that are prolonged by this broker.
#[derive(Debug)]
pub(crate) struct Renewals {
    pub(crate) timing: RenewalTiming,
    held: Mutex<HashMap<Key, Held>>,
}

impl Renewals {
    pub(crate) fn new(timing: RenewalTiming) -> Self {
        Self { timing, held: Mutex::default() }
    }

    /// Watches over the deliveries of an answer that was just written to a client, as far as there is room.
    pub(crate) fn track(&self, to: Receiver, deliveries: &[Tracked], now_ms: u64) {
        let Receiver { client_id, group, topic, connection } = to;
        let is_seen = AtomicBool::new(false);
        let answer = Arc::new(Answer { client_id, connection, written_ms: now_ms, is_seen });
        let mut held = self.held.lock().expect(LOCK);
        for Tracked { handle, expires_ms } in deliveries {
            if held.len() >= RENEWALS_MAX {
                tracing::warn!(
                    limit = RENEWALS_MAX,
                    "too many deliveries to prolong; further ones end with their slice"
                );
                return;
            }
            let entry = held.entry(Key::of(handle)).or_insert_with(|| Held {
                first: *handle,
                mask: 0,
                group: group.clone(),
                topic: topic.clone(),
                answer: Arc::clone(&answer),
                expires_ms: *expires_ms,
                renewals: 0,
                failures: 0,
                is_prolonging: false,
            });
            entry.mask |= entry.bit(handle.offset);
        }
    }

    /// The delivery is over, or in the client's own hands: it is prolonged no more. Whoever settled it got the answer.
    pub(crate) fn settled(&self, handle: &ReceiptHandle) {
        let key = Key::of(handle);
        let mut held = self.held.lock().expect(LOCK);
        let Some(entry) = held.get_mut(&key) else { return };
        entry.answer.is_seen.store(true, Ordering::Relaxed);
        entry.mask &= !entry.bit(handle.offset);
        if entry.mask == 0 {
            held.remove(&key);
        }
    }

    /// Prolongs what is about to end, drops what is over, and gives back what silent clients have. Called every few seconds.
    pub(crate) async fn round(&self, catalog: &Catalog, sessions: &Sessions, now_ms: u64) {
        let Due { to_prolong, to_release } = self.take_due(sessions, now_ms);
        let mut prolonging = FuturesUnordered::new();
        for (key, held) in to_prolong {
            if prolonging.len() >= RENEWALS_AT_ONCE
                && let Some((key, result)) = prolonging.next().await
            {
                self.prolonged(key, result, now_ms);
            }
            prolonging.push(self.prolong(catalog, key, held, now_ms));
        }
        while let Some((key, result)) = prolonging.next().await {
            self.prolonged(key, result, now_ms);
        }
        release(catalog, to_release).await;
    }

    fn take_due(&self, sessions: &Sessions, now_ms: u64) -> Due {
        let mut due = Due::default();
        let seen_since_ms = now_ms.saturating_sub(self.timing.silence_ms_max());
        let mut living: HashMap<Arc<str>, bool> = HashMap::new();
        let mut held = self.held.lock().expect(LOCK);
        held.retain(|key, entry| {
            if entry.is_prolonging {
                return true;
            }
            let client_id = &entry.answer.client_id;
            let was_seen = || sessions.was_seen_since(client_id, seen_since_ms);
            let is_living = *living.entry(Arc::clone(client_id)).or_insert_with(was_seen);
            if entry.expires_ms <= now_ms {
                return false;
            }
            if !is_living {
                due.to_release.push(entry.clone());
                return false;
            }
            let held_ms = now_ms.saturating_sub(entry.answer.written_ms);
            let may_stay = held_ms < self.timing.total_ms()
                && entry.failures < RENEWAL_FAILURES_MAX
                && !entry.answer.may_be_lost(self.timing);
            if may_stay && entry.expires_ms < now_ms.saturating_add(self.timing.ahead_ms()) {
                entry.is_prolonging = true;
                due.to_prolong.push((*key, entry.clone()));
            }
            true
        });
        due
    }

    async fn prolong(
        &self,
        catalog: &Catalog,
        key: Key,
        held: Held,
        now_ms: u64,
    ) -> (Key, Result<u64, Refusal>) {
        let end_ms = held.answer.written_ms.saturating_add(self.timing.total_ms());
        let left_ms = end_ms.saturating_sub(now_ms).max(self.timing.ahead_ms());
        let invisible_ms = self.timing.step_ms(held.renewals).min(left_ms);
        let handles = held.handles();
        let command = Prolong { group: held.group, topic: held.topic, handles, invisible_ms };
        let result = match catalog.shard(held.first.shard) {
            Some(shard) => shard.submit(Command::Prolong(command)).await,
            None => Err(Refusal::InvalidHandle),
        };
        (key, result.map(|_| invisible_ms))
    }

    fn prolonged(&self, key: Key, result: Result<u64, Refusal>, now_ms: u64) {
        let mut held = self.held.lock().expect(LOCK);
        let Some(entry) = held.get_mut(&key) else { return };
        entry.is_prolonging = false;
        match result {
            Ok(invisible_ms) => {
                entry.expires_ms = now_ms.saturating_add(invisible_ms);
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
        self.held.lock().expect(LOCK).retain(|_, entry| {
            let is_theirs = &*entry.answer.client_id == client_id;
            if is_theirs {
                released.push(entry.clone());
            }
            !is_theirs
        });
        release(catalog, released).await;
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        let held = self.held.lock().expect(LOCK);
        held.values().map(|entry| entry.handles().len()).sum()
    }
}

/// Whoever had these may have begun with them, so that they count.
async fn release(catalog: &Catalog, released: Vec<Held>) {
    let mut releasing = FuturesUnordered::new();
    for held in &released {
        let Some(shard) = catalog.shard(held.first.shard) else { continue };
        for handle in held.handles() {
            let (group, topic) = (held.group.clone(), held.topic.clone());
            let invisible_ms = RELEASE_INVISIBLE_MS;
            let change = ChangeInvisible { group, topic, handle, invisible_ms };
            if releasing.len() >= RENEWALS_AT_ONCE {
                releasing.next().await;
            }
            releasing.push(shard.submit(Command::ChangeInvisible(change)));
        }
    }
    // A delivery that was settled in the meantime refuses, which is as good.
    while releasing.next().await.is_some() {}
}

#[cfg(test)]
mod tests;
