//! The rules that one object can show. Each stands here twice, side by side: as CEL for the Kubernetes API server and as a
//! Rust check with the same message, for manifests read from files. `tests/refusals.yaml` holds both to one table.

mod checks;
pub mod listener;
pub mod pod;

use serde_json::{Value, json};

pub use checks::{
    Violation, change_of_broker_cluster, change_of_consumer_group, change_of_topic,
    check_broker_cluster, check_consumer_group, check_topic,
};

/// A rule of the API server and what it says when it is broken.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The expression; true is legal.
    pub cel: &'static str,
    /// What is wrong and what to do.
    pub message: &'static str,
}

/// Rules as the value of `x-kubernetes-validations`.
#[must_use]
pub fn cel(rules: &[Rule]) -> Value {
    rules.iter().map(|rule| json!({"rule": rule.cel, "message": rule.message})).collect()
}

/// Rules over a whole object, each with the field that it is told of. Those about a change compare with the status as well: it
/// remembers what a manifest does not say any more.
#[must_use]
pub fn object_cel(rules: &[(&str, Rule)]) -> Value {
    let rule = |(path, rule): &(&str, Rule)| json!({"rule": rule.cel, "message": rule.message, "fieldPath": path});
    rules.iter().map(rule).collect()
}

/// Whether a text is written as a duration, in CEL; `quantity::DURATION_PATTERN`.
macro_rules! is_duration {
    ($text:literal) => {
        concat!($text, ".matches('^([0-9]+(h|m|s|ms))+$')")
    };
}

/// Whether a duration has more digits than any that is allowed. CEL counts in nanoseconds of 64 bits and says "type conversion
/// error" beyond them.
macro_rules! has_many_digits {
    ($text:literal) => {
        concat!($text, ".matches('[0-9]{6}h|[0-9]{8}m([0-9]|$)|[0-9]{10}s|[0-9]{13}')")
    };
}

/// A duration is at least so long; what is no duration is told of elsewhere.
macro_rules! at_least {
    ($text:literal, $least:literal) => {
        concat!(
            "!",
            is_duration!($text),
            " || ",
            has_many_digits!($text),
            " || duration(",
            $text,
            ") >= duration('",
            $least,
            "')"
        )
    };
}

/// A duration is at most so long; what is no duration is told of elsewhere.
macro_rules! at_most {
    ($text:literal, $most:literal) => {
        concat!(
            "!",
            is_duration!($text),
            " || (!",
            has_many_digits!($text),
            " && duration(",
            $text,
            ") <= duration('",
            $most,
            "'))"
        )
    };
}

/// What a text that is no duration is told, beside the pattern.
pub const DURATION: [Rule; 1] = [Rule {
    cel: is_duration!("self"),
    message: "write hours, minutes, seconds and milliseconds like 72h, 1h30m or 500ms (days are written in hours)",
}];

/// What a text that is no size is told, beside the pattern.
pub const SIZE: [Rule; 1] = [Rule {
    cel: "string(self).matches('^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$')",
    message: "write whole bytes with a unit like 100Gi, 512Mi or 1000000",
}];

/// What a text that is no point in time is told, beside the pattern.
pub const TIME: [Rule; 1] = [Rule {
    cel: "self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$')",
    message: "write date, time and zone (RFC 3339) like 2026-01-31T08:00:00Z",
}];

/// Both kinds name their cluster once and for all.
pub const CLUSTER_REF: [Rule; 1] = [Rule {
    cel: "self == oldSelf",
    message: "clusterRef cannot be changed; create another object",
}];

/// A legal name in the message model.
const NAME_CHARACTERS: &str = "self.matches('^[a-zA-Z0-9_%|-]+$')";
/// What it says of a topic's name.
pub const TOPIC_NAME_CHARACTERS: &str =
    "a topic name holds letters, digits, '_', '-', '%' and '|' only";
/// What it says of a system topic's name.
pub const TOPIC_NAME_RESERVED: &str = "this topic name is reserved for the system; choose another";

/// Names that the system keeps for itself (protocol section 5.6).
pub const SYSTEM_TOPICS: [&str; 12] = [
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "SCHEDULE_TOPIC_XXXX",
    "TBW102",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "BenchmarkTest",
    "RMQ_SYS_TRACE_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "CHECKPOINT_TOPIC",
    "RMQ_SYS_SCHEDULE_TOPIC",
    "rmq_sys_wheel_timer",
];

