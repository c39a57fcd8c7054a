//! The few fields of the broker's answers that a measurement needs; everything else is skipped undecoded.
//! Field numbers are those of `apache/rocketmq/v2`.

use bytes::Bytes;

/// `Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// `SendMessageResponse`: the summary speaks for all entries, for differing ones have a code of their own.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SendAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
}

/// `AckMessageResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AckAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
}

/// One element of the answer to `ReceiveMessage`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReceiveElement {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub(super) message: Option<Message>,
}

/// `Message`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(message, optional, tag = "3")]
    pub(super) system_properties: Option<SystemProperties>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) body: Bytes,
}

/// `SystemProperties`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SystemProperties {
    #[prost(string, tag = "3")]
    pub(super) message_id: String,
    #[prost(string, tag = "12")]
    pub(super) receipt_handle: String,
}
