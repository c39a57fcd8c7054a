//! One current-thread runtime per core. A connection is placed on the core with the fewest connections and stays
//! there, so that all work for it runs on one thread and takes no lock against another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use broker_replication::shard::answers;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Most runtimes of one process, whatever the machine has.
const CORES_MAX: usize = 64;
/// A runtime that is told to stop may take this long for what it just does on a thread that may block.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Core {
    handle: Handle,
    connections: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
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
        core.handle.spawn(async move {
            let _placed = placed;
            connection.await;
        });
    }

    /// Runs a task that lives as long as the process on one core; counts round when there are fewer cores.
    pub(crate) fn spawn_on<F: Future<Output = ()> + Send + 'static>(&self, index: usize, task: F) {
        if let Some(core) = self.cores.get(index % self.cores.len().max(1)) {
            core.handle.spawn(task);
        }
    }

    /// Ends all runtimes; what still runs on them is dropped.
    pub(crate) fn stop(self) {
        // All of them are told before the first is waited for.
        let told = self.cores.into_iter().map(|core| {
            let _ = core.stop.send(());
            core.thread
        });
        for thread in told.collect::<Vec<_>>() {
            if thread.join().is_err() {
                tracing::error!("a core thread ended by a panic");
            }
        }
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
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new().name(format!("core-{index}")).spawn(move || {
        // Shards answer many waiters of a core at once.
        runtime.spawn(answers::bundled_on_this_thread());
        let _ = runtime.block_on(stopped);
        runtime.shutdown_timeout(STOP_TIMEOUT);
    })?;
    Ok(Core { handle, connections: Arc::default(), stop, thread })
}

#[cfg(test)]
mod tests {
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
