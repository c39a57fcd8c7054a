//! One table: what each RPC may cost before anything of it is decoded. The path in the headers tells which row holds; a new
//! RPC without a row is refused. Numbers that are limits of the model have their names there.

use broker_model::limits::{
    SEND_BATCH_MESSAGES_MAX, SHARDS_PER_BROKER_MAX, TOPICS_MAX, USER_PROPERTIES_MAX,
};

use broker_proto::rocketmq::Code;

use super::wire_scan::Counted;
use crate::limits::{
    ACCESS_POINT_ADDRESSES_SENT_MAX, ACK_ENTRIES_MAX, ADMIN_CALL_MS_MAX, ADMIN_REQUEST_BYTES_MAX,
    BACKOFF_PAUSES_SENT_MAX, CALL_MS_MAX, CLIENT_PROPERTIES_MAX, LITE_NAMES_SENT_MAX,
    MAP_BROKERS_MAX, MAP_SHARDS_MAX, MEDIUM_REQUEST_BYTES_MAX, MESSAGE_KEYS_SENT_MAX,
    REQUEST_BYTES_MAX, SETTINGS_TOPICS_MAX, SMALL_REQUEST_BYTES_MAX, SUBSCRIPTIONS_SENT_MAX,
};

/// How a service says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// In the status of the answer. Every caller says who it is.
    Messaging,
    /// With a gRPC code.
    Admin,
}

/// The row of an RPC.
#[derive(Debug)]
pub(crate) struct RpcLimits {
    pub(crate) service: Service,
    /// Longest request, or element of a stream of them.
    pub(crate) request_bytes_max: usize,
    /// Fields that are counted before they are decoded.
    pub(crate) counted: &'static [Counted],
    /// Longest time until the answer begins, if the caller does not say less.
    pub(crate) call_ms_max: u64,
    /// Whether the request is a stream that lives as long as the client.
    pub(crate) is_stream: bool,
    /// Whether the answer is a stream of messages.
    pub(crate) streams_answer: bool,
    /// Whether answers may be large: the call is refused while too many bytes of answers are not read.
    pub(crate) has_large_answer: bool,
}

const ADDRESS_BYTES: usize = 96;
const DURATION_BYTES: usize = 32;
const MAP_ENTRY_BYTES: usize = 192;
const MESSAGE_BYTES: usize = 1_024;
const NAME_BYTES: usize = 64;
const PLACEMENT_BYTES: usize = 96;
const RESOURCE_BYTES: usize = 128;
const SUBSCRIPTION_BYTES: usize = 256;

const fn counted(
    name: &'static str,
    path: &'static [u32],
    max: usize,
    element_bytes: usize,
) -> Counted {
    Counted { name, path, max, element_bytes, code: Code::PayloadTooLarge }
}

const fn addresses(path: &'static [u32]) -> Counted {
    counted("addresses", path, ACCESS_POINT_ADDRESSES_SENT_MAX, ADDRESS_BYTES)
}

const fn properties(path: &'static [u32], messages_max: usize) -> Counted {
    let (name, max) = ("user properties", messages_max * USER_PROPERTIES_MAX);
    let (element_bytes, code) = (MAP_ENTRY_BYTES, Code::MessagePropertiesTooLarge);
    Counted { name, path, max, element_bytes, code }
}

const fn keys(path: &'static [u32], messages_max: usize) -> Counted {
    let (name, max) = ("message keys", messages_max * MESSAGE_KEYS_SENT_MAX);
    let (element_bytes, code) = (NAME_BYTES, Code::MessagePropertiesTooLarge);
    Counted { name, path, max, element_bytes, code }
}

const SENT: [Counted; 3] = [
    counted("messages", &[1], SEND_BATCH_MESSAGES_MAX, MESSAGE_BYTES),
    properties(&[1, 2], SEND_BATCH_MESSAGES_MAX),
    keys(&[1, 3, 2], SEND_BATCH_MESSAGES_MAX),
];

const ACKNOWLEDGED: [Counted; 1] = [counted("entries", &[3], ACK_ENTRIES_MAX, RESOURCE_BYTES)];

