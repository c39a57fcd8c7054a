//! A thread with a runtime of its own, for work that must not wait for other work: probes, the admin port, the metrics page,
//! each core. What runs on it is the business of whoever starts it.

use std::future::Future;
use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A runtime that is told to stop may take this long for what it just does on a thread that may block.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_millis(200);

/// Runs until it is stopped.
#[derive(Debug)]
pub(crate) struct OwnThread {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl OwnThread {
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(STOP_TIMEOUT);
        })?;
        Ok(Self { handle, stop, thread })
    }

    /// Runs a task there.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        self.handle.spawn(task);
    }

    /// To spawn more there.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends all of them; what still runs there is dropped. Each is told before the first is waited for.
    pub(crate) fn stop_all(threads: impl IntoIterator<Item = Self>) {
        let told = threads.into_iter().map(|own| {
            let _ = own.stop.send(());
            own.thread
        });
        for thread in told.collect::<Vec<_>>() {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(name, "a thread ended by a panic");
            }
        }
    }
}
