//! SyncLiteSubscription: which lite topics of a LITE topic one consumer wants (protocol section 3.14). Kept with the
//! client: it ends with it, and a client that comes back says it again within 30 s. A lite topic lives on one shard, and some
//! clients tell one broker only, so that every broker hears of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_engine::{Command, OffsetAt, SetLiteOffsets};
use broker_model::{GroupName, MessageType, Topic, TopicName};
use broker_proto::rocketmq::offset_option::{OffsetType, Policy};
use broker_proto::rocketmq::{
    Code, LiteSubscriptionAction, SyncLiteSubscriptionRequest, SyncLiteSubscriptionResponse,
};
use tonic::Request;

use crate::caller::Caller;
use crate::clock::monotonic_ms;
use crate::context::BrokerContext;
use crate::limits::LITE_SUBSCRIPTIONS_MAX;
use crate::peers::{self, Peer};
use crate::session::LiteSubscription;
use crate::status::{self, Failure};
use crate::validate;

/// A lite topic in a set, without its text.
const NAME_BYTES: usize = 64;

pub(crate) async fn sync_lite_subscription(
    context: &BrokerContext,
    request: Request<SyncLiteSubscriptionRequest>,
) -> Result<SyncLiteSubscriptionResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    let answer = subscribe(context, &caller, &request).await?;
    // One that does not hear of it does so when the client says it again.
    let call = async |mut peer: Peer, request| peer.sync_lite_subscription(request).await;
    for theirs in peers::answers_of_others(context, &caller, &request, call).await {
        let refusal = theirs.status.filter(|status| status.code() != Code::Ok);
        if let Some(status) = refusal {
            tracing::warn!(?status, "another broker refuses the lite topics of a consumer");
        }
    }
    Ok(answer)
}

/// Takes the subscription for the shards of this broker.
async fn subscribe(
    context: &BrokerContext,
    caller: &Caller<'_>,
    request: &SyncLiteSubscriptionRequest,
) -> Result<SyncLiteSubscriptionResponse, Failure> {
    let entry = context.topic(request.topic.as_ref())?;
    let topic = entry.topic.name.clone();
    if entry.topic.message_type != MessageType::Lite {
        let text = format!(
            "topic {topic} takes {} messages; only LITE topics have lite topics",
            entry.topic.message_type
        );
        return Err(Failure::new(Code::IllegalTopic, text));
    }
    let group = context.group_name(request.group.as_ref())?;
    check_bound(context, &group, &topic)?;
    let start = start(request)?;
    let session = context.sessions.touch(caller.client_id, caller.remote, monotonic_ms())?;
    let known = session.lite().filter(|lite| lite.group == group && lite.topic == topic);
    let names = known.map(|lite| lite.names.as_ref().clone()).unwrap_or_default();
    let names = changed(names, request.action(), &request.lite_topic_set)?;
    let bytes = names.iter().map(|name| NAME_BYTES + name.len()).sum();
    let share = context.sessions.share(bytes)?;
    if let Some(to) = start {
        // Before its polls look there.
        let lite_topics = request.lite_topic_set.iter().cloned().collect();
        set_offsets(context, &entry.topic, &group, lite_topics, to).await?;
    }
    session.put_lite(LiteSubscription { group, topic, names: Arc::new(names) }, share);
    Ok(SyncLiteSubscriptionResponse { status: Some(status::ok()) })
}

/// A group that is bound to a LITE topic has lite topics of that one only.
fn check_bound(
    context: &BrokerContext,
    group: &GroupName,
    topic: &TopicName,
) -> Result<(), Failure> {
    let entry = context.catalog.group(group.as_str());
    match entry.as_ref().and_then(|entry| entry.group.lite_topic.as_ref()) {
        Some(bound) if bound != topic => {
            let text = format!("group {group} is bound to the LITE topic {bound}, not to {topic}");
            Err(Failure::new(Code::IllegalConsumerGroup, text))
        }
        _ => Ok(()),
    }
}

/// Where the consumer wants to begin with what it adds; none to go on where its group is.
fn start(request: &SyncLiteSubscriptionRequest) -> Result<Option<OffsetAt>, Failure> {
    let bad = |text: &'static str| Failure::new(Code::BadRequest, text);
    let Some(option) = request.offset_option.as_ref() else { return Ok(None) };
    let kind = option.offset_type.as_ref().ok_or_else(|| bad("the offset option is empty"))?;
    if request.action() != LiteSubscriptionAction::PartialAdd {
        return Err(bad("an offset option goes with PARTIAL_ADD only"));
    }
    let count = |number: i64, what: &str| {
        let text = format!("{what} {number} of the offset option is negative");
        u64::try_from(number).map_err(|_| Failure::new(Code::IllegalOffset, text))
    };
    Ok(match *kind {
        OffsetType::Policy(policy) => match Policy::try_from(policy) {
            Ok(Policy::Last) => None,
            Ok(Policy::Min) => Some(OffsetAt::Earliest),
            Ok(Policy::Max) => Some(OffsetAt::Latest),
            Err(_) => return Err(bad("the policy of the offset option is not known")),
        },
        OffsetType::Offset(offset) => Some(OffsetAt::Offset(count(offset, "the offset")?)),
        OffsetType::TailN(messages) => Some(OffsetAt::Last(count(messages, "the tail")?)),
        OffsetType::Timestamp(ms) => Some(OffsetAt::TimeMs(count(ms, "the timestamp")?)),
    })
}

