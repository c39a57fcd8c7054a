//! The figures of a run, as a table and as data.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Run;
use super::consumer::ReceivedSide;
use super::producer::Sent;
use super::server_cpu::Used;
use crate::cli::output::fields;

/// Longest latency that is told apart: two minutes.
const LATENCY_US_MAX: u64 = 120_000_000;

/// An empty histogram of latencies in microseconds, exact to three digits.
pub(super) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are constant and legal")
}

/// One direction of the load.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Side {
    messages: u64,
    messages_per_second: f64,
    mebibytes_per_second: f64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

/// The figures of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    size_bytes: usize,
    producers: u32,
    inflight: u32,
    batch: u32,
    rate: u64,
    consumers: u32,
    duration_s: f64,
    send: Side,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_to_receive: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_us_per_message: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_cores: Option<f64>,
    generator_cpu_cores: f64,
    accepted: u64,
    received: u64,
    repeated: u64,
}

impl Report {
    pub(super) fn new(run: &Run, sent: &Sent, received: Option<&ReceivedSide>, used: Used) -> Self {
        let seconds = run.end.duration_since(run.begin).as_secs_f64();
        let side = |messages: u64, latency: &Histogram<u64>| Side {
            messages,
            messages_per_second: round(messages as f64 / seconds),
            mebibytes_per_second: round(
                messages as f64 * run.size_bytes as f64 / seconds / 1_048_576.0,
            ),
            p50_us: latency.value_at_quantile(0.5),
            p99_us: latency.value_at_quantile(0.99),
            p999_us: latency.value_at_quantile(0.999),
            max_us: latency.max(),
        };
        let per_message = |cpu: f64| round(cpu * 1e6 / sent.messages.max(1) as f64);
        Self {
            size_bytes: run.size_bytes,
            producers: run.producers,
            inflight: run.inflight,
            batch: run.batch,
            rate: run.rate,
            consumers: if run.receives { run.consumers } else { 0 },
            duration_s: seconds,
            send: side(sent.messages, &sent.latency_us),
            send_to_receive: received.map(|r| side(r.messages, &r.latency_us)),
            server_cpu_us_per_message: used.server_s.map(per_message),
            server_cpu_cores: used.server_s.map(|cpu| round(cpu / seconds)),
            generator_cpu_cores: round(used.generator_s / seconds),
            accepted: run.accepted.load(std::sync::atomic::Ordering::Relaxed),
            received: received.map_or(0, |r| r.seen.distinct),
            repeated: received.map_or(0, |r| r.seen.repeated),
        }
    }

    /// Accepted messages that never came; 0 when nothing was to be received.
    pub(super) fn lost(&self) -> u64 {
        match self.send_to_receive {
            Some(_) => self.accepted.saturating_sub(self.received),
            None => 0,
        }
    }

    pub(super) fn table(&self) -> String {
        let rate = if self.rate == 0 { "max".to_owned() } else { format!("{}/s", self.rate) };
        let load = format!(
            "{} B bodies, {} connections x {} requests x {} messages, rate {rate}, {} receivers, {} s",
            self.size_bytes,
            self.producers,
            self.inflight,
            self.batch,
            self.consumers,
            self.duration_s
        );
        let receive = self.send_to_receive.as_ref();
        let server = match (self.server_cpu_us_per_message, self.server_cpu_cores) {
            (Some(us), Some(cores)) => format!("{us} us per message ({cores} cores)"),
            _ => "unknown: give --server-pid or --server-metrics".to_owned(),
        };
        let complete = match receive {
            Some(_) => format!(
                "{} of {} accepted messages received, {} more than once",
                self.received, self.accepted, self.repeated
            ),
            None => format!("{} messages accepted, none received (--no-receive)", self.accepted),
        };
        fields(&[
            ("Load", load),
            ("Send", throughput(&self.send)),
            ("Send latency", latency(&self.send)),
            ("Send to receive", receive.map_or_else(dash, throughput)),
            ("Send to receive latency", receive.map_or_else(dash, latency)),
            ("Server CPU", server),
            ("Load generator CPU", format!("{} cores", self.generator_cpu_cores)),
            ("Complete", complete),
        ])
    }
}

fn throughput(side: &Side) -> String {
    format!("{} messages/s, {} MiB/s", side.messages_per_second, side.mebibytes_per_second)
}

fn latency(side: &Side) -> String {
    let ms = |us: u64| us as f64 / 1000.0;
    format!(
        "p50 {} ms, p99 {} ms, p99.9 {} ms, max {} ms",
        ms(side.p50_us),
        ms(side.p99_us),
        ms(side.p999_us),
        ms(side.max_us)
    )
}

/// Two digits after the point are all that a run can tell.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn dash() -> String {
    "-".to_owned()
}
