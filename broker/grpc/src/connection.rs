//! The connection over which a call came, as far as calls need to know it: whether it is open still. Told by whoever owns
//! the socket; what is spoken on it is none of its business.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::monotonic_ms;

const OPEN: u64 = 0;

/// Goes with every request of a connection, among its extensions.
#[derive(Debug, Clone, Default)]
pub struct Connection(Arc<AtomicU64>);

impl Connection {
    /// One that proves of nothing that it arrived.
    pub(crate) fn unproven() -> Self {
        let connection = Self::default();
        connection.close(OPEN);
        connection
    }

    /// When it ended, by the monotonic clock; none while it is open.
    pub(crate) fn closed_ms(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|closed_ms| *closed_ms != OPEN)
    }

    /// It ended then.
    pub(crate) fn close(&self, now_ms: u64) {
        self.0.store(now_ms.max(OPEN + 1), Ordering::Release);
    }
}

/// Held by the owner of the socket as long as the connection is open, however it ends.
#[derive(Debug, Default)]
pub struct OpenConnection(Connection);

impl OpenConnection {
    /// For the requests that come over it.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.0.clone()
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.close(monotonic_ms());
    }
}
