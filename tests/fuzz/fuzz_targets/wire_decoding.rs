//! Any bytes as each request of the RocketMQ v2 protocol: what decodes is encoded and decoded again without a difference.
//! And any text as a receipt handle: what decodes was encoded by us, so that it gives the same text again.

#![no_main]

use std::fmt::Debug;

use broker_model::ReceiptHandle;
use broker_proto::rocketmq as wire;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    survives::<wire::QueryRouteRequest>(data);
    survives::<wire::HeartbeatRequest>(data);
    survives::<wire::SendMessageRequest>(data);
    survives::<wire::QueryAssignmentRequest>(data);
    survives::<wire::ReceiveMessageRequest>(data);
    survives::<wire::AckMessageRequest>(data);
    survives::<wire::ForwardMessageToDeadLetterQueueRequest>(data);
    survives::<wire::PullMessageRequest>(data);
    survives::<wire::UpdateOffsetRequest>(data);
    survives::<wire::GetOffsetRequest>(data);
    survives::<wire::QueryOffsetRequest>(data);
    survives::<wire::EndTransactionRequest>(data);
    survives::<wire::TelemetryCommand>(data);
    survives::<wire::NotifyClientTerminationRequest>(data);
    survives::<wire::ChangeInvisibleDurationRequest>(data);
    survives::<wire::RecallMessageRequest>(data);
    survives::<wire::SyncLiteSubscriptionRequest>(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(handle) = ReceiptHandle::decode(text)
    {
        assert_eq!(handle.encode(), text);
    }
});

fn survives<M: Message + Default + PartialEq + Debug>(data: &[u8]) {
    let Ok(message) = M::decode(data) else { return };
    let bytes = message.encode_to_vec();
    assert_eq!(bytes.len(), message.encoded_len());
    let again = M::decode(bytes.as_slice()).expect("what was encoded can be decoded");
    // A float that is not a number differs even from itself.
    assert!(again == message || format!("{message:?}").contains("NaN"), "{again:?} {message:?}");
}
