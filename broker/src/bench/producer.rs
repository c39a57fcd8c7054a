//! The sending side: connections with a fixed number of requests under way, as fast as possible or at a rate.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Semaphore;

use super::Run;
use super::connection::{Call, Connection, Place, next_message};
use super::report::new_histogram;
use super::template::Template;
use super::wire::SendAnswer;
use crate::cli::failure::Failure;

const OK: i32 = 20_000;
/// A request that takes longer breaks the run.
const DEADLINE: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(1);

/// What the sending side saw in the measured time.
#[derive(Debug)]
pub(super) struct Sent {
    /// Accepted messages.
    pub(super) messages: u64,
    /// From the begin of a request to its answer, in microseconds.
    pub(super) latency_us: Histogram<u64>,
}

/// Begins of requests that are due, when a rate is asked for.
struct Due {
    begins: RefCell<VecDeque<Instant>>,
    count: Semaphore,
}

/// Sends until the run's end.
pub(super) async fn produce(run: Arc<Run>, places: Vec<Place>) -> Sent {
    let sent = Rc::new(RefCell::new(Sent { messages: 0, latency_us: new_histogram() }));
    let due = (run.rate > 0)
        .then(|| Rc::new(Due { begins: RefCell::default(), count: Semaphore::new(0) }));
    let mut slots = Vec::new();
    for number in 0..run.producers {
        let place = &places[number as usize % places.len()];
        let prepared = Connection::open(place)
            .await
            .and_then(|connection| Ok((connection.prepare("SendMessage", DEADLINE)?, connection)));
        let (call, connection) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                run.fail(failure);
                break;
            }
        };
        let template = Rc::new(RefCell::new(Template::new(&run, number)));
        for _ in 0..run.inflight {
            let slot = Slot {
                run: Arc::clone(&run),
                connection: connection.clone(),
                call: call.clone(),
                template: Rc::clone(&template),
                due: due.clone(),
                sent: Rc::clone(&sent),
            };
            slots.push(tokio::task::spawn_local(slot.send_until_end()));
        }
    }
    if let Some(due) = &due {
        pace(&run, due).await;
    }
    for slot in slots {
        if slot.await.is_err() {
            run.fail(Failure::runtime("a sending task ended by a fault"));
        }
    }
    sent.replace(Sent { messages: 0, latency_us: new_histogram() })
}

/// Hands out begins at the asked rate. A request that finds no free slot waits with its begin: its wait counts.
async fn pace(run: &Run, due: &Due) {
    let per_second = run.rate as f64 / f64::from(run.batch);
    let begin = Instant::now();
    let mut released = 0;
    let mut ticks = tokio::time::interval(PACE);
    while Instant::now() < run.end && !run.is_broken() {
        ticks.tick().await;
        let now = Instant::now();
        let wanted = (per_second * now.duration_since(begin).as_secs_f64()) as usize;
        for _ in released..wanted {
            due.begins.borrow_mut().push_back(now);
        }
        due.count.add_permits(wanted - released);
        released = wanted;
    }
    due.count.close();
}

/// One request under way at a time.
struct Slot {
    run: Arc<Run>,
    connection: Connection,
    call: Call,
    template: Rc<RefCell<Template>>,
    due: Option<Rc<Due>>,
    sent: Rc<RefCell<Sent>>,
}

impl Slot {
    async fn send_until_end(self) {
        while let Some(begin) = self.next_begin().await {
            if begin >= self.run.end || self.run.is_broken() {
                return;
            }
            if let Err(failure) = self.send(begin).await {
                self.run.fail(failure);
            }
        }
    }

    async fn next_begin(&self) -> Option<Instant> {
        let Some(due) = &self.due else { return Some(Instant::now()) };
        due.count.acquire().await.ok()?.forget();
        due.begins.borrow_mut().pop_front()
    }

    async fn send(&self, begin: Instant) -> Result<(), Failure> {
        let sent_ns = begin.duration_since(self.run.zero).as_nanos();
        let frame = self.template.borrow_mut().fill(u64::try_from(sent_ns).unwrap_or(u64::MAX));
        let mut answer = self.connection.call(&self.call, frame).await?;
        let answer: SendAnswer = next_message(&mut answer)?.unwrap_or_default();
        let status = answer.status.unwrap_or_default();
        if status.code != OK {
            return Err(Failure::runtime(format!(
                "the broker refused a send: {} ({})",
                status.message, status.code
            )));
        }
        let now = Instant::now();
        let messages = u64::from(self.run.batch);
        self.run.accepted.fetch_add(messages, Ordering::Relaxed);
        if self.run.measured(now) {
            let mut sent = self.sent.borrow_mut();
            sent.messages += messages;
            let us = u64::try_from(now.duration_since(begin).as_micros()).unwrap_or(u64::MAX);
            sent.latency_us.saturating_record(us);
        }
        Ok(())
    }
}