/// Rules of a declared topic name.
pub const TOPIC_NAME: [Rule; 2] = [
    Rule { cel: NAME_CHARACTERS, message: TOPIC_NAME_CHARACTERS },
    Rule {
        cel: "!self.startsWith('%RETRY%') && !self.startsWith('%DLQ%') && !self.startsWith('rmq_sys_') && \
              !(self in ['RMQ_SYS_TRANS_HALF_TOPIC', 'RMQ_SYS_TRANS_OP_HALF_TOPIC', 'SCHEDULE_TOPIC_XXXX', \
              'TBW102', 'SELF_TEST_TOPIC', 'OFFSET_MOVED_EVENT', 'BenchmarkTest', 'RMQ_SYS_TRACE_TOPIC', \
              'TRANS_CHECK_MAX_TIME_TOPIC', 'CHECKPOINT_TOPIC', 'RMQ_SYS_SCHEDULE_TOPIC'])",
        message: TOPIC_NAME_RESERVED,
    },
];

/// A group may also draw from a dead-letter topic.
pub const SUBSCRIPTION_TOPIC: [Rule; 1] =
    [Rule { cel: NAME_CHARACTERS, message: TOPIC_NAME_CHARACTERS }];

/// Rules of a declared group name.
pub const GROUP_NAME: [Rule; 2] = [
    Rule {
        cel: NAME_CHARACTERS,
        message: "a group name holds letters, digits, '_', '-', '%' and '|' only",
    },
    Rule {
        cel: "!self.startsWith('CID_RMQ_SYS_')",
        message: "this group name is reserved for the system; choose another",
    },
];

/// Rules over the whole Topic object.
pub const TOPIC_OBJECT: [(&str, Rule); 3] = [
    (
        ".spec.topicName",
        Rule {
            cel: "has(self.spec.topicName) || (!self.metadata.name.contains('.') && size(self.metadata.name) <= 127)",
            message: "the object's name is no legal topic name (it has a dot or more than 127 characters); set spec.topicName",
        },
    ),
    (
        ".spec.queues",
        Rule {
            cel: "!has(self.spec.queues) || has(oldSelf.spec.queues) || !has(oldSelf.status) || \
                  !has(oldSelf.status.queues) || self.spec.queues >= oldSelf.status.queues",
            message: TOPIC_SPEC[1].message,
        },
    ),
    (
        ".spec.messageType",
        Rule {
            cel: "!has(self.spec.messageType) || !has(oldSelf.status) || !has(oldSelf.status.messageType) || \
                  self.spec.messageType == oldSelf.status.messageType || \
                  (has(oldSelf.spec.messageType) && self.spec.messageType == oldSelf.spec.messageType)",
            message: "messageType of a topic that exists cannot be changed; create a topic of another name",
        },
    ),
];

/// Rules over the whole ConsumerGroup object.
pub const GROUP_OBJECT: [(&str, Rule); 2] = [
    (
        ".spec.groupName",
        Rule {
            cel: "has(self.spec.groupName) || (!self.metadata.name.contains('.') && size(self.metadata.name) <= 120)",
            message: "the object's name is no legal group name (it has a dot or more than 120 characters); set spec.groupName",
        },
    ),
    (
        ".spec.model",
        Rule {
            cel: "!has(self.spec.model) || has(oldSelf.spec.model) || !has(oldSelf.status) || \
                  !has(oldSelf.status.model) || self.spec.model == oldSelf.status.model",
            message: GROUP_SPEC[1].message,
        },
    ),
];

