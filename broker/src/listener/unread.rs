//! Answers that wait for their client: a client that asks and does not read holds memory that others need. One clock for
//! each connection, whatever the number of its answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// How fine time is measured ...
const EPOCH: Duration = Duration::from_secs(15);
/// ... and after how many of them, the current one included, an answer has waited too long: 45 to 60 s.
const EPOCHS: usize = 4;

/// The answers of one connection that wait for the client, by when they began to.
#[derive(Debug, Default)]
pub(super) struct Unread {
    epoch: AtomicUsize,
    waiting: [AtomicUsize; EPOCHS],
}

/// When an answer began to wait.
#[derive(Debug)]
pub(super) struct Since(usize);

impl Unread {
    /// There is something for the client to take.
    pub(super) fn begin(&self) -> Since {
        let epoch = self.epoch.load(Ordering::Relaxed);
        self.waiting[epoch].fetch_add(1, Ordering::Relaxed);
        Since(epoch)
    }

    /// It was taken.
    pub(super) fn end(&self, since: Since) {
        self.waiting[since.0].fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends when something waits for too long.
    pub(super) async fn too_long(&self) {
        loop {
            sleep(EPOCH).await;
            let next = (self.epoch.load(Ordering::Relaxed) + 1) % EPOCHS;
            if self.waiting[next].load(Ordering::Relaxed) > 0 {
                return;
            }
            self.epoch.store(next, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_in_time_may_be_followed_by_more_and_what_is_not_ends_it() {
        let unread = Unread::default();
        let begun = Instant::now();
        let reading = async {
            for _ in 0..20 {
                let since = unread.begin();
                advance(Duration::from_secs(20)).await;
                unread.end(since);
            }
        };
        tokio::select! {
            () = unread.too_long() => panic!("each was taken after 20 s"),
            () = reading => {}
        }
        assert!(timeout(Duration::from_secs(600), unread.too_long()).await.is_err(), "none waits");
        let _waits = unread.begin();
        let begun_waiting = Instant::now();
        unread.too_long().await;
        let waited = begun_waiting.elapsed();
        assert!(waited >= EPOCH * 3 && waited <= EPOCH * 4, "{waited:?} of {:?}", begun.elapsed());
    }
}
