//! What happened on a port, counted; read when metrics are scraped.

use prometheus_client::metrics::counter::Counter;

/// Counters of one port.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections taken in.
    pub(crate) accepted: Counter,
    /// Closed at once because the limit was reached.
    pub(crate) over_limit: Counter,
    /// Closed because what came is not spoken here.
    pub(crate) foreign: Counter,
    /// Closed because nothing, or not enough, came in time.
    pub(crate) silent: Counter,
    /// TLS handshakes that failed.
    pub(crate) tls_failed: Counter,
    /// Ended by an error of the transport or the HTTP layer.
    pub(crate) broken: Counter,
}

impl Counters {
    /// Everything that closes a connection too early, with the name of the reason.
    pub(crate) fn dropped(&self) -> [(&'static str, u64); 5] {
        [
            ("over_limit", self.over_limit.get()),
            ("foreign", self.foreign.get()),
            ("silent", self.silent.get()),
            ("tls_failed", self.tls_failed.get()),
            ("broken", self.broken.get()),
        ]
    }
}
