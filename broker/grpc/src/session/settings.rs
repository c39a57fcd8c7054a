//! The settings handshake: are a client's settings legal, and what does the server answer (protocol section 3.2).
//! The answer echoes everything and overwrites what the server decides.

use broker_model::limits::{BODY_BYTES_MAX, POLLING_MS_MAX, RECEIVE_BATCH_MESSAGES_MAX};
use broker_model::{ConsumerGroup, GroupName, Order, RetryPolicy};
use broker_proto::rocketmq::{
    ClientType, Code, FilterType, Language, Metric, Settings, Subscription, settings::PubSub,
};
use prost::Message as _;

use crate::convert::policy;
use crate::convert::time::duration;
use crate::limits::{LITE_SUBSCRIPTIONS_MAX, LITE_TOPIC_BYTES_MAX, SETTINGS_BYTES_MAX};
use crate::status::Failure;
use crate::validate;

/// A topic or subscription in settings, without its text.
const ENTRY_BYTES: usize = 256;

/// Checks what a client sent.
///
/// # Errors
/// The code of the first rule that is broken; the stream then ends (protocol section 3.2).
pub(crate) fn check(settings: &Settings) -> Result<(), Failure> {
    let bytes = settings.encoded_len();
    if bytes > SETTINGS_BYTES_MAX {
        let text =
            format!("the settings have {bytes} bytes; at most {SETTINGS_BYTES_MAX} are allowed");
        return Err(Failure::new(Code::BadRequest, text));
    }
    match &settings.pub_sub {
        None => {
            let text = "the settings say neither what is published nor what is subscribed";
            Err(Failure::new(Code::BadRequest, text))
        }
        Some(PubSub::Publishing(publishing)) => {
            publishing.topics.iter().try_for_each(|topic| validate::topic(Some(topic)).map(|_| ()))
        }
        Some(PubSub::Subscription(subscription)) => check_subscription(subscription),
    }
}

fn check_subscription(subscription: &Subscription) -> Result<(), Failure> {
    validate::group(subscription.group.as_ref())?;
    for entry in &subscription.subscriptions {
        validate::topic(entry.topic.as_ref())?;
        let Some(expression) = &entry.expression else { continue };
        // As with Apache's proxy, SQL that is wrong fails the receives that use it and not the whole client; only an
        // empty one is noticed here (section 6.2).
        if expression.r#type() != FilterType::Sql || expression.expression.trim().is_empty() {
            validate::filter(Some(expression))?;
        }
    }
    Ok(())
}

/// What settings take in memory, about.
pub(crate) fn held_bytes(settings: &Settings) -> usize {
    let entries = match &settings.pub_sub {
        Some(PubSub::Publishing(publishing)) => publishing.topics.len(),
        Some(PubSub::Subscription(subscription)) => subscription.subscriptions.len(),
        None => 0,
    };
    let entries = entries + settings.client_properties.len();
    size_of::<Settings>() + 2 * settings.encoded_len() + entries * ENTRY_BYTES
}

/// The group of a consumer; none for producers.
pub(crate) fn group(settings: &Settings) -> Option<GroupName> {
    match &settings.pub_sub {
        Some(PubSub::Subscription(subscription)) => {
            validate::group(subscription.group.as_ref()).ok()
        }
        _ => None,
    }
}

/// The topics that a consumer subscribes to.
pub(crate) fn topics(settings: &Settings) -> impl Iterator<Item = &str> {
    let subscriptions = match &settings.pub_sub {
        Some(PubSub::Subscription(subscription)) => subscription.subscriptions.as_slice(),
        _ => &[],
    };
    subscriptions.iter().filter_map(|entry| Some(entry.topic.as_ref()?.name.as_str()))
}

/// The answer. A group that does not exist has the defaults.
pub(crate) fn answer(sent: &Settings, group: Option<&ConsumerGroup>) -> Settings {
    let language = sent.user_agent.as_ref().map_or(Language::Unspecified, |ua| ua.language());
    let client_type = sent.client_type();
    let mut settings = sent.clone();
    settings.metric = Some(Metric { on: false, endpoints: None });
    match &mut settings.pub_sub {
        Some(PubSub::Publishing(publishing)) => {
            publishing.max_body_size = i32::try_from(BODY_BYTES_MAX).unwrap_or(i32::MAX);
            publishing.validate_message_type = true;
            settings.backoff_policy = Some(policy::for_producer());
        }
        Some(PubSub::Subscription(subscription)) => {
            let default = RetryPolicy::default();
            let retry = group.map_or(&default, |g| &g.retry);
            settings.backoff_policy = Some(policy::for_consumer(retry, language));
            let is_fifo = group.is_some_and(|g| g.order == Order::Fifo);
            fill_subscription(subscription, is_fifo, client_type);
        }
        None => {}
    }
    settings
}

fn fill_subscription(subscription: &mut Subscription, is_fifo: bool, client_type: ClientType) {
    subscription.fifo = Some(is_fifo);
    subscription.receive_batch_size = i32::try_from(RECEIVE_BATCH_MESSAGES_MAX).ok();
    subscription.long_polling_timeout = Some(duration(POLLING_MS_MAX));
    if matches!(client_type, ClientType::LitePushConsumer | ClientType::LiteSimpleConsumer) {
        subscription.lite_subscription_quota = Some(LITE_SUBSCRIPTIONS_MAX);
        subscription.max_lite_topic_size = i32::try_from(LITE_TOPIC_BYTES_MAX).ok();
    }
}

#[cfg(test)]
mod tests;
