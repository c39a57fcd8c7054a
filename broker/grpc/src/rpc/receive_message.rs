//! ReceiveMessage: hands out messages of a topic, waiting for them if there are none (protocol section 3.6). The shard
//! that the client names is where the search begins; which of the others are asked and when is decided behind it. What is at
//! other brokers is told and fetched by `watches`.

mod deliveries;
mod forwarded;

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_engine::{Acknowledge, Command, Receive, Refusal};
use broker_model::{Filter, GroupName, MessageType, ReceiptHandle, Topic, TopicName};
use broker_proto::rocketmq::{ClientType, Code, ReceiveMessageRequest, Resource};
use broker_replication::{DeliveredMessage, ShardHandle, receive_from_any, watch_any};
use futures::future::Either;
use tonic::{Extensions, Request};

pub(crate) use deliveries::Deliveries;
pub(crate) use forwarded::{Forwarded, Recipient};

use crate::broadcasting::is_broadcasting;
use crate::caller::Caller;
use crate::clock::monotonic_ms;
use crate::connection::Connection;
use crate::context::BrokerContext;
use crate::convert::time::duration_ms;
use crate::peers::{self, Purpose};
use crate::renewal::Receiver;
use crate::session::Session;
use crate::sql_filter;
use crate::status::Failure;
use crate::validate::{self, PollingWish};
use crate::watches::{Elsewhere, receive_elsewhere};

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
    purpose: Purpose,
    /// To wait at other brokers as well.
    elsewhere: Option<Elsewhere>,
}

/// What a poll ends with.
enum Found {
    /// Messages of this broker, or none.
    Here(Vec<DeliveredMessage>),
    There(Box<Forwarded>),
    /// There are some, which were left there.
    Ready,
}

/// The answer of this broker, or of the one that leads the named shard or has messages earlier.
pub(crate) type Answer = Either<Deliveries, Forwarded>;

pub(crate) async fn receive_message(
    context: &Arc<BrokerContext>,
    request: Request<ReceiveMessageRequest>,
) -> Result<Answer, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    if let Some(shard) = peers::queue_elsewhere(context, request.message_queue.as_ref(), &caller) {
        let (mut peer, request) = peers::pass_on_poll(context, shard, &caller, request)?;
        let (context, group) = (Arc::clone(context), request.get_ref().group.clone());
        let answer = peers::answer_of(peer.receive_message(request).await)?;
        let recipient = Recipient { context, metadata, group };
        return Ok(Either::Right(Forwarded::new(recipient, answer)));
    }
    let wish = check(context, &caller, &extensions, request)?;
    receive(context, wish).await
}

async fn receive(context: &Arc<BrokerContext>, mut wish: Wish) -> Result<Answer, Failure> {
    let entry = context.topic(Some(&wish.resource))?;
    if !entry.topic.readable {
        return Err(Refusal::NotReadable(wish.topic).into());
    }
    context.catalog.ensure_group(&wish.group).await?;
    let elsewhere = wish.elsewhere.take();
    let elsewhere = async {
        match &elsewhere {
            Some(elsewhere) => receive_elsewhere(context, &entry.topic, elsewhere).await,
            None => std::future::pending().await,
        }
    };
    let found = tokio::select! {
        found = poll_as_subscribed(context, &entry.topic, &mut wish) => found?,
        found = elsewhere => Found::There(Box::new(found)),
        () = context.stopped() => Found::Here(Vec::new()),
    };
    let messages = match found {
        Found::Here(messages) => messages,
        Found::There(answer) => return Ok(Either::Right(*answer)),
        Found::Ready => return Ok(Either::Left(Deliveries::ready())),
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
    Ok(Either::Left(Deliveries::new(context, &wish.resource, messages, receiver)))
}

fn check(
    context: &BrokerContext,
    caller: &Caller<'_>,
    extensions: &Extensions,
    request: ReceiveMessageRequest,
) -> Result<Wish, Failure> {
    let group = context.group_name(request.group.as_ref())?;
    let purpose = caller.purpose();
    let may_wait_elsewhere = purpose == Purpose::Poll && context.endpoints.has_others();
    let copy = (may_wait_elsewhere && !request.auto_renew).then(|| request.clone());
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
    let polling = PollingWish {
        asked_ms: request.long_polling_timeout.as_ref().and_then(duration_ms),
        remaining_ms: caller.timeout_ms(),
        request_timeout_ms: request_timeout.unwrap_or(REQUEST_TIMEOUT_MS_DEFAULT),
        client_version: caller.version(),
    };
    let polling_ms = match purpose {
        Purpose::Fetch => 0,
        Purpose::Poll | Purpose::Watch => validate::polling_ms(&polling)?,
    };
    // A push consumer polls at all brokers at one time.
    let is_push = settings.as_ref().is_some_and(|s| {
        matches!(s.client_type(), ClientType::PushConsumer | ClientType::LitePushConsumer)
    });
    let elsewhere = copy.filter(|_| !is_push).map(|request| Elsewhere {
        request,
        metadata: caller.metadata().clone(),
        client_id: has_own_messages(context, &group, &topic).then(|| session.client_id.clone()),
    });
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
        purpose,
        elsewhere,
    })
}

/// Whether each consumer of the group gets other messages: all of them, or those of its lite topics.
fn has_own_messages(context: &BrokerContext, group: &GroupName, topic: &TopicName) -> bool {
    let entry = context.catalog.topic(topic.as_str());
    is_broadcasting(context, group)
        || entry.is_some_and(|entry| entry.topic.message_type == MessageType::Lite)
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
) -> Result<Found, Failure> {
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
            found = poll(context, topic, wish) => return found,
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
async fn poll(context: &BrokerContext, topic: &Topic, wish: &Wish) -> Result<Found, Failure> {
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
    if wish.purpose == Purpose::Watch {
        let is_ready = watch_any(&shards, &receive).await?;
        return Ok(if is_ready { Found::Ready } else { Found::Here(Vec::new()) });
    }
    loop {
        let (shard, messages) = receive_from_any(&shards, first, &receive).await?;
        let is_over = messages.is_empty();
        let passing = keep_passing(shards[shard], wish, messages).await?;
        if is_over || !passing.is_empty() {
            return Ok(Found::Here(passing));
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
