//! ReceiveMessage: hands out messages of a topic, waiting for them if there are none (protocol section 3.6). The shard
//! that the client names is where the search begins; which of the others are asked and when is decided behind it.

mod deliveries;

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_engine::{Acknowledge, Command, Receive, Refusal};
use broker_model::{Filter, GroupName, MessageType, ReceiptHandle, Topic, TopicName};
use broker_proto::rocketmq::{Code, ReceiveMessageRequest, ReceiveMessageResponse, Resource};
use broker_replication::{DeliveredMessage, ShardHandle, receive_from_any};
use futures::future::Either;
use tonic::{Extensions, Request, Streaming};

pub(crate) use deliveries::Deliveries;

use crate::caller::Caller;
use crate::clock::monotonic_ms;
use crate::connection::Connection;
use crate::context::BrokerContext;
use crate::convert::time::duration_ms;
use crate::peers;
use crate::renewal::Receiver;
use crate::session::Session;
use crate::sql_filter;
use crate::status::Failure;
use crate::validate::{self, PollingWish};

/// Request timeout of a client whose settings are not known.
const REQUEST_TIMEOUT_MS_DEFAULT: u64 = 3_000;

/// A legal receive.
#[derive(Debug)]
struct Wish {
    topic: TopicName,
    resource: Resource,
    group: GroupName,
    filter: Filter,
    broker_name: String,
    messages_max: u32,
    invisible_ms: u64,
    polling_ms: u64,
    is_renewed: bool,
    attempt_id: String,
    session: Arc<Session>,
    connection: Option<Connection>,
    lite_topics: Option<Arc<BTreeSet<String>>>,
}

/// The answer of this broker or, when the named shard is led elsewhere, of that one.
pub(crate) type Answer = Either<Deliveries, Streaming<ReceiveMessageResponse>>;

pub(crate) async fn receive_message(
    context: &Arc<BrokerContext>,
    request: Request<ReceiveMessageRequest>,
) -> Result<Answer, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    if let Some(shard) = peers::queue_elsewhere(context, request.message_queue.as_ref(), &caller) {
        let (mut peer, request) = peers::pass_on_poll(context, shard, &caller, request)?;
        return peers::answer_of(peer.receive_message(request).await).map(Either::Right);
    }
    let wish = check(context, &caller, &extensions, request)?;
    receive_here(context, wish).await.map(Either::Left)
}

async fn receive_here(context: &Arc<BrokerContext>, mut wish: Wish) -> Result<Deliveries, Failure> {
    let entry = context.topic(Some(&wish.resource))?;
    if !entry.topic.readable {
        return Err(Refusal::NotReadable(wish.topic).into());
    }
    context.catalog.ensure_group(&wish.group).await?;
    let messages = tokio::select! {
        messages = poll_as_subscribed(context, &entry.topic, &mut wish) => messages?,
        () = context.stopped() => Vec::new(),
    };
    let receiver = wish.is_renewed.then(|| Receiver {
        client_id: Arc::clone(&wish.session.client_id),
        group: wish.group.clone(),
        topic: wish.topic.clone(),
        connection: wish.connection.take(),
    });
    if !messages.is_empty() {
        let bytes = messages.iter().map(|message| message.head.len() + message.body.len()).sum();
        context.traffic.went_out(&(wish.topic, wish.group), messages.len(), bytes);
    }
    Ok(Deliveries::new(context, &wish.resource, messages, receiver))
}

fn check(
    context: &BrokerContext,
    caller: &Caller<'_>,
    extensions: &Extensions,
    request: ReceiveMessageRequest,
) -> Result<Wish, Failure> {
    let group = context.group_name(request.group.as_ref())?;
    let queue = request.message_queue.unwrap_or_default();
    let topic = context.topic_name(queue.topic.as_ref())?;
    let filter = validate::filter(request.filter_expression.as_ref())?;
    let is_renewed = request.auto_renew;
    let invisible_ms = if is_renewed {
        context.renewals.timing.slice_ms()
    } else {
        validate::invisible_at_receive(request.invisible_duration.as_ref())?
    };
    let attempt_id = request.attempt_id.unwrap_or_default();
    validate::attempt_id(&attempt_id)?;
    // A receive may overtake the settings of its client; it is served all the same.
    let session = context.sessions.touch(caller.client_id, caller.remote, monotonic_ms())?;
    let settings = session.settings();
    let request_timeout = settings.as_ref().and_then(|s| duration_ms(s.request_timeout.as_ref()?));
    let polling_ms = validate::polling_ms(&PollingWish {
        asked_ms: request.long_polling_timeout.as_ref().and_then(duration_ms),
        remaining_ms: caller.timeout_ms(),
        request_timeout_ms: request_timeout.unwrap_or(REQUEST_TIMEOUT_MS_DEFAULT),
        client_version: caller.version(),
    })?;
    Ok(Wish {
        topic,
        resource: queue.topic.unwrap_or_default(),
        group,
        filter,
        broker_name: queue.broker.map(|b| b.name).unwrap_or_default(),
        messages_max: validate::batch_size(request.batch_size),
        invisible_ms,
        polling_ms,
        is_renewed,
        attempt_id,
        session,
        connection: connection(caller, extensions),
        lite_topics: None,
    })
}

