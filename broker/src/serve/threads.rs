//! The threads of a broker beside the main one, which hears signals: a core for each processor, and one each for what must be
//! answered whatever the others do. The table "Threads and queues" of ARCHITECTURE.md names them.

use std::io;
use std::sync::Arc;

use crate::listener::cores::Cores;
use crate::own_thread::OwnThread;

/// All of them.
#[derive(Debug)]
pub(super) struct Threads {
    /// Clients and shards.
    pub(super) cores: Arc<Cores>,
    /// Answers probes.
    pub(super) probes: OwnThread,
    /// Builds the metrics page.
    pub(super) metrics: OwnThread,
    /// Answers the admin port.
    pub(super) admin: OwnThread,
}

impl Threads {
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self {
            cores: Arc::new(Cores::start()?),
            probes: OwnThread::start("probes")?,
            metrics: OwnThread::start("metrics")?,
            admin: OwnThread::start("admin")?,
        })
    }

    /// Ends them; what still runs there is dropped.
    pub(super) fn stop(self) {
        OwnThread::stop_all([self.admin, self.metrics, self.probes]);
        if let Some(cores) = Arc::into_inner(self.cores) {
            cores.stop();
        }
    }
}
