//! WatchState: everything first, ending with `synced`, then every change as it happens; numbers at most once a second.
//! A reader that is too slow for the changes gets the whole state again instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use broker_proto::admin::{
    BrokerStatus, GroupStatus, ShardStatus, StateEvent, Synced, state_event::Event,
};
use broker_replication::CatalogChange;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::broker_status::broker_status;
use super::group_status::{differ, group_statuses};
use crate::clock::now_ms;
use crate::context::BrokerContext;
use crate::convert::admin::{group_to, topic_to};
use crate::limits::{OLDEST_STEP_MS_MIN, WATCH_EVENTS_MAX, WATCH_ROUND_MS, WATCHERS_MAX};

/// The events of one reader.
pub(super) type StateStream = ReceiverStream<Result<StateEvent, Status>>;

/// The reader is gone or the broker stops.
struct Ended;

pub(super) fn watch_state(context: &Arc<BrokerContext>) -> Result<StateStream, Status> {
    let (sender, receiver) = mpsc::channel(WATCH_EVENTS_MAX);
    if context.watchers.available_permits() == 0 {
        let text = format!("{WATCHERS_MAX} state streams are open already; close one");
        return Err(Status::resource_exhausted(text));
    }
    let context = Arc::clone(context);
    tokio::spawn(async move {
        let Ok(_permit) = context.watchers.acquire().await else { return };
        let mut reader = Reader {
            changes: context.catalog.changes(),
            context: &context,
            sender: sender.clone(),
            topics: BTreeSet::new(),
            groups: BTreeSet::new(),
            statuses: BTreeMap::new(),
            broker: BrokerStatus::default(),
        };
        tokio::select! {
            Ended = reader.serve() => {}
            () = sender.closed() => {}
            () = context.stopped() => {}
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// One reader, and what it was told last.
struct Reader<'a> {
    context: &'a BrokerContext,
    changes: Receiver<CatalogChange>,
    sender: mpsc::Sender<Result<StateEvent, Status>>,
    topics: BTreeSet<String>,
    groups: BTreeSet<String>,
    statuses: BTreeMap<String, GroupStatus>,
    broker: BrokerStatus,
}

impl Reader<'_> {
    async fn serve(&mut self) -> Ended {
        match self.serve_until_ended().await {
            Ok(never) => never,
            Err(ended) => ended,
        }
    }

    async fn serve_until_ended(&mut self) -> Result<Ended, Ended> {
        self.tell_everything().await?;
        self.tell(Event::Synced(Synced {})).await?;
        let mut rounds = interval(Duration::from_millis(WATCH_ROUND_MS));
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = self.changes.recv() => match change {
                    Ok(change) => self.tell_change(change).await?,
                    Err(RecvError::Lagged(_)) => self.tell_everything().await?,
                    Err(RecvError::Closed) => return Ok(Ended),
                },
                _ = rounds.tick() => self.tell_numbers().await?,
            }
        }
    }

    async fn tell(&self, event: Event) -> Result<(), Ended> {
        let event = StateEvent { version: self.context.catalog.version(), event: Some(event) };
        self.sender.send(Ok(event)).await.map_err(|_| Ended)
    }

    /// The whole state, and the end of what is no longer there.
    async fn tell_everything(&mut self) -> Result<(), Ended> {
        let mut gone = std::mem::take(&mut self.topics);
        for entry in self.context.catalog.topics() {
            gone.remove(entry.topic.name.as_str());
            self.tell_change(CatalogChange::Topic(entry)).await?;
        }
        for name in gone {
            self.tell(Event::TopicDeleted(name)).await?;
        }
        let mut gone = std::mem::take(&mut self.groups);
        for entry in self.context.catalog.groups() {
            gone.remove(entry.group.name.as_str());
            self.tell_change(CatalogChange::Group(entry)).await?;
        }
        for name in gone {
            self.statuses.remove(&name);
            self.tell(Event::GroupDeleted(name)).await?;
        }
        self.tell_numbers().await
    }

    async fn tell_change(&mut self, change: CatalogChange) -> Result<(), Ended> {
        let event = match change {
            CatalogChange::Topic(entry) => {
                self.topics.insert(entry.topic.name.as_str().to_owned());
                Event::Topic(topic_to(&entry))
            }
            CatalogChange::TopicDeleted(name) => {
                self.topics.remove(name.as_str());
                Event::TopicDeleted(name.as_str().to_owned())
            }
            CatalogChange::Group(entry) => {
                self.groups.insert(entry.group.name.as_str().to_owned());
                Event::Group(group_to(&entry))
            }
            CatalogChange::GroupDeleted(name) => {
                self.groups.remove(name.as_str());
                self.statuses.remove(name.as_str());
                Event::GroupDeleted(name.as_str().to_owned())
            }
        };
        self.tell(event).await
    }

    /// The groups and the broker, as far as they differ from what was told last.
    async fn tell_numbers(&mut self) -> Result<(), Ended> {
        // A shard that does not answer now is asked again in the next round.
        let statuses = group_statuses(self.context).await.unwrap_or_default();
        for (name, status) in statuses {
            if self.statuses.get(&name).is_some_and(|told| !differ(told, &status)) {
                continue;
            }
            self.tell(Event::GroupStatus(status.clone())).await?;
            self.statuses.insert(name, status);
        }
        let broker = broker_status(self.context);
        if is_worth_telling(&self.broker, &broker, now_ms()) {
            self.tell(Event::Broker(broker.clone())).await?;
            self.broker = broker;
        }
        Ok(())
    }
}