/// Rules over the whole BrokerCluster object.
pub const CLUSTER_OBJECT: [(&str, Rule); 6] = [
    (
        ".spec",
        Rule {
            cel: "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            message: "the name of a BrokerCluster has at most 40 lower-case letters, digits and '-', and starts with a letter",
        },
    ),
    (
        ".spec.brokers",
        Rule {
            cel: "!has(self.spec.brokers) || has(oldSelf.spec.brokers) || !has(oldSelf.status) || \
                  !has(oldSelf.status.replicas) || self.spec.brokers >= oldSelf.status.replicas",
            message: CLUSTER_SPEC[1].message,
        },
    ),
    (
        ".spec.brokers",
        Rule {
            cel: "!has(self.spec.brokers) || \
                  self.spec.brokers <= (has(self.spec.maxBrokers) ? self.spec.maxBrokers : 3) || \
                  self.spec.brokers <= (has(oldSelf.spec.brokers) ? oldSelf.spec.brokers : \
                  (has(oldSelf.status) && has(oldSelf.status.replicas) ? oldSelf.status.replicas : 1))",
            message: "brokers grows no further than maxBrokers (3 when absent), because no broker can be taken away again \
                      yet; to have more, set spec.maxBrokers as well",
        },
    ),
    (
        ".spec.shards",
        Rule {
            cel: "!has(self.spec.shards) || has(oldSelf.spec.shards) || !has(oldSelf.status) || \
                  !has(oldSelf.status.shards) || self.spec.shards >= size(oldSelf.status.shards)",
            message: CLUSTER_SPEC[2].message,
        },
    ),
    (
        ".spec.storage.size",
        Rule {
            cel: "!has(self.spec.storage) || !has(self.spec.storage.size) || \
                  (has(oldSelf.spec.storage) && has(oldSelf.spec.storage.size)) || !has(oldSelf.status) || \
                  !has(oldSelf.status.storageSize) || \
                  quantity(string(self.spec.storage.size)).compareTo(quantity(string(oldSelf.status.storageSize))) >= 0",
            message: STORAGE[0].message,
        },
    ),
    (".spec.tls.secretName", listener::TLS_SECRET),
];

/// Rules of a Topic's spec. The first two look at the change.
pub const TOPIC_SPEC: [Rule; 6] = [
    Rule {
        cel: "has(self.topicName) == has(oldSelf.topicName) && \
              (!has(self.topicName) || self.topicName == oldSelf.topicName)",
        message: "topicName cannot be changed; create another Topic",
    },
    Rule {
        cel: "!has(self.queues) || !has(oldSelf.queues) || self.queues >= oldSelf.queues",
        message: "queues can only grow: messages in removed queues would be lost",
    },
    Rule {
        cel: "!has(self.liteExpiry) || (has(self.messageType) && self.messageType == 'LITE')",
        message: "liteExpiry is for topics of messageType LITE only; leave it out, or say messageType: LITE beside it",
    },
    Rule {
        cel: concat!("!has(self.liteExpiry) || ", at_least!("self.liteExpiry", "1s")),
        message: "liteExpiry is at least 1s",
    },
    Rule {
        cel: concat!("!has(self.liteExpiry) || ", at_most!("self.liteExpiry", "8760h")),
        message: "liteExpiry is at most 8760h",
    },
    Rule {
        cel: "!has(self.placement) || self.placement != 'Spread' || !has(self.messageType) || \
              self.messageType in ['NORMAL', 'FIFO', 'DELAY', 'TRANSACTION']",
        message: "placement: Spread is for topics of messageType NORMAL, FIFO, DELAY and TRANSACTION: on new queues priorities \
                  and lite topics would lose their order",
    },
];

/// Rules of a retention.
pub const RETENTION: [Rule; 3] = [
    Rule {
        cel: "has(self.time) || has(self.bytes)",
        message: "retention needs time, bytes or both",
    },
    Rule {
        cel: concat!("!has(self.time) || ", at_least!("self.time", "1m")),
        message: "retention.time is at least 1m",
    },
    Rule {
        cel: concat!("!has(self.time) || ", at_most!("self.time", "87600h")),
        message: "retention.time is at most 87600h; to keep messages without limit, leave it out",
    },
];

/// Rules of a ConsumerGroup's spec. The first three look at the change.
pub const GROUP_SPEC: [Rule; 4] = [
    Rule {
        cel: "has(self.groupName) == has(oldSelf.groupName) && \
              (!has(self.groupName) || self.groupName == oldSelf.groupName)",
        message: "groupName cannot be changed; create another ConsumerGroup",
    },
    Rule {
        cel: "!has(self.model) || !has(oldSelf.model) || self.model == oldSelf.model",
        message: "model cannot be changed: progress is kept differently; create another ConsumerGroup",
    },
    Rule {
        cel: "has(self.liteTopic) == has(oldSelf.liteTopic) && \
              (!has(self.liteTopic) || self.liteTopic == oldSelf.liteTopic)",
        message: "liteTopic cannot be changed; create another ConsumerGroup",
    },
    Rule {
        cel: "!has(self.model) || self.model != 'Broadcasting' || !has(self.order) || self.order != 'Fifo'",
        message: "a Broadcasting group has no order Fifo, because every consumer gets every message; leave out order, or use \
                  model Clustering",
    },
];