/// That of another broker, which passed the call on, says nothing about the client's.
fn connection(caller: &Caller<'_>, extensions: &Extensions) -> Option<Connection> {
    match caller.is_passed_on() {
        true => Some(Connection::unproven()),
        false => extensions.get::<Connection>().cloned(),
    }
}

/// A poll on a LITE topic begins anew when the client changes its subscription while it waits.
async fn poll_as_subscribed(
    context: &BrokerContext,
    topic: &Topic,
    wish: &mut Wish,
) -> Result<Vec<DeliveredMessage>, Failure> {
    if topic.message_type != MessageType::Lite {
        return poll(context, topic, wish).await;
    }
    let until_ms = monotonic_ms().saturating_add(wish.polling_ms);
    let mut changes = wish.session.lite_changes();
    loop {
        changes.mark_unchanged();
        wish.lite_topics = Some(lite_topics(wish));
        wish.polling_ms = until_ms.saturating_sub(monotonic_ms());
        tokio::select! {
            messages = poll(context, topic, wish) => return messages,
            // The session outlives the call, so there is no other end of it than a change.
            _changed = changes.changed() => {}
        }
    }
}

/// The lite topics that the client is subscribed to; it gets nothing before it says so.
fn lite_topics(wish: &Wish) -> Arc<BTreeSet<String>> {
    let subscription = wish.session.lite();
    let theirs = subscription.filter(|lite| lite.topic == wish.topic && lite.group == wish.group);
    theirs.map(|lite| lite.names).unwrap_or_default()
}

/// Asks the shards of the topic, the addressed one first, until there are messages that pass the filter.
async fn poll(
    context: &BrokerContext,
    topic: &Topic,
    wish: &Wish,
) -> Result<Vec<DeliveredMessage>, Failure> {
    let shards: Vec<&ShardHandle> = context.local_shards(topic).collect();
    if shards.is_empty() {
        return Err(Refusal::Unavailable.into());
    }
    let addressed = shards.iter().position(|shard| shard.name() == wish.broker_name);
    let mut first = addressed.unwrap_or_else(|| context.next_turn() % shards.len());
    let receive = Receive {
        group: wish.group.clone(),
        topic: wish.topic.clone(),
        filter: wish.filter.clone(),
        messages_max: wish.messages_max,
        invisible_ms: wish.invisible_ms,
        poll_until_ms: shards[first].steady_ms().saturating_add(wish.polling_ms),
        client_id: Arc::clone(&wish.session.client_id),
        attempt_id: wish.attempt_id.clone(),
        lite_topics: wish.lite_topics.clone(),
    };
    loop {
        let (shard, messages) = receive_from_any(&shards, first, &receive).await?;
        let is_over = messages.is_empty();
        let passing = keep_passing(shards[shard], wish, messages).await?;
        if is_over || !passing.is_empty() {
            return Ok(passing);
        }
        first = shard;
    }
}

/// Finishes the messages that an SQL filter does not let through.
async fn keep_passing(
    shard: &ShardHandle,
    wish: &Wish,
    messages: Vec<DeliveredMessage>,
) -> Result<Vec<DeliveredMessage>, Refusal> {
    if wish.filter.as_sql().is_none() {
        return Ok(messages);
    }
    let mut held = Held { shard, handles: messages.iter().map(|m| m.handle).collect() };
    let (passing, others): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|message| sql_filter::passes(&wish.filter, &message.head));
    if !others.is_empty() {
        let (group, topic) = (wish.group.clone(), wish.topic.clone());
        let handles = others.iter().map(|message| message.handle).collect();
        // Not waited for: what a crash forgets is only looked at once more.
        shard.tell(Command::Acknowledge(Acknowledge { group, topic, handles })).await?;
    }
    held.handles.clear();
    Ok(passing)
}

/// Deliveries that are given back when nobody waits for them any more.
struct Held<'a> {
    shard: &'a ShardHandle,
    handles: Vec<ReceiptHandle>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.shard.give_back(std::mem::take(&mut self.handles));
    }
}

/// The answer when nothing came until the end of the poll.
fn nothing_found() -> Failure {
    Failure::new(Code::MessageNotFound, "no new message")
}
