//! Messages at other brokers. A client polls one broker of a topic at a time, and may wait there while another has messages
//! for it; so a poll that found nothing here is told when there is something elsewhere, and fetches it.
//!
//! All polls that want the same share one *watch* for each other broker: one open request there, which hands out nothing.
//! When it says that there is something, one of the polls fetches it, and the watch goes on when that is done. So an idle
//! group costs one open request for each topic and other broker, however many of its polls wait; and a message wakes
//! one poll at each broker at most. What others took meanwhile is not fetched; then the watch pauses, longer each time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker_model::{ShardId, Topic, shard_name};
use broker_proto::rocketmq::{Broker, Code, MessageQueue, ReceiveMessageRequest};
use futures::future::select_all;
use prost::Message as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tonic::metadata::MetadataMap;

use crate::context::BrokerContext;
use crate::limits::{
    CALL_MS_MAX, PASSED_ON_MS_MAX, WATCH_AFTER_MS, WATCH_ASK_MS_MAX, WATCH_PAUSE_MS_MAX,
    WATCH_PAUSE_MS_MIN, WATCH_RETRY_MS, WATCHES_MAX,
};
use crate::peers::{self, Purpose};
use crate::rpc::receive_message::{Forwarded, Recipient};

/// What a poll asks other brokers for.
#[derive(Debug, Clone)]
pub(crate) struct Elsewhere {
    pub(crate) request: ReceiveMessageRequest,
    pub(crate) metadata: MetadataMap,
    /// The client, when another one of the group would get other messages.
    pub(crate) client_id: Option<Arc<str>>,
}

impl Elsewhere {
    /// The request for a shard.
    fn at(&self, shard: ShardId) -> ReceiveMessageRequest {
        let topic = self.request.message_queue.as_ref().and_then(|queue| queue.topic.clone());
        let broker = Some(Broker { name: shard_name(shard), ..Broker::default() });
        let message_queue = Some(MessageQueue { topic, broker, ..MessageQueue::default() });
        ReceiveMessageRequest { message_queue, ..self.request.clone() }
    }

    /// The request of a watch, which is the same for all polls that can share it.
    fn watch(&self, shard: ShardId) -> ReceiveMessageRequest {
        let seconds = i64::try_from(WATCH_ASK_MS_MAX / 1_000).unwrap_or(i64::MAX);
        let duration = Some(prost_types::Duration { seconds, nanos: 0 });
        ReceiveMessageRequest {
            batch_size: 1,
            invisible_duration: duration,
            long_polling_timeout: duration,
            attempt_id: None,
            ..self.at(shard)
        }
    }
}

/// The encoded request of a watch, and the client if it is for one only.
type Key = (Vec<u8>, Option<Arc<str>>);

/// All watches of this broker.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    held: Mutex<HashMap<Key, Held>>,
}

#[derive(Debug)]
struct Held {
    watch: Arc<Watch>,
    /// They share it. Without any it ends when it is told something, so that the next poll of a consumer finds it.
    polls: usize,
}

#[derive(Debug)]
struct Watch {
    shard: ShardId,
    /// One permit when there is something; a poll that goes without fetching leaves it to the next.
    ready: Arc<Semaphore>,
    fetched: Notify,
    has_found: AtomicBool,
    /// The last poll left.
    is_left: Notify,
}

/// The part of one poll in a watch.
#[derive(Debug)]
struct Part<'a> {
    context: &'a BrokerContext,
    key: Key,
    watch: Arc<Watch>,
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        let mut held = self.context.watches.lock();
        let Some(of_all) = held.get_mut(&self.key) else { return };
        of_all.polls = of_all.polls.saturating_sub(1);
        if of_all.polls == 0 {
            of_all.watch.is_left.notify_one();
        }
    }
}

impl Watches {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Held>> {
        // What the lock guards is whole at all times.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a watch that no poll shares; false when one does.
    fn end_if_left(&self, key: &Key) -> bool {
        let mut held = self.lock();
        let is_left = held.get(key).is_none_or(|of_all| of_all.polls == 0);
        if is_left {
            held.remove(key);
        }
        is_left
    }
}

/// Waits until another broker has messages of the topic for the poll, and fetches them. Never ends when none has; may be
/// dropped at any time.
pub(crate) async fn receive_elsewhere(
    context: &Arc<BrokerContext>,
    topic: &Topic,
    poll: &Elsewhere,
) -> Forwarded {
    // Most polls find something here.
    sleep(Duration::from_millis(WATCH_AFTER_MS)).await;
    let shards = peers::shards_elsewhere(context, topic).into_iter();
    let parts: Vec<Part<'_>> = shards.filter_map(|shard| take_part(context, poll, shard)).collect();
    if parts.is_empty() {
        return std::future::pending().await;
    }
    loop {
        let ready =
            parts.iter().map(|part| Box::pin(Arc::clone(&part.watch.ready).acquire_owned()));
        let (permit, place, _) = select_all(ready).await;
        // It is never closed.
        let Ok(permit) = permit else { return std::future::pending().await };
        let watch = Arc::clone(&parts[place].watch);
        // Goes on when the poll is dropped: what comes is given back then.
        let fetch = tokio::spawn(fetch(Arc::clone(context), poll.clone(), watch, permit));
        if let Ok(Some(found)) = fetch.await {
            return found;
        }
    }
}

fn take_part<'a>(
    context: &'a Arc<BrokerContext>,
    poll: &Elsewhere,
    shard: ShardId,
) -> Option<Part<'a>> {
    let request = poll.watch(shard);
    let key = (request.encode_to_vec(), poll.client_id.clone());
    let mut held = context.watches.lock();
    let count = held.len();
    let of_all = match held.entry(key.clone()) {
        Entry::Occupied(held) => held.into_mut(),
        Entry::Vacant(_) if count >= WATCHES_MAX => return None,
        Entry::Vacant(vacant) => {
            let watch = Arc::new(Watch {
                shard,
                ready: Arc::new(Semaphore::new(0)),
                fetched: Notify::new(),
                has_found: AtomicBool::new(false),
                is_left: Notify::new(),
            });
            let (watching, metadata) = (Arc::clone(&watch), poll.metadata.clone());
            tokio::spawn(keep_watching(
                Arc::clone(context),
                key.clone(),
                watching,
                metadata,
                request,
            ));
            vacant.insert(Held { watch, polls: 0 })
        }
    };
    of_all.polls += 1;
    Some(Part { context, key, watch: Arc::clone(&of_all.watch) })
}

