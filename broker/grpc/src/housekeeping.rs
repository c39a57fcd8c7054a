//! What nobody asks for in this layer: deliveries are prolonged, silent clients expire, changed groups are told, and
//! what shards say by themselves is passed on.
//! The only place of this crate with a timer of its own beside the state streams.

use std::sync::Arc;
use std::time::Duration;

use broker_model::limits::GROUP_USE_ROUND_MS;
use broker_replication::{CatalogChange, ShardEvent, UseRound};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::broadcasting;
use crate::clock::monotonic_ms;
use crate::context::BrokerContext;
use crate::layouts;
use crate::limits::{EXPIRY_ROUND_MS, LAYOUT_ROUND_MS};
use crate::rpc::telemetry::settings_command;
use crate::session::settings;
use crate::transaction_checks::ask_producer;

const HOUR_MS: u64 = 3_600_000;

/// Runs until [`BrokerContext::stop`] is called.
pub async fn housekeeping(
    context: Arc<BrokerContext>,
    events: mpsc::UnboundedReceiver<ShardEvent>,
) {
    tokio::select! {
        () = pass_on_events(&context, events) => {}
        () = prolong_deliveries(&context) => {}
        () = expire_clients(&context) => {}
        () = forget_unused_groups(&context) => {}
        () = tell_changed_groups(&context) => {}
        () = look_at_layouts(&context) => {}
        () = context.stopped() => {}
    }
}

async fn pass_on_events(
    context: &Arc<BrokerContext>,
    mut events: mpsc::UnboundedReceiver<ShardEvent>,
) {
    while let Some(event) = events.recv().await {
        match event {
            ShardEvent::NewTopic(topic) => context.catalog.note_dead_letter_topic(topic),
            ShardEvent::TransactionCheck(check) => ask_producer(context, check).await,
        }
    }
    // All shards have ended; the rest of the house has not.
    std::future::pending().await
}

async fn prolong_deliveries(context: &BrokerContext) {
    let mut rounds = every(context.renewals.timing.round_ms());
    loop {
        rounds.tick().await;
        context.renewals.round(&context.catalog, &context.sessions, monotonic_ms()).await;
    }
}

async fn expire_clients(context: &BrokerContext) {
    let mut rounds = every(EXPIRY_ROUND_MS);
    loop {
        rounds.tick().await;
        broadcasting::forget_strangers(context).await;
        for client_id in context.sessions.expire(monotonic_ms()) {
            tracing::info!(%client_id, "client was silent for too long and is forgotten");
            context.renewals.release_client(&context.catalog, &client_id).await;
            broadcasting::leave_all(context, &client_id).await;
        }
    }
}

async fn forget_unused_groups(context: &BrokerContext) {
    let mut rounds = every(GROUP_USE_ROUND_MS);
    // The first one is at once.
    rounds.tick().await;
    let (mut round, mut served_ms) = (UseRound::default(), 0);
    loop {
        rounds.tick().await;
        served_ms += GROUP_USE_ROUND_MS;
        let is_hour_over = served_ms >= HOUR_MS;
        if is_hour_over {
            served_ms = 0;
        }
        if let Err(error) = context.catalog.use_round(&mut round, is_hour_over).await {
            tracing::debug!(%error, "consumer groups that nobody uses are not looked for now");
        }
    }
}

async fn look_at_layouts(context: &BrokerContext) {
    let mut rounds = every(LAYOUT_ROUND_MS);
    loop {
        rounds.tick().await;
        layouts::round(context).await;
    }
}

/// Clients take settings at any time (protocol section 3.2), so a new retry policy need not wait for their next sync.
async fn tell_changed_groups(context: &BrokerContext) {
    let mut changes = context.catalog.changes();
    loop {
        match changes.recv().await {
            Ok(CatalogChange::Group(entry)) => {
                for session in context.sessions.all() {
                    let Some(sent) = session.settings() else { continue };
                    if settings::group(&sent).as_ref() == Some(&entry.group.name) {
                        let _reached = session.send(settings_command(context, &sent));
                    }
                }
            }
            // After a lag clients learn it with their next sync.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

fn every(ms: u64) -> tokio::time::Interval {
    let mut rounds = interval(Duration::from_millis(ms));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    rounds
}