/// Bytes and indexes change with every message; they are told when they moved by a hundredth of the disk.
fn is_worth_telling(told: &BrokerStatus, now: &BrokerStatus, now_ms: u64) -> bool {
    let step = (now.disk_total_bytes / 100).max(1);
    let roles = |s: &BrokerStatus| {
        let role = |s: &ShardStatus| (s.id, s.role.clone(), s.failure.clone(), s.refuses_sends);
        s.shards.iter().map(role).collect::<Vec<_>>()
    };
    told.started_ms != now.started_ms
        || told.cluster_map_version != now.cluster_map_version
        || told.disk_total_bytes != now.disk_total_bytes
        || told.disk_free_bytes.abs_diff(now.disk_free_bytes) >= step
        || roles(told) != roles(now)
        || told.shards.iter().zip(&now.shards).any(|(told, now)| has_aged(told, now, now_ms))
}

/// Retention takes the oldest message all the time where much is stored; the next one is told of when it is younger by an
/// eighth. That the same one gets older is known without being told.
fn has_aged(told: &ShardStatus, now: &ShardStatus, now_ms: u64) -> bool {
    let (told, now) = (told.oldest_message_ms, now.oldest_message_ms);
    let step_ms = (now_ms.saturating_sub(told) / 8).max(OLDEST_STEP_MS_MIN);
    (told == 0) != (now == 0) || told.abs_diff(now) >= step_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_message_is_told_when_there_is_one_and_when_it_is_another_by_far() {
        const NOW_MS: u64 = 1_000_000_000;
        let status = |age_ms: Option<u64>| {
            let oldest_message_ms = age_ms.map_or(0, |age_ms| NOW_MS - age_ms);
            let shard = ShardStatus { oldest_message_ms, ..ShardStatus::default() };
            BrokerStatus { shards: vec![shard], ..BrokerStatus::default() }
        };
        let is_told = |told, now| is_worth_telling(&status(told), &status(now), NOW_MS);
        assert!(is_told(None, Some(0)) && is_told(Some(0), None));
        assert!(!is_told(None, None) && !is_told(Some(8_000_000), Some(8_000_000)));
        assert!(!is_told(Some(8_000_000), Some(7_000_001)));
        assert!(is_told(Some(8_000_000), Some(7_000_000)));
        assert!(!is_told(Some(80_000), Some(20_001)));
        assert!(is_told(Some(80_000), Some(20_000)));
    }
}
