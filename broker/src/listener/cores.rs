//! One current-thread runtime per core. A connection is placed on the core with the fewest connections and stays
//! there, so that all work for it runs on one thread and takes no lock against another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use broker_replication::shard::answers;

use crate::own_thread::OwnThread;

/// Most runtimes of one process, whatever the machine has.
const CORES_MAX: usize = 64;

#[derive(Debug)]
struct Core {
    thread: OwnThread,
    connections: Arc<AtomicUsize>,
}

/// The runtimes that serve messaging connections.
#[derive(Debug)]
pub(crate) struct Cores {
    cores: Vec<Core>,
}

impl Cores {
    /// Starts as many as the process may use processors.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(CORES_MAX);
        let cores = (0..count).map(start_core).collect::<io::Result<_>>()?;
        Ok(Self { cores })
    }

    /// Runs a connection on the core with the fewest of them.
    pub(crate) fn place<F: Future<Output = ()> + Send + 'static>(&self, connection: F) {
        let load = |core: &&Core| core.connections.load(Ordering::Relaxed);
        let Some(core) = self.cores.iter().min_by_key(load) else { return };
        core.connections.fetch_add(1, Ordering::Relaxed);
        let placed = Placed(Arc::clone(&core.connections));
        core.thread.spawn(async move {
            let _placed = placed;
            connection.await;
        });
    }

    /// Runs a task that lives as long as the process on one core; counts round when there are fewer cores.
    pub(crate) fn spawn_on<F: Future<Output = ()> + Send + 'static>(&self, index: usize, task: F) {
        if let Some(core) = self.cores.get(index % self.cores.len().max(1)) {
            core.thread.spawn(task);
        }
    }

    /// Ends all runtimes; what still runs on them is dropped.
    pub(crate) fn stop(self) {
        OwnThread::stop_all(self.cores.into_iter().map(|core| core.thread));
    }
}

/// Counts a connection as long as it lives, however it ends.
struct Placed(Arc<AtomicUsize>);

impl Drop for Placed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn start_core(index: usize) -> io::Result<Core> {
    let thread = OwnThread::start(&format!("core-{index}"))?;
    // Shards answer many waiters of a core at once.
    thread.spawn(async { answers::bundled_on_this_thread().await });
    Ok(Core { thread, connections: Arc::default() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn connections_spread_over_the_cores_and_leave_when_they_end() {
        let cores = Cores { cores: (0..2).map(|i| start_core(i).unwrap()).collect() };
        let counts = |c: &Cores| {
            c.cores.iter().map(|c| c.connections.load(Ordering::Relaxed)).collect::<Vec<_>>()
        };
        let mut ends = Vec::new();
        for _ in 0..4 {
            let (end, ended) = oneshot::channel::<()>();
            ends.push(end);
            cores.place(async move {
                let _ = ended.await;
            });
        }
        assert_eq!(counts(&cores), [2, 2]);
        drop(ends);
        let started = std::time::Instant::now();
        while counts(&cores) != [0, 0] {
            assert!(started.elapsed() < Duration::from_secs(10), "connections never left");
            thread::yield_now();
        }
        cores.stop();
    }
}
