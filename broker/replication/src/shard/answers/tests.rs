//! Answers of a shard to those who wait on another core. This thread is that core, and a thread of its own is the shard's.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use broker_engine::{Delivery, Source};
use broker_model::ShardId;
use broker_store::Disk;
use broker_store::limits::SEGMENT_BYTES_USUAL;
use broker_store::simulated_disk::SimulatedDisk;
use bytes::Bytes;
use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::clock::Clock;
use crate::shard::{OpenShard, ShardOptions, lock, open_shard};

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn monotonic_ms(&self) -> u64 {
        1
    }

    fn wall_ms(&self) -> u64 {
        1
    }
}

/// A shard that was opened and whose queue the test reads itself.
fn open() -> OpenShard {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let options = ShardOptions {
        id: ShardId(0),
        data: PathBuf::from("/data"),
        segment_bytes: SEGMENT_BYTES_USUAL,
        seed: 1.into(),
        keys_of_head: |_, _| {},
        memory: crate::Memory::default(),
    };
    open_shard(&disk, Arc::new(Stopped), &options).unwrap()
}

/// Somebody who waits here.
fn waiter() -> (Slot, oneshot::Receiver<Reply>) {
    let (sender, answer) = oneshot::channel();
    (Slot { sender: Some(sender), home: home(), ..Slot::default() }, answer)
}

fn received(offset: u64) -> Reply {
    let (shard, topic, group, queue, nonce, attempt) = (ShardId(0), 1, 1, 0, 1, 1);
    let handle = ReceiptHandle { shard, topic, group, queue, offset, nonce, attempt, code: None };
    let source = Source::Memory { head: Bytes::new(), body: Bytes::new() };
    Ok(Outcome::Received(vec![Delivery {
        handle,
        stored_ms: 1,
        invisible_until_ms: 2,
        origin_topic: None,
        source,
    }]))
}

/// Releases on the thread of the shard; the offsets of what found nobody.
fn release_there(shard: &OpenShard, replies: Vec<(Slot, Reply)>) -> Vec<u64> {
    let (shared, inputs) = (shard.handle.shared.clone(), shard.handle.inputs.downgrade());
    let released = thread::spawn(move || release(replies, &shared, &inputs)).join().unwrap();
    released.into_iter().map(|handle| handle.offset).collect()
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The task that hands out, and how often it was woken.
struct Core {
    task: Pin<Box<dyn Future<Output = ()>>>,
    wakes: Arc<Wakes>,
}

impl Core {
    fn here() -> Self {
        Self { task: Box::pin(bundled_on_this_thread()), wakes: Arc::default() }
    }

    fn turn(&mut self) {
        let waker = Waker::from(Arc::clone(&self.wakes));
        assert_eq!(self.task.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
    }
}

#[test]
fn all_answers_of_a_step_for_one_core_come_with_one_wake_up_and_in_order() {
    let (shard, mut core) = (open(), Core::here());
    core.turn();
    let (slots, mut answers): (Vec<_>, Vec<_>) = (0..100).map(|_| waiter()).unzip();
    let replies = slots.into_iter().zip(0..).map(|(slot, offset)| (slot, received(offset)));
    assert!(release_there(&shard, replies.collect()).is_empty());
    assert_eq!(core.wakes.0.load(Ordering::Relaxed), 1);
    assert_eq!(answers[0].try_recv().unwrap_err(), TryRecvError::Empty, "handed out there");
    core.turn();
    for (answer, expected) in answers.iter_mut().zip(0..) {
        let Ok(Ok(Outcome::Received(deliveries))) = answer.try_recv() else {
            panic!("{expected} was not answered");
        };
        assert_eq!(deliveries[0].handle.offset, expected);
    }
}

#[test]
fn what_finds_its_poller_gone_on_arrival_goes_back_to_the_shard() {
    let (mut shard, mut core) = (open(), Core::here());
    let ((gone, answer), (there, mut waiting)) = (waiter(), waiter());
    let replies = vec![(gone, received(7)), (there, received(8))];
    assert!(release_there(&shard, replies).is_empty());
    // Between the shard's step and the turn of this core.
    drop(answer);
    core.turn();
    assert!(waiting.try_recv().is_ok());
    assert!(matches!(shard.task.queue.try_recv(), Ok(Input::GivenBack)), "the shard is woken");
    let handles = lock(&shard.handle.shared.given_back);
    assert_eq!(handles.iter().map(|handle| handle.offset).collect::<Vec<_>>(), [7]);
}

#[test]
fn a_core_that_ended_has_nobody_who_waits() {
    let (shard, core) = (open(), Core::here());
    let (slot, answer) = waiter();
    drop((core, answer));
    assert_eq!(release_there(&shard, vec![(slot, received(7))]), [7]);
}

#[test]
fn who_waits_on_the_core_of_the_shard_is_answered_at_once() {
    let (shard, _core) = (open(), Core::here());
    let (slot, mut answer) = waiter();
    let inputs = shard.handle.inputs.downgrade();
    assert!(release(vec![(slot, received(7))], &shard.handle.shared, &inputs).is_empty());
    assert!(answer.try_recv().is_ok());
}
