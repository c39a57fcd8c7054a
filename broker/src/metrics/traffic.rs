//! Numbers of what passes: messages and bytes in and out, and the clients that are there.

use broker_grpc::BrokerContext;
use broker_model::TopicName;

use super::Sources;
use super::family::{Family, labels};

/// Counted since the start of the process; numbers of deleted topics go.
pub(super) fn families(context: &BrokerContext, sources: &Sources) -> Vec<Family> {
    let mut messages_in = Family::counter("rocketmq_messages_in", "Messages stored");
    let mut bytes_in = Family::counter("rocketmq_throughput_in", "Bytes of the messages stored");
    let mut messages_out =
        Family::counter("rocketmq_messages_out", "Messages handed to consumers, repeats included");
    let mut bytes_out =
        Family::counter("rocketmq_throughput_out", "Bytes of the messages handed to consumers");
    let exists = |topic: &TopicName| context.catalog.topic(topic.as_str()).is_some();
    let message_type = |topic: &TopicName| {
        let entry = context.catalog.topic(topic.as_str());
        entry.map_or_else(String::new, |entry| entry.topic.message_type.to_string().to_lowercase())
    };
    for (topic, sum) in context.traffic.incoming(exists) {
        let own = [
            ("topic", topic.to_string()),
            ("message_type", message_type(&topic)),
            ("is_system", "false".to_owned()),
        ];
        let labels = labels(sources.node(), own);
        messages_in.add(labels.clone(), sum.messages as f64);
        bytes_in.add(labels, sum.bytes as f64);
    }
    for ((topic, group), sum) in context.traffic.outgoing(exists) {
        let own = [
            ("topic", topic.to_string()),
            ("consumer_group", group.to_string()),
            ("is_retry", "false".to_owned()),
            ("is_system", "false".to_owned()),
        ];
        let labels = labels(sources.node(), own);
        messages_out.add(labels.clone(), sum.messages as f64);
        bytes_out.add(labels, sum.bytes as f64);
    }
    let clients = Family::gauge("pinnace_clients", "Clients with a live session")
        .with(sources.node(), context.sessions.count() as f64);
    vec![messages_in, bytes_in, messages_out, bytes_out, clients]
}
