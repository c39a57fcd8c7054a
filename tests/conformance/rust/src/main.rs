//! Runs one conformance case with the official Rust client and prints one JSON line.
//!
//! The cases are in `cases`, the client's own forms in `clients.rs`. The process ends
//! at once after the answer, without waiting for the client's long polls.

mod cases;
mod clients;
mod steps;

use std::collections::HashMap;

use clients::{Clients, Options};
use serde_json::json;

fn flags() -> HashMap<String, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    arguments
        .chunks(2)
        .map(|pair| {
            let value = pair.get(1).cloned().unwrap_or_default();
            (pair[0].trim_start_matches('-').to_string(), value)
        })
        .collect()
}

fn options(flags: &HashMap<String, String>) -> Options {
    let text = |name: &str, otherwise: &str| {
        flags.get(name).cloned().unwrap_or_else(|| otherwise.to_string())
    };
    Options {
        endpoint: text("endpoint", ""),
        topic: text("topic", "conformance"),
        group: text("group", "conformance"),
        second_group: text("second-group", "conformance-second"),
        unknown_topic: text("unknown-topic", "no-such-topic"),
        large_body_bytes: text("large-body-bytes", "4194304")
            .parse()
            .expect("--large-body-bytes takes a number of bytes"),
    }
}

/// In a task of its own: this client panics in places where others return an error.
async fn run(case: String, clients: Clients) -> (&'static str, String) {
    match tokio::spawn(async move { cases::run(&case, &clients).await }).await {
        Ok(Ok(detail)) => ("pass", detail),
        Ok(Err(failure)) => ("fail", failure.to_string()),
        Err(panic) => ("fail", panic.to_string()),
    }
}

#[tokio::main]
async fn main() {
    let flags = flags();
    let case = flags.get("case").cloned().unwrap_or_default();
    let (result, detail) = match cases::unsupported(&case) {
        Some(reason) => ("unsupported", reason.to_string()),
        None => run(case.clone(), Clients::new(options(&flags))).await,
    };
    println!("{}", json!({"case": case, "result": result, "detail": detail}));
    std::process::exit(0);
}
