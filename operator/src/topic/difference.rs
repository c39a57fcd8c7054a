//! Differences between a topic in a broker and its declaration. Pure. Placement is the operator's own business and no
//! difference.

use broker_proto::admin;

use crate::difference::{Differences, optional, span};

/// Every declared field that differs. An absent value is compared as the default that brokers have for it.
#[must_use]
pub fn differences(held: &admin::Topic, wanted: &admin::Topic) -> Differences {
    let mut found = Differences::default();
    let kind = |topic: &admin::Topic| topic.r#type().as_str_name().to_owned();
    found.compare("messageType", kind(held), kind(wanted));
    found.compare("queues", held.queues.to_string(), wanted.queues.to_string());
    let time = |topic: &admin::Topic| {
        optional(topic.retention.as_ref().and_then(|retention| retention.time.as_ref()), span)
    };
    found.compare("retention.time", time(held), time(wanted));
    let bytes = |topic: &admin::Topic| {
        let bytes = topic.retention.as_ref().and_then(|retention| retention.bytes);
        optional(bytes, |bytes| bytes.to_string())
    };
    found.compare("retention.bytes", bytes(held), bytes(wanted));
    let body = |topic: &admin::Topic| optional(topic.max_message_bytes, |max| max.to_string());
    found.compare("maxMessageBytes", body(held), body(wanted));
    let expiry = |topic: &admin::Topic| optional(topic.lite_expiry.as_ref(), span);
    found.compare("liteExpiry", expiry(held), expiry(wanted));
    let access = |allowed: Option<bool>| allowed.unwrap_or(true).to_string();
    found.compare("access.read", access(held.read), access(wanted.read));
    found.compare("access.write", access(held.write), access(wanted.write));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> admin::Topic {
        admin::Topic { name: "orders".to_owned(), r#type: 1, queues: 8, ..Default::default() }
    }

    #[test]
    fn every_declared_field_is_compared() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let held = admin::Topic {
            r#type: 2,
            queues: 4,
            retention: Some(admin::Retention { time: seconds(360_000), bytes: Some(1024) }),
            max_message_bytes: Some(100),
            lite_expiry: seconds(90),
            read: Some(false),
            write: Some(false),
            ..topic()
        };
        let told = differences(&held, &topic()).told().unwrap();
        let all = "messageType (has FIFO, wanted NORMAL), queues (has 4, wanted 8), \
                   retention.time (has 100h, wanted none), retention.bytes (has 1024, wanted none), \
                   maxMessageBytes (has 100, wanted none), liteExpiry (has 90s, wanted none), \
                   access.read (has false, wanted true), access.write (has false, wanted true)";
        assert_eq!(told, all);
    }

    #[test]
    fn what_brokers_add_by_themselves_is_no_difference() {
        let placement = vec![admin::QueuePlacement { shard: "shard-0".to_owned(), queues: 8 }];
        let held =
            admin::Topic { placement, version: 7, read: Some(true), write: Some(true), ..topic() };
        assert_eq!(differences(&held, &topic()).told(), None);
    }
}
