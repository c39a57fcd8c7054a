//! The rules that one object can show. Each stands here twice, side by side: as CEL for the Kubernetes API server and as a
//! Rust check with the same message, for manifests read from files. `tests/refusals.yaml` holds both to one table.

mod checks;

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
pub const TOPIC_OBJECT: [Rule; 1] = [Rule {
    cel: "has(self.spec.topicName) || (!self.metadata.name.contains('.') && size(self.metadata.name) <= 127)",
    message: "the object's name is no legal topic name (it has a dot or more than 127 characters); set spec.topicName",
}];

/// Rules over the whole ConsumerGroup object.
pub const GROUP_OBJECT: [Rule; 1] = [Rule {
    cel: "has(self.spec.groupName) || (!self.metadata.name.contains('.') && size(self.metadata.name) <= 120)",
    message: "the object's name is no legal group name (it has a dot or more than 120 characters); set spec.groupName",
}];

/// Rules over the whole BrokerCluster object.
pub const CLUSTER_OBJECT: [Rule; 1] = [Rule {
    cel: "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    message: "the name of a BrokerCluster has at most 40 lower-case letters, digits and '-', and starts with a letter",
}];

/// Rules of a Topic's spec. The first three look at the change.
pub const TOPIC_SPEC: [Rule; 6] = [
    Rule {
        cel: "has(self.topicName) == has(oldSelf.topicName) && \
              (!has(self.topicName) || self.topicName == oldSelf.topicName)",
        message: "topicName cannot be changed; create another Topic",
    },
    Rule {
        cel: "self.queues >= oldSelf.queues",
        message: "queues can only grow: messages in removed queues would be lost",
    },
    Rule {
        cel: "oldSelf.messageType != 'FIFO' || self.queues == oldSelf.queues",
        message: "the number of queues of a FIFO topic cannot be changed: message groups would lose their order",
    },
    Rule {
        cel: "!has(self.liteExpiry) || self.messageType == 'LITE'",
        message: "liteExpiry is for topics of messageType LITE only; leave it out",
    },
    Rule {
        cel: "!has(self.liteExpiry) || duration(self.liteExpiry) >= duration('1s')",
        message: "liteExpiry is at least 1s",
    },
    Rule {
        cel: "!has(self.liteExpiry) || duration(self.liteExpiry) <= duration('8760h')",
        message: "liteExpiry is at most 8760h",
    },
];

/// Rules of a retention.
pub const RETENTION: [Rule; 3] = [
    Rule {
        cel: "has(self.time) || has(self.bytes)",
        message: "retention needs time, bytes or both",
    },
    Rule {
        cel: "!has(self.time) || duration(self.time) >= duration('1m')",
        message: "retention.time is at least 1m",
    },
    Rule {
        cel: "!has(self.time) || duration(self.time) <= duration('87600h')",
        message: "retention.time is at most 87600h; to keep messages without limit, leave it out",
    },
];

/// Rules of a ConsumerGroup's spec; all look at the change.
pub const GROUP_SPEC: [Rule; 3] = [
    Rule {
        cel: "has(self.groupName) == has(oldSelf.groupName) && \
              (!has(self.groupName) || self.groupName == oldSelf.groupName)",
        message: "groupName cannot be changed; create another ConsumerGroup",
    },
    Rule {
        cel: "self.model == oldSelf.model",
        message: "model cannot be changed: progress is kept differently; create another ConsumerGroup",
    },
    Rule {
        cel: "has(self.liteTopic) == has(oldSelf.liteTopic) && \
              (!has(self.liteTopic) || self.liteTopic == oldSelf.liteTopic)",
        message: "liteTopic cannot be changed; create another ConsumerGroup",
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
        cel: "!has(self.list) || self.list.all(pause, duration(pause) <= duration('168h'))",
        message: "a pause of backoff.list is at most 168h",
    },
];

/// Rules of an exponential backoff.
pub const EXPONENTIAL: [Rule; 2] = [
    Rule {
        cel: "duration(self.initial) <= duration(self.max)",
        message: "backoff.exponential.initial is at most max",
    },
    Rule {
        cel: "duration(self.max) <= duration('168h')",
        message: "backoff.exponential.max is at most 168h",
    },
];

/// Rules of a BrokerCluster's spec. The last two look at the change.
pub const CLUSTER_SPEC: [Rule; 3] = [
    Rule {
        cel: "!has(self.shards) || (self.shards >= self.brokers && self.shards <= self.brokers * 64)",
        message: "shards is at least brokers and at most 64 for each broker",
    },
    Rule {
        cel: "self.brokers >= oldSelf.brokers",
        message: "brokers can only grow: moving shards away from a broker is not served yet",
    },
    Rule {
        cel: "(has(self.shards) ? self.shards : self.brokers) >= \
              (has(oldSelf.shards) ? oldSelf.shards : oldSelf.brokers)",
        message: "shards can only grow: messages in removed shards would be lost",
    },
];

/// Rules of a volume; both look at the change.
pub const STORAGE: [Rule; 2] = [
    Rule {
        cel: "self.size == oldSelf.size",
        message: "storage.size cannot be changed yet; create another BrokerCluster",
    },
    Rule {
        cel: "has(self.className) == has(oldSelf.className) && \
              (!has(self.className) || self.className == oldSelf.className)",
        message: "storage.className cannot be changed; create another BrokerCluster",
    },
];

/// Rules of a listener's name.
pub const LISTENER_NAME: [Rule; 2] = [
    Rule {
        cel: "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        message: "a listener name has lower-case letters, digits and '-', and starts with a letter",
    },
    Rule {
        cel: "self != 'brokers'",
        message: "the listener name 'brokers' is taken; choose another",
    },
];
