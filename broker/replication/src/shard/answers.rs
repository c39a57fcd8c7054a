//! The way of answers back to those who wait. To wake a task of another runtime costs a system call each time, and the woken
//! core takes them one by one; so all answers of one step for one core travel as one bundle and are handed out there.

use std::cell::RefCell;
use std::sync::Arc;

use broker_engine::{Outcome, Reply};
use broker_model::ReceiptHandle;
use tokio::sync::{mpsc, oneshot};

use super::{Input, ShardHandle, Shared, Slot};

thread_local! {
    /// Where those who wait on this thread take their answers; none where each is woken for itself.
    static HOME: RefCell<Option<Home>> = const { RefCell::new(None) };
}

/// The core on which somebody waits.
#[derive(Debug, Clone)]
pub(super) struct Home(mpsc::UnboundedSender<Bundle>);

/// One who waits, and what for.
type Answer = (oneshot::Sender<Reply>, Reply);

/// Answers of one step for one core, with the shard that takes back what finds nobody.
#[derive(Debug)]
struct Bundle {
    answers: Vec<Answer>,
    shard: Arc<Shared>,
    inputs: mpsc::WeakSender<Input>,
}

/// Has the answers to commands that are submitted on this thread from now on come in bundles. The future hands them out; it is
/// for the one runtime of this thread, and runs as long as that does.
pub fn bundled_on_this_thread() -> impl Future<Output = ()> + Send + 'static {
    let (bundles, mut arrived) = mpsc::unbounded_channel::<Bundle>();
    HOME.set(Some(Home(bundles)));
    async move {
        while let Some(Bundle { answers, shard, inputs }) = arrived.recv().await {
            let undelivered = hand_out(answers);
            // Without the shard's queue there is nobody left who could have them.
            if let (false, Some(inputs)) = (undelivered.is_empty(), inputs.upgrade()) {
                ShardHandle { shared: shard, inputs }.give_back(undelivered);
            }
        }
    }
}

/// The core of this thread.
pub(super) fn home() -> Option<Home> {
    HOME.with_borrow(Clone::clone)
}

/// Sends answers on their way; returns the handles of messages whose poller is found to be gone.
pub(super) fn release(
    replies: Vec<(Slot, Reply)>,
    shard: &Arc<Shared>,
    inputs: &mpsc::WeakSender<Input>,
) -> Vec<ReceiptHandle> {
    let here = home();
    let is_here = |home: &Home| here.as_ref().is_some_and(|here| here.0.same_channel(&home.0));
    let mut direct = Vec::new();
    let mut bundles: Vec<(Home, Vec<Answer>)> = Vec::new();
    for (slot, reply) in replies {
        let Some(sender) = slot.sender else { continue };
        match slot.home.filter(|home| !is_here(home)) {
            None => direct.push((sender, reply)),
            Some(home) => match bundles.iter_mut().find(|(of, _)| of.0.same_channel(&home.0)) {
                Some((_, answers)) => answers.push((sender, reply)),
                None => bundles.push((home, vec![(sender, reply)])),
            },
        }
    }
    for (home, answers) in bundles {
        let bundle = Bundle { answers, shard: Arc::clone(shard), inputs: inputs.clone() };
        if let Err(mpsc::error::SendError(bundle)) = home.0.send(bundle) {
            // That runtime ended, and with it those who waited on it; others may yet have their messages.
            direct.extend(bundle.answers);
        }
    }
    hand_out(direct)
}

/// Wakes everybody with their answer; returns the handles of messages whose poller is gone.
fn hand_out(answers: Vec<Answer>) -> Vec<ReceiptHandle> {
    let mut undelivered = Vec::new();
    for (sender, reply) in answers {
        if let Err(Ok(Outcome::Received(deliveries))) = sender.send(reply) {
            undelivered.extend(deliveries.into_iter().map(|delivery| delivery.handle));
        }
    }
    undelivered
}

#[cfg(test)]
mod tests;
