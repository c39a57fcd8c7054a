//! Time is given from outside, so that a simulation can make it up. [`SystemClock`] is the one of a running broker; how a
//! shard makes its two readings of a clock stands in [`ShardClock`].

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use broker_model::Now;

/// A source of time.
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since some moment, which the passing of time alone moves.
    fn monotonic_ms(&self) -> u64;

    /// Milliseconds since the Unix epoch, as the machine believes; may jump.
    fn wall_ms(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// Time in which the machine was suspended does not count: in it nobody could be heard.
    fn monotonic_ms(&self) -> u64 {
        static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(BEGIN.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// 0 on a machine whose clock stands before 1970.
    fn wall_ms(&self) -> u64 {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        #[cfg(debug_assertions)]
        let wall_ms = wall_ms.saturating_add_signed(steps::step_ms());
        wall_ms
    }
}

/// Steps of the wall clock for tests of the real process. Nothing here is in a release build.
#[cfg(debug_assertions)]
mod steps {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    /// A file with the milliseconds by which the wall clock is wrong; read again each time.
    const FILE_VARIABLE: &str = "PINNACE_TEST_WALL_CLOCK";

    pub(super) fn step_ms() -> i64 {
        static FILE: LazyLock<Option<PathBuf>> =
            LazyLock::new(|| std::env::var_os(FILE_VARIABLE).map(PathBuf::from));
        let text = FILE.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }
}

/// The clock of one shard. Its steady time goes on from where the log says that it was, so that the deadlines in the log
/// keep their meaning over a restart.
#[derive(Debug)]
pub(crate) struct ShardClock {
    clock: Arc<dyn Clock>,
    /// How far the steady time is ahead of the monotonic one.
    ahead_ms: AtomicU64,
}

impl ShardClock {
    /// A clock whose steady time is `begin.steady_ms` now.
    pub(crate) fn begin(clock: Arc<dyn Clock>, begin: Now) -> Self {
        let ahead_ms = begin.steady_ms.saturating_sub(clock.monotonic_ms());
        Self { clock, ahead_ms: AtomicU64::new(ahead_ms) }
    }

    pub(crate) fn ahead_ms(&self) -> u64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Sets the steady time forward: only before the shard runs, so that all of a process tell the same.
    pub(crate) fn set_ahead(&self, ahead_ms: u64) {
        self.ahead_ms.fetch_max(ahead_ms, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Now {
        let steady_ms = self.clock.monotonic_ms().saturating_add(self.ahead_ms());
        Now { steady_ms, wall_ms: self.clock.wall_ms() }
    }
}
