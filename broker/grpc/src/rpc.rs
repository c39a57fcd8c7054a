//! One file per RPC, named as it is: validate, ask, answer. A failure becomes an answer with its code.
//! Nothing here knows how a shard works; whoever adds an RPC adds one file and one line in `messaging_service.rs`.

pub(crate) mod ack_message;
pub(crate) mod change_invisible_duration;
pub(crate) mod end_transaction;
pub(crate) mod forward_message_to_dead_letter_queue;
pub(crate) mod get_offset;
pub(crate) mod heartbeat;
pub(crate) mod notify_client_termination;
pub(crate) mod pull_message;
pub(crate) mod query_assignment;
pub(crate) mod query_offset;
pub(crate) mod query_route;
pub(crate) mod recall_message;
pub(crate) mod receive_message;
pub(crate) mod send_message;
pub(crate) mod sync_lite_subscription;
pub(crate) mod telemetry;
pub(crate) mod update_offset;

use broker_proto::rocketmq as wire;

use crate::status::Failure;

/// An answer that can say no.
pub(crate) trait Answer: Default {
    fn refused(failure: Failure) -> Self;
}

macro_rules! answers_with_status {
    ($($answer:ident),* $(,)?) => {
        $(impl $crate::rpc::Answer for wire::$answer {
            #[allow(clippy::needless_update, reason = "some answers are nothing but a status")]
            fn refused(failure: $crate::status::Failure) -> Self {
                Self { status: Some(failure.into_status()), ..Self::default() }
            }
        })*
    };
}

pub(crate) use answers_with_status;

answers_with_status!(
    QueryRouteResponse,
    HeartbeatResponse,
    SendMessageResponse,
    QueryAssignmentResponse,
    AckMessageResponse,
    ForwardMessageToDeadLetterQueueResponse,
    UpdateOffsetResponse,
    GetOffsetResponse,
    QueryOffsetResponse,
    EndTransactionResponse,
    NotifyClientTerminationResponse,
    ChangeInvisibleDurationResponse,
    RecallMessageResponse,
    SyncLiteSubscriptionResponse,
);

/// Business failures ride in an answer whose gRPC status is OK (protocol section 0).
pub(crate) fn answered<A: Answer>(result: Result<A, Failure>) -> tonic::Response<A> {
    tonic::Response::new(result.unwrap_or_else(A::refused))
}
