//! SyncLiteSubscription: which lite topics of a LITE topic one consumer wants (protocol section 3.14). Kept with the
//! client: it ends with it, and a client that comes back says it again within 30 s.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_model::{GroupName, MessageType, TopicName};
use broker_proto::rocketmq::{
    Code, LiteSubscriptionAction, SyncLiteSubscriptionRequest, SyncLiteSubscriptionResponse,
};
use tonic::Request;

use crate::caller::Caller;
use crate::clock::monotonic_ms;
use crate::context::BrokerContext;
use crate::limits::LITE_SUBSCRIPTIONS_MAX;
use crate::session::LiteSubscription;
use crate::status::{self, Failure};
use crate::validate;

/// A lite topic in a set, without its text.
const NAME_BYTES: usize = 64;

pub(crate) fn sync_lite_subscription(
    context: &BrokerContext,
    request: &Request<SyncLiteSubscriptionRequest>,
) -> Result<SyncLiteSubscriptionResponse, Failure> {
    let caller = Caller::of_request(request)?;
    let request = request.get_ref();
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
    let session = context.sessions.touch(caller.client_id, caller.remote, monotonic_ms())?;
    let known = session.lite().filter(|lite| lite.group == group && lite.topic == topic);
    let names = known.map(|lite| lite.names.as_ref().clone()).unwrap_or_default();
    let names = changed(names, request.action(), &request.lite_topic_set)?;
    let bytes = names.iter().map(|name| NAME_BYTES + name.len()).sum();
    let share = context.sessions.share(bytes)?;
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
    fn a_consumer_has_a_quota_and_names_are_checked() {
        let code = |given: Vec<String>| {
            changed(BTreeSet::new(), LiteSubscriptionAction::CompleteAdd, &given).unwrap_err().code
        };
        let many = (0..=LITE_SUBSCRIPTIONS_MAX).map(|n| n.to_string()).collect();
        assert_eq!(code(many), Code::LiteSubscriptionQuotaExceeded);
        assert_eq!(code(vec!["a$b".to_owned()]), Code::IllegalLiteTopic);
    }
}
