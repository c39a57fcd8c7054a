//! GetProxyRuntimeStats: how much passes through this broker, and who is connected. Messages are counted for a moment
//! while the caller waits, so that no history has to be kept.

use std::time::Duration;

use broker_proto::rocketmq::{ClientType, GetProxyRuntimeStatsResponse};

use super::signed;
use crate::clock::monotonic_ms;
use crate::context::BrokerContext;
use crate::limits::RATE_SAMPLE_MS;
use crate::status;

pub(super) async fn get_proxy_runtime_stats(
    context: &BrokerContext,
) -> GetProxyRuntimeStatsResponse {
    let (came_before, went_before) = passed(context);
    let begun_ms = monotonic_ms();
    tokio::time::sleep(Duration::from_millis(RATE_SAMPLE_MS)).await;
    let (came, went) = passed(context);
    let seconds = monotonic_ms().saturating_sub(begun_ms).max(1) as f64 / 1000.0;
    let (mut producers, mut consumers) = (0, 0);
    let mut sessions = context.sessions.all();
    sessions.retain(|session| session.is_alive(monotonic_ms()));
    for settings in sessions.iter().filter_map(|session| session.settings()) {
        match settings.client_type() {
            ClientType::Producer => producers += 1,
            ClientType::Unspecified => {}
            _ => consumers += 1,
        }
    }
    GetProxyRuntimeStatsResponse {
        status: Some(status::ok()),
        proxy_name: context.advertised.clone(),
        version: context.version.clone(),
        in_tps: came.saturating_sub(came_before) as f64 / seconds,
        out_tps: went.saturating_sub(went_before) as f64 / seconds,
        connections: signed(sessions.len() as u64),
        producers,
        consumers,
    }
}

/// Messages that came in and went out since the start.
fn passed(context: &BrokerContext) -> (u64, u64) {
    let came = context.traffic.incoming(|_| true).iter().map(|(_, sum)| sum.messages).sum();
    let went = context.traffic.outgoing(|_| true).iter().map(|(_, sum)| sum.messages).sum();
    (came, went)
}