/// Sets the progress of the group on lite topics, on the shards that have them.
async fn set_offsets(
    context: &BrokerContext,
    topic: &Topic,
    group: &GroupName,
    lite_topics: BTreeSet<String>,
    to: OffsetAt,
) -> Result<(), Failure> {
    context.catalog.ensure_group(group).await?;
    for shard in context.local_shards(topic) {
        let (group, topic) = (group.clone(), topic.name.clone());
        let set = SetLiteOffsets { group, topic, lite_topics: lite_topics.clone(), to };
        shard.submit(Command::SetLiteOffsets(set)).await?;
    }
    Ok(())
}

fn changed(
    mut names: BTreeSet<String>,
    action: LiteSubscriptionAction,
    given: &[String],
) -> Result<BTreeSet<String>, Failure> {
    match action {
        LiteSubscriptionAction::PartialAdd | LiteSubscriptionAction::CompleteAdd => {
            given.iter().try_for_each(|name| validate::lite_topic(name))?;
            if action == LiteSubscriptionAction::CompleteAdd {
                names.clear();
            }
            names.extend(given.iter().cloned());
        }
        LiteSubscriptionAction::PartialRemove => {
            for name in given {
                names.remove(name);
            }
        }
        LiteSubscriptionAction::CompleteRemove => names.clear(),
    }
    let max = usize::try_from(LITE_SUBSCRIPTIONS_MAX).unwrap_or(usize::MAX);
    if names.len() > max {
        let text = format!("{} lite topics; a consumer may have at most {max}", names.len());
        return Err(Failure::new(Code::LiteSubscriptionQuotaExceeded, text));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use broker_proto::rocketmq::OffsetOption;

    use super::*;

    fn after(action: LiteSubscriptionAction, given: &[&str]) -> Vec<String> {
        let before = ["a", "b"].map(str::to_owned).into();
        let given: Vec<_> = given.iter().map(|name| (*name).to_owned()).collect();
        changed(before, action, &given).unwrap().into_iter().collect()
    }

    #[test]
    fn every_action_changes_the_set_as_it_says() {
        use LiteSubscriptionAction::{CompleteAdd, CompleteRemove, PartialAdd, PartialRemove};
        assert_eq!(after(PartialAdd, &["c"]), ["a", "b", "c"]);
        assert_eq!(after(PartialRemove, &["a", "x"]), ["b"]);
        assert_eq!(after(CompleteAdd, &["c", "a"]), ["a", "c"]);
        assert!(after(CompleteRemove, &[]).is_empty());
    }

    #[test]
    fn an_offset_option_says_where_what_is_added_begins() {
        let asked = |action: LiteSubscriptionAction, offset_type| {
            let offset_option = Some(OffsetOption { offset_type });
            let action = action.into();
            start(&SyncLiteSubscriptionRequest { action, offset_option, ..Default::default() })
        };
        let add = |kind| asked(LiteSubscriptionAction::PartialAdd, Some(kind));
        for (kind, at) in [
            (OffsetType::Policy(Policy::Last.into()), None),
            (OffsetType::Policy(Policy::Min.into()), Some(OffsetAt::Earliest)),
            (OffsetType::Policy(Policy::Max.into()), Some(OffsetAt::Latest)),
            (OffsetType::Offset(7), Some(OffsetAt::Offset(7))),
            (OffsetType::TailN(3), Some(OffsetAt::Last(3))),
            (OffsetType::Timestamp(1_000), Some(OffsetAt::TimeMs(1_000))),
        ] {
            assert_eq!(add(kind).unwrap(), at);
        }
        for wrong in [OffsetType::Offset(-1), OffsetType::TailN(-1), OffsetType::Timestamp(-1)] {
            assert_eq!(add(wrong).unwrap_err().code, Code::IllegalOffset);
        }
        assert_eq!(add(OffsetType::Policy(9)).unwrap_err().code, Code::BadRequest);
        let min = Some(OffsetType::Policy(Policy::Min.into()));
        for (action, kind) in
            [(LiteSubscriptionAction::PartialAdd, None), (LiteSubscriptionAction::CompleteAdd, min)]
        {
            assert_eq!(asked(action, kind).unwrap_err().code, Code::BadRequest);
        }
    }

    #[test]
    fn a_consumer_has_a_quota_and_names_are_checked() {
        let code = |given: Vec<String>| {
            changed(BTreeSet::new(), LiteSubscriptionAction::CompleteAdd, &given).unwrap_err().code
        };
        let many = (0..=LITE_SUBSCRIPTIONS_MAX).map(|n| n.to_string()).collect();
        assert_eq!(code(many), Code::LiteSubscriptionQuotaExceeded);
        assert_eq!(code(vec!["a$b".to_owned()]), Code::IllegalLiteTopic);
    }
}
