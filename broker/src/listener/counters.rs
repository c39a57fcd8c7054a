//! What happened on a port, counted; read when metrics are scraped.

use prometheus_client::metrics::counter::Counter;

/// Counters of one port.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections taken in.
    pub(crate) accepted: Counter,
    /// Closed at once because the limit was reached.
    pub(crate) over_limit: Counter,
    /// Closed at once because one address had all that it may have.
    pub(crate) over_source_limit: Counter,
    /// Closed because others needed the place and no call was open.
    pub(crate) gave_way: Counter,
    /// Closed because what came is not spoken here.
    pub(crate) foreign: Counter,
    /// Closed because nothing, or not enough, came in time.
    pub(crate) silent: Counter,
    /// Closed because an answer was not read for too long.
    pub(crate) unread: Counter,
    /// Closed because of too many frames that bring no request.
    pub(crate) flood: Counter,
    /// TLS handshakes that failed.
    pub(crate) tls_failed: Counter,
    /// Ended by an error of the transport or the HTTP layer.
    pub(crate) broken: Counter,
}

impl Counters {
    /// Everything that closes a connection too early, with the name of the reason.
    pub(crate) fn dropped(&self) -> [(&'static str, u64); 9] {
        [
            ("over_limit", self.over_limit.get()),
            ("over_source_limit", self.over_source_limit.get()),
            ("gave_way", self.gave_way.get()),
            ("foreign", self.foreign.get()),
            ("silent", self.silent.get()),
            ("unread", self.unread.get()),
            ("flood", self.flood.get()),
            ("tls_failed", self.tls_failed.get()),
            ("broken", self.broken.get()),
        ]
    }
}