/// Settings, and what clients answer to questions.
const TOLD: [Counted; 11] = [
    addresses(&[2, 2, 2]),
    counted("pauses", &[2, 3, 3, 1], BACKOFF_PAUSES_SENT_MAX, DURATION_BYTES),
    counted("topics in its settings", &[2, 5, 1], SETTINGS_TOPICS_MAX, RESOURCE_BYTES),
    counted("subscriptions in its settings", &[2, 6, 2], SETTINGS_TOPICS_MAX, SUBSCRIPTION_BYTES),
    addresses(&[2, 8, 2, 2]),
    counted("client properties", &[2, 9], CLIENT_PROPERTIES_MAX, MAP_ENTRY_BYTES),
    properties(&[5, 1, 2], 1),
    keys(&[5, 1, 3, 2], 1),
    properties(&[7, 2, 2], 1),
    keys(&[7, 2, 3, 2], 1),
    addresses(&[8, 2]),
];

const LITE_NAMES: [Counted; 1] = [Counted {
    name: "lite topics",
    path: &[4],
    max: LITE_NAMES_SENT_MAX,
    element_bytes: NAME_BYTES,
    code: Code::LiteSubscriptionQuotaExceeded,
}];

const TOPIC: [Counted; 1] = [counted("placements", &[1, 4], MAP_SHARDS_MAX, PLACEMENT_BYTES)];

const GROUP: [Counted; 2] = [
    counted("pauses", &[1, 4, 3, 1], BACKOFF_PAUSES_SENT_MAX, DURATION_BYTES),
    counted("subscriptions", &[1, 5], SUBSCRIPTIONS_SENT_MAX, SUBSCRIPTION_BYTES),
];

const MAP: [Counted; 3] = [
    counted("brokers", &[1, 3], MAP_BROKERS_MAX, RESOURCE_BYTES),
    counted("shards", &[1, 4], MAP_SHARDS_MAX, RESOURCE_BYTES),
    counted("replicas", &[1, 4, 4], MAP_SHARDS_MAX * SHARDS_PER_BROKER_MAX as usize, NAME_BYTES),
];

const LISTED: [Counted; 1] = [counted("names", &[1], TOPICS_MAX, NAME_BYTES)];
const RESET: [Counted; 1] = [counted("topics", &[2], TOPICS_MAX, NAME_BYTES)];
const ADMIN_SENT: [Counted; 3] = [properties(&[6], 1), keys(&[7, 2], 1), properties(&[8], 1)];
const ASKED_TOPICS: [Counted; 1] = [counted("topics", &[3], SETTINGS_TOPICS_MAX, RESOURCE_BYTES)];

/// A small question of a client with a small answer.
const SMALL: RpcLimits = RpcLimits {
    service: Service::Messaging,
    request_bytes_max: SMALL_REQUEST_BYTES_MAX,
    counted: &[],
    call_ms_max: CALL_MS_MAX,
    is_stream: false,
    streams_answer: false,
    has_large_answer: false,
};
const ROUTE: RpcLimits =
    RpcLimits { counted: &[addresses(&[2, 2])], has_large_answer: true, ..SMALL };
const ASSIGNMENT: RpcLimits =
    RpcLimits { counted: &[addresses(&[3, 2])], has_large_answer: true, ..SMALL };
/// A receive or a pull.
const POLL: RpcLimits = RpcLimits {
    counted: &[addresses(&[2, 4, 3, 2])],
    streams_answer: true,
    has_large_answer: true,
    ..SMALL
};
const SEND: RpcLimits = RpcLimits { request_bytes_max: REQUEST_BYTES_MAX, counted: &SENT, ..SMALL };
const ACKNOWLEDGE: RpcLimits =
    RpcLimits { request_bytes_max: MEDIUM_REQUEST_BYTES_MAX, counted: &ACKNOWLEDGED, ..SMALL };
const TELEMETRY: RpcLimits = RpcLimits {
    request_bytes_max: MEDIUM_REQUEST_BYTES_MAX,
    counted: &TOLD,
    is_stream: true,
    ..SMALL
};
const SYNC_LITE: RpcLimits =
    RpcLimits { request_bytes_max: MEDIUM_REQUEST_BYTES_MAX, counted: &LITE_NAMES, ..SMALL };

