//! Connected consumers as this service shows them: who they are, and what they take from which topic.

use std::sync::Arc;

use broker_engine::Refusal;
use broker_model::{ConsumerGroup, GroupName, Model, Subscription};
use broker_proto::rocketmq::{
    ClientInfo, Code, FilterExpression, FilterType, MessageModel, Settings, SubscriptionInfo,
    settings::PubSub,
};

use super::resource;
use crate::clock::{monotonic_ms, unix_ms_of};
use crate::context::BrokerContext;
use crate::convert::time::timestamp;
use crate::session::{Session, settings};
use crate::status::Failure;

/// A consumer that gave a sign of life lately.
pub(super) struct Consumer {
    pub(super) session: Arc<Session>,
    pub(super) settings: Arc<Settings>,
    pub(super) group: GroupName,
}

/// The consumers of a group, or of all, by client id.
pub(super) fn consumers(context: &BrokerContext, group: Option<&GroupName>) -> Vec<Consumer> {
    let now_ms = monotonic_ms();
    let sessions = context.sessions.all().into_iter().filter(|session| session.is_alive(now_ms));
    let of = |session: Arc<Session>| {
        let settings = session.settings()?;
        let group = settings::group(&settings)?;
        Some(Consumer { session, settings, group })
    };
    let mut consumers: Vec<_> = sessions.filter_map(of).collect();
    consumers.retain(|consumer| group.is_none_or(|group| consumer.group == *group));
    consumers.sort_by(|a, b| a.session.client_id.cmp(&b.session.client_id));
    consumers
}

/// One consumer of a group.
///
/// # Errors
/// NOT_FOUND when the client is not connected as one of this group.
pub(super) fn consumer(
    context: &BrokerContext,
    group: &GroupName,
    client_id: &str,
) -> Result<Consumer, Failure> {
    let found = consumers(context, Some(group));
    let found = found.into_iter().find(|consumer| &*consumer.session.client_id == client_id);
    found.ok_or_else(|| {
        let text = format!("group {group} has no connected client {client_id:?}");
        Failure::new(Code::NotFound, text)
    })
}

impl Consumer {
    pub(super) fn info(&self, context: &BrokerContext) -> ClientInfo {
        let agent = self.settings.user_agent.clone().unwrap_or_default();
        ClientInfo {
            client_id: self.session.client_id.to_string(),
            language: agent.language().as_str_name().to_owned(),
            version: agent.version,
            hostname: agent.hostname,
            egress_ip: self.session.remote().map(|a| a.ip().to_string()).unwrap_or_default(),
            message_model: message_model(context, &self.group).into(),
        }
    }

    /// Topic and filter of each subscription.
    pub(super) fn subscriptions(&self) -> impl Iterator<Item = (&str, FilterExpression)> {
        let entries = match &self.settings.pub_sub {
            Some(PubSub::Subscription(subscription)) => subscription.subscriptions.as_slice(),
            _ => &[],
        };
        entries.iter().filter_map(|entry| {
            let topic = entry.topic.as_ref()?.name.as_str();
            Some((topic, entry.expression.clone().unwrap_or_else(everything)))
        })
    }

    pub(super) fn subscription_info(
        &self,
        context: &BrokerContext,
        topic: &str,
        expression: FilterExpression,
    ) -> SubscriptionInfo {
        SubscriptionInfo {
            group: Some(resource(self.group.as_str())),
            topic: Some(resource(topic)),
            expression: Some(expression),
            online: true,
            last_update_timestamp: Some(timestamp(unix_ms_of(self.session.last_seen_ms()))),
            message_model: message_model(context, &self.group).into(),
            subscription_consistency: true,
        }
    }
}

/// How consumers of a group share; groups that do not exist yet have the defaults.
pub(super) fn message_model(context: &BrokerContext, group: &GroupName) -> MessageModel {
    let entry = context.catalog.group(group.as_str());
    entry.map_or(MessageModel::Clustering, |entry| model_of(&entry.group))
}

/// How consumers of this group share.
pub(super) fn model_of(group: &ConsumerGroup) -> MessageModel {
    match group.model {
        _ if group.lite_topic.is_some() => MessageModel::LiteSelective,
        Model::Broadcasting => MessageModel::Broadcasting,
        Model::Clustering => MessageModel::Clustering,
    }
}

/// The filter of a client that names none.
pub(super) fn everything() -> FilterExpression {
    FilterExpression { r#type: FilterType::Tag.into(), expression: "*".to_owned() }
}

/// A declared filter.
pub(super) fn declared(subscription: &Subscription) -> FilterExpression {
    let kind = if subscription.is_sql { FilterType::Sql } else { FilterType::Tag };
    FilterExpression { r#type: kind.into(), expression: subscription.expression.clone() }
}

/// What a list is restricted to; none = everything.
pub(super) struct Restriction {
    pub(super) topic: Option<String>,
    pub(super) group: Option<GroupName>,
}

impl Restriction {
    /// # Errors
    /// The codes of names that are illegal or of things that do not exist.
    pub(super) fn of(
        context: &BrokerContext,
        topic: Option<&broker_proto::rocketmq::Resource>,
        group: Option<&broker_proto::rocketmq::Resource>,
    ) -> Result<Self, Failure> {
        let topic = topic.map(|topic| context.topic(Some(topic))).transpose()?;
        let group = group.map(|group| context.group_name(Some(group))).transpose()?;
        if let Some(group) = &group
            && context.catalog.group(group.as_str()).is_none()
        {
            return Err(Refusal::GroupNotFound(group.clone()).into());
        }
        Ok(Self { topic: topic.map(|entry| entry.topic.name.to_string()), group })
    }

    pub(super) fn allows_topic(&self, topic: &str) -> bool {
        self.topic.as_ref().is_none_or(|wanted| wanted == topic)
    }
}
