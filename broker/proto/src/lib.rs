//! The wire: generated types, clients and servers of the RocketMQ v2 protocol and of Pinnace's admin API.
//! Nothing is written by hand here but the module tree; the truth is in `proto/`.

/// The protocol that every official RocketMQ 5 client speaks.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated code"
)]
pub mod rocketmq {
    tonic::include_proto!("apache.rocketmq.v2");
}

/// Pinnace's own admin API.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated code"
)]
pub mod admin {
    tonic::include_proto!("pinnace.admin.v1");
}