const ADMIN: RpcLimits = RpcLimits {
    service: Service::Admin,
    call_ms_max: ADMIN_CALL_MS_MAX,
    has_large_answer: true,
    ..SMALL
};
const ADMIN_WATCH: RpcLimits = RpcLimits { streams_answer: true, ..ADMIN };
const ADMIN_TOPICS: RpcLimits = RpcLimits { counted: &ASKED_TOPICS, ..ADMIN };
const ADMIN_SEND: RpcLimits =
    RpcLimits { request_bytes_max: ADMIN_REQUEST_BYTES_MAX, counted: &ADMIN_SENT, ..ADMIN };

const ADMIN_TOPIC: RpcLimits =
    RpcLimits { request_bytes_max: MEDIUM_REQUEST_BYTES_MAX, counted: &TOPIC, ..ADMIN };
const ADMIN_GROUP: RpcLimits =
    RpcLimits { request_bytes_max: MEDIUM_REQUEST_BYTES_MAX, counted: &GROUP, ..ADMIN };
const ADMIN_MAP: RpcLimits =
    RpcLimits { request_bytes_max: ADMIN_REQUEST_BYTES_MAX, counted: &MAP, ..ADMIN };
const ADMIN_LIST: RpcLimits =
    RpcLimits { request_bytes_max: ADMIN_REQUEST_BYTES_MAX, counted: &LISTED, ..ADMIN };
const ADMIN_RESET: RpcLimits =
    RpcLimits { request_bytes_max: ADMIN_REQUEST_BYTES_MAX, counted: &RESET, ..ADMIN };

/// The row of a path; none for what is not served.
pub(crate) fn of_path(path: &str) -> Option<&'static RpcLimits> {
    let (service, rpc) = path.strip_prefix('/')?.split_once('/')?;
    Some(match service {
        "apache.rocketmq.v2.MessagingService" => match rpc {
            "QueryRoute" => &ROUTE,
            "QueryAssignment" => &ASSIGNMENT,
            "ReceiveMessage" | "PullMessage" => &POLL,
            "SendMessage" => &SEND,
            "AckMessage" => &ACKNOWLEDGE,
            "Telemetry" => &TELEMETRY,
            "SyncLiteSubscription" => &SYNC_LITE,
            "Heartbeat"
            | "ForwardMessageToDeadLetterQueue"
            | "UpdateOffset"
            | "GetOffset"
            | "QueryOffset"
            | "EndTransaction"
            | "NotifyClientTermination"
            | "ChangeInvisibleDuration"
            | "RecallMessage" => &SMALL,
            _ => return None,
        },
        "apache.rocketmq.v2.Admin" => match rpc {
            "AdminSendMessage" => &ADMIN_SEND,
            "DescribeGroupAccumulation" | "QueryTimeSpan" => &ADMIN_TOPICS,
            _ => &ADMIN,
        },
        "pinnace.admin.v1.Admin" => match rpc {
            "ApplyTopic" => &ADMIN_TOPIC,
            "ApplyGroup" => &ADMIN_GROUP,
            "ApplyClusterMap" => &ADMIN_MAP,
            "ListTopics" | "ListGroups" => &ADMIN_LIST,
            "ResetOffsets" => &ADMIN_RESET,
            "WatchState" => &ADMIN_WATCH,
            _ => &ADMIN,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_requests_are_for_sends_alone() {
        let bytes = |rpc: &str| {
            let path = format!("/apache.rocketmq.v2.MessagingService/{rpc}");
            of_path(&path).map(|limits| limits.request_bytes_max)
        };
        assert_eq!(bytes("SendMessage"), Some(REQUEST_BYTES_MAX));
        assert_eq!(bytes("AckMessage"), Some(MEDIUM_REQUEST_BYTES_MAX));
        assert_eq!(bytes("ReceiveMessage"), Some(SMALL_REQUEST_BYTES_MAX));
        assert_eq!(bytes("SendMessages"), None);
        assert!(of_path("").is_none() && of_path("/").is_none() && of_path("/a/b").is_none());
        assert_eq!(
            of_path("/pinnace.admin.v1.Admin/GetBroker").map(|l| l.service),
            Some(Service::Admin)
        );
    }
}
