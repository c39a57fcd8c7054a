//! The conformance cases for the official Rust client, by theme. The driver (`../run`) says in
//! its case table what every name promises.

mod delay;
mod fifo;
mod operation;
mod selection;
mod simple;
mod transaction;

use crate::clients::{Clients, Failure};
use crate::steps::Outcome;

/// Why the client cannot, for every case of the driver's table that is in no module here.
pub fn unsupported(case: &str) -> Option<&'static str> {
    Some(match case {
        "change-invisible" => "client cannot change the invisible duration",
        "push"
        | "push-retry"
        | "push-dead-letter"
        | "restart-push"
        | "consumer-leaves"
        | "fifo-order-push"
        | "fifo-push-retry"
        | "fifo-push-dead-letter"
        | "sql-filter-push"
        | "broadcasting" => "client has no push consumer",
        "tls" => "client has no TLS",
        "recall" | "recall-late" => "client cannot recall messages",
        "priority" => "client has no priorities",
        "lite-subscribe" | "lite-unsubscribe" | "lite-simple" => "client has no lite topics",
        _ => return None,
    })
}

pub async fn run(case: &str, clients: &Clients) -> Outcome {
    if let Some(outcome) = simple::run(case, clients).await {
        return outcome;
    }
    if let Some(outcome) = fifo::run(case, clients).await {
        return outcome;
    }
    if let Some(outcome) = delay::run(case, clients).await {
        return outcome;
    }
    if let Some(outcome) = transaction::run(case, clients).await {
        return outcome;
    }
    if let Some(outcome) = selection::run(case, clients).await {
        return outcome;
    }
    if let Some(outcome) = operation::run(case, clients).await {
        return outcome;
    }
    Err(Failure(format!("no case {case:?}")))
}