/// What a watch is told.
enum Told {
    Ready,
    /// Until the end of its polling time.
    Nothing,
    /// Nobody answers, or refuses.
    Failed,
}

async fn keep_watching(
    context: Arc<BrokerContext>,
    key: Key,
    watch: Arc<Watch>,
    metadata: MetadataMap,
    request: ReceiveMessageRequest,
) {
    let mut pause_ms = 0;
    loop {
        let limit = Duration::from_millis(WATCH_ASK_MS_MAX + PASSED_ON_MS_MAX);
        let asked = timeout(limit, ask(&context, watch.shard, &metadata, request.clone()));
        let told = asked.await.unwrap_or(Told::Failed);
        if context.watches.end_if_left(&key) {
            return;
        }
        let wait_ms = match told {
            Told::Ready => {
                watch.ready.add_permits(1);
                loop {
                    tokio::select! {
                        () = watch.fetched.notified() => break,
                        () = watch.is_left.notified() => {
                            if context.watches.end_if_left(&key) {
                                return;
                            }
                        }
                    }
                }
                let has_found = watch.has_found.load(Ordering::Acquire);
                let longer_ms = (pause_ms * 2).clamp(WATCH_PAUSE_MS_MIN, WATCH_PAUSE_MS_MAX);
                pause_ms = if has_found { 0 } else { longer_ms };
                pause_ms
            }
            Told::Nothing => WATCH_PAUSE_MS_MIN,
            Told::Failed => WATCH_RETRY_MS,
        };
        sleep(Duration::from_millis(wait_ms)).await;
    }
}

async fn ask(
    context: &Arc<BrokerContext>,
    shard: ShardId,
    metadata: &MetadataMap,
    request: ReceiveMessageRequest,
) -> Told {
    let (context, metadata, group) = (Arc::clone(context), metadata.clone(), request.group.clone());
    let asked = peers::ask(&context, shard, &metadata, Purpose::Watch, request);
    let Ok((mut peer, request)) = asked else { return Told::Failed };
    let Ok(answer) = peer.receive_message(request).await else { return Told::Failed };
    // A broker of a version that knows no watches hands out messages, which are given back.
    let recipient = Recipient { context, metadata, group };
    match Forwarded::new(recipient, answer.into_inner()).read_status().await {
        Some(Code::Ok) => Told::Ready,
        Some(Code::MessageNotFound) => Told::Nothing,
        _ => Told::Failed,
    }
}

/// Fetches what is there, and lets the watch go on.
async fn fetch(
    context: Arc<BrokerContext>,
    poll: Elsewhere,
    watch: Arc<Watch>,
    permit: OwnedSemaphorePermit,
) -> Option<Forwarded> {
    let (limit, shard) = (Duration::from_millis(PASSED_ON_MS_MAX), watch.shard);
    // Not dropped when it takes too long: what comes too late is given back.
    let mut call = tokio::spawn(async move {
        timeout(Duration::from_millis(CALL_MS_MAX), fetch_at(&context, &poll, shard)).await.ok()
    });
    let in_time = timeout(limit, &mut call).await.ok();
    let found = in_time.and_then(|joined| joined.ok().flatten().flatten());
    watch.has_found.store(found.is_some(), Ordering::Release);
    permit.forget();
    watch.fetched.notify_one();
    found
}

async fn fetch_at(
    context: &Arc<BrokerContext>,
    poll: &Elsewhere,
    shard: ShardId,
) -> Option<Forwarded> {
    let request = poll.at(shard);
    let recipient = Recipient {
        context: Arc::clone(context),
        metadata: poll.metadata.clone(),
        group: request.group.clone(),
    };
    let asked = peers::ask(context, shard, &poll.metadata, Purpose::Fetch, request);
    let (mut peer, request) = asked.ok()?;
    let answer = peer.receive_message(request).await.ok()?;
    let mut found = Forwarded::new(recipient, answer.into_inner());
    (found.read_status().await == Some(Code::Ok)).then_some(found)
}