/// The rule of a reset looks at the change: one id stands for one reset.
pub const OFFSET_RESET: [Rule; 1] = [Rule {
    cel: "self.id != oldSelf.id || self == oldSelf",
    message: "offsetReset with this id was asked for already; give it another id to reset again",
}];

/// Rules of where a reset leads.
pub const OFFSET_RESET_TO: [Rule; 1] = [Rule {
    cel: "[has(self.position), has(self.time), has(self.shift)].exists_one(given, given)",
    message: "offsetReset.to needs exactly one of position, time and shift",
}];

/// Rules of a backoff.
pub const BACKOFF: [Rule; 2] = [
    Rule {
        cel: "has(self.exponential) != has(self.list)",
        message: "backoff needs exactly one of exponential and list",
    },
    Rule {
        cel: concat!("!has(self.list) || self.list.all(pause, ", at_most!("pause", "168h"), ")"),
        message: "a pause of backoff.list is at most 168h",
    },
];

/// Rules of an exponential backoff.
pub const EXPONENTIAL: [Rule; 2] = [
    Rule {
        cel: concat!(
            "!",
            is_duration!("self.initial"),
            " || !",
            is_duration!("self.max"),
            " || ",
            has_many_digits!("self.max"),
            " || (!",
            has_many_digits!("self.initial"),
            " && duration(self.initial) <= duration(self.max))"
        ),
        message: "backoff.exponential.initial is at most max",
    },
    Rule { cel: at_most!("self.max", "168h"), message: "backoff.exponential.max is at most 168h" },
];

/// Rules of a BrokerCluster's spec. The first three look at two fields or at the change.
pub const CLUSTER_SPEC: [Rule; 5] = [
    Rule {
        cel: "!has(self.shards) || !has(self.brokers) || \
              (self.shards >= self.brokers && self.shards <= self.brokers * 64)",
        message: "shards is at least brokers and at most 64 for each broker",
    },
    Rule {
        cel: "!has(self.brokers) || !has(oldSelf.brokers) || self.brokers >= oldSelf.brokers",
        message: "brokers can only grow: moving shards away from a broker is not served yet",
    },
    Rule {
        cel: "!has(self.shards) || !has(oldSelf.shards) || self.shards >= oldSelf.shards",
        message: "shards can only grow: messages in removed shards would be lost",
    },
    Rule {
        cel: "!has(self.replication) || self.replication == 1",
        message: "more than one copy of each shard is not served yet; set replication to 1, or leave it out",
    },
    Rule {
        cel: "!has(self.storage) || !has(self.storage.size) || !has(self.shards) || !has(self.brokers) || \
              !string(self.storage.size).matches('^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$') || \
              quantity(string(self.storage.size)).sub(\
              1048576 * (24 + 48 * ((self.shards + self.brokers - 1) / self.brokers))).compareTo(quantity('0')) >= 0",
        message: "storage.size is too small for the shards of a broker: each needs 48Mi, and the broker 24Mi and what the file \
                  system takes",
    },
];

/// Rules of a volume. The first two look at the change.
pub const STORAGE: [Rule; 3] = [
    Rule {
        cel: "!has(self.size) || !has(oldSelf.size) || \
              quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0",
        message: "storage.size can only grow: volumes cannot be made smaller",
    },
    Rule {
        cel: "has(self.className) == has(oldSelf.className) && \
              (!has(self.className) || self.className == oldSelf.className)",
        message: "storage.className cannot be changed; create another BrokerCluster",
    },
    Rule {
        cel: "!has(self.size) || !string(self.size).matches('^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$') || \
              quantity(string(self.size)).compareTo(quantity('72Mi')) >= 0",
        message: "storage.size is at least 72Mi and what the file system takes: a broker needs 24Mi, and 48Mi for each shard",
    },
];
