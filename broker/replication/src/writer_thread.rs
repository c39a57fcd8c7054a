//! The thread that blocks on the disk so that nobody else does: one per shard, mostly asleep.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use broker_store::WriteError;
use broker_store::writer::{Write, Writer, Written};
use tokio::sync::mpsc::UnboundedSender;

use crate::append_times::AppendTimes;

/// What became of a write; it comes back, so that one that found no room can be tried again.
pub(crate) type Finished = (Write, Result<Written, WriteError>);

/// Hands writes to the thread; the thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct WriterThread {
    writes: mpsc::Sender<Write>,
}

impl WriterThread {
    /// Starts the thread. Results come out of the channel that `finished` feeds; one write is under way at a time, so
    /// neither channel can grow. How long each took that succeeded is noted in `times`.
    pub(crate) fn start(
        name: &str,
        mut writer: Writer,
        finished: UnboundedSender<Finished>,
        times: Arc<AppendTimes>,
    ) -> std::io::Result<Self> {
        let (writes, queue) = mpsc::channel::<Write>();
        thread::Builder::new().name(format!("{name}-writer")).spawn(move || {
            while let Ok(write) = queue.recv() {
                let begun = Instant::now();
                let result = writer.write(&write);
                if result.is_ok() {
                    times.note(begun.elapsed());
                }
                if finished.send((write, result)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { writes })
    }

    pub(crate) fn write(&self, write: Write) {
        // The thread lives as long as the sender; if it is gone the shard is going down as well.
        let _gone = self.writes.send(write);
    }
}
