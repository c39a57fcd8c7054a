//! The receiving side: connections that poll one after the other and acknowledge each answer in one request.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use broker_proto::rocketmq::{
    AckMessageEntry, AckMessageRequest, FilterExpression, FilterType, ReceiveMessageRequest,
};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;

use super::connection::{Call, Connection, Place, framed, next_message};
use super::report::new_histogram;
use super::seen::Seen;
use super::template::Stamp;
use super::wire::{AckAnswer, Message, ReceiveElement};
use super::{GROUP, Run};
use crate::cli::client::{proto_duration, resource};
use crate::cli::failure::Failure;

const OK: i32 = 20_000;
const NOTHING: i32 = 40_401;
const BATCH: i32 = 32;
const INVISIBLE: Duration = Duration::from_secs(60);
/// The shortest that a server holds a poll, so that the end of a run is not waited for longer.
const WAIT: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(30);
/// Acknowledgements under way per connection.
const ACKS_IN_FLIGHT: usize = 8;

/// What the receiving side saw.
#[derive(Debug)]
pub(super) struct ReceivedSide {
    /// Messages in the measured time.
    pub(super) messages: u64,
    /// From the begin of the send to the arrival, in microseconds, in the measured time.
    pub(super) latency_us: Histogram<u64>,
    /// All messages of the run.
    pub(super) seen: Seen,
}

/// Receives until all that was accepted has come, or the drain time is over.
pub(super) async fn consume(run: Arc<Run>, places: Vec<Place>) -> ReceivedSide {
    let empty = || ReceivedSide { messages: 0, latency_us: new_histogram(), seen: Seen::default() };
    let side = Rc::new(RefCell::new(empty()));
    let mut pollers = Vec::new();
    for number in 0..run.consumers {
        let place = &places[number as usize % places.len()];
        match Poller::open(&run, place, &side).await {
            Ok(poller) => pollers.push(tokio::task::spawn_local(poller.poll_until_end())),
            Err(failure) => {
                run.fail(failure);
                break;
            }
        }
    }
    for poller in pollers {
        if poller.await.is_err() {
            run.fail(Failure::runtime("a receiving task ended by a fault"));
        }
    }
    side.replace(empty())
}

/// One connection that receives.
struct Poller {
    run: Arc<Run>,
    connection: Connection,
    receive: Call,
    ack: Call,
    request: Bytes,
    acks: Rc<Semaphore>,
    side: Rc<RefCell<ReceivedSide>>,
}

impl Poller {
    async fn open(
        run: &Arc<Run>,
        place: &Place,
        side: &Rc<RefCell<ReceivedSide>>,
    ) -> Result<Self, Failure> {
        let connection = Connection::open(place).await?;
        let request = ReceiveMessageRequest {
            group: Some(resource(GROUP)),
            message_queue: Some(place.queue.clone()),
            filter_expression: Some(FilterExpression {
                r#type: FilterType::Tag.into(),
                expression: "*".to_owned(),
            }),
            batch_size: BATCH,
            invisible_duration: Some(proto_duration(INVISIBLE)),
            auto_renew: false,
            long_polling_timeout: Some(proto_duration(WAIT)),
            attempt_id: None,
        };
        Ok(Self {
            run: Arc::clone(run),
            receive: connection.prepare("ReceiveMessage", WAIT + DEADLINE)?,
            ack: connection.prepare("AckMessage", DEADLINE)?,
            connection,
            request: framed(&request).freeze(),
            acks: Rc::new(Semaphore::new(ACKS_IN_FLIGHT)),
            side: Rc::clone(side),
        })
    }

    async fn poll_until_end(self) {
        while !self.is_done() {
            if let Err(failure) = self.poll().await {
                self.run.fail(failure);
            }
        }
        // All permits back means that the last acknowledgement was answered.
        let _ = self.acks.acquire_many(ACKS_IN_FLIGHT as u32).await;
    }

    fn is_done(&self) -> bool {
        let complete = self.run.sending_done.load(Ordering::Acquire)
            && self.side.borrow().seen.distinct >= self.run.accepted.load(Ordering::Acquire);
        complete || self.run.is_broken() || Instant::now() > self.run.drain_deadline()
    }

    async fn poll(&self) -> Result<(), Failure> {
        // The wait of a poll must not outlast the run: whoever finds the last message ends it for the others too.
        let answer = tokio::select! {
            answer = self.connection.call(&self.receive, self.request.clone()) => answer?,
            () = self.until_done() => return Ok(()),
        };
        let now = Instant::now();
        let mut answer = answer;
        let mut entries = Vec::with_capacity(BATCH as usize);
        while let Some(element) = next_message::<ReceiveElement>(&mut answer)? {
            if let Some(status) = element.status.filter(|s| !matches!(s.code, OK | NOTHING)) {
                return Err(Failure::runtime(format!(
                    "the broker refused a receive: {} ({})",
                    status.message, status.code
                )));
            }
            if let Some(message) = element.message {
                entries.push(self.take(message, now));
            }
        }
        if !entries.is_empty() {
            self.acknowledge(entries).await;
        }
        Ok(())
    }

    async fn until_done(&self) {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while !self.is_done() {
            looks.tick().await;
        }
    }

    fn take(&self, message: Message, now: Instant) -> AckMessageEntry {
        let properties = message.system_properties.unwrap_or_default();
        if let Some(stamp) = Stamp::read(&message.body).filter(|s| s.nonce == self.run.nonce) {
            let mut side = self.side.borrow_mut();
            side.seen.mark(stamp.sequence);
            if self.run.measured(now) {
                side.messages += 1;
                let age = now.duration_since(self.run.zero).as_nanos();
                let age = u64::try_from(age).unwrap_or(u64::MAX).saturating_sub(stamp.sent_ns);
                side.latency_us.saturating_record(age / 1000);
            }
        }
        AckMessageEntry {
            message_id: properties.message_id,
            receipt_handle: properties.receipt_handle,
            lite_topic: None,
        }
    }

    /// Sends the acknowledgement and goes on polling; waits only when many are under way.
    async fn acknowledge(&self, entries: Vec<AckMessageEntry>) {
        let request = AckMessageRequest {
            group: Some(resource(GROUP)),
            topic: Some(resource(&self.run.topic)),
            entries,
        };
        let frame = framed(&request).freeze();
        let Ok(permit) = self.acks.acquire().await else { return };
        permit.forget();
        let (run, connection) = (Arc::clone(&self.run), self.connection.clone());
        let (call, acks) = (self.ack.clone(), Rc::clone(&self.acks));
        tokio::task::spawn_local(async move {
            if let Err(failure) = acknowledged(&connection, &call, frame).await {
                run.fail(failure);
            }
            acks.add_permits(1);
        });
    }
}

async fn acknowledged(connection: &Connection, call: &Call, frame: Bytes) -> Result<(), Failure> {
    let mut answer = connection.call(call, frame).await?;
    let answer: AckAnswer = next_message(&mut answer)?.unwrap_or_default();
    let status = answer.status.unwrap_or_default();
    if status.code == OK {
        return Ok(());
    }
    Err(Failure::runtime(format!(
        "the broker refused an acknowledgement: {} ({})",
        status.message, status.code
    )))
}
