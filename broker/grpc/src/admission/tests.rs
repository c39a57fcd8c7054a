//! What the gate answers by itself: calls that nobody answers, requests that do not arrive. Time is paused: what passes is what
//! somebody waited for on purpose.

use std::future::pending;

use broker_proto::rocketmq::HeartbeatResponse;
use http_body::{Body as _, Frame};
use prost::Message as _;

use super::*;

/// A body that never comes.
struct Never;

impl http_body::Body for Never {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Pending
    }
}

/// The code of the answer, and how long it took.
async fn answer<B>(memory: &Memory, timeout: &str, body: B) -> (Code, Duration)
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    let unanswered =
        tower::service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let mut service = Admitted::new(unanswered, memory.clone());
    let request = Request::post("/apache.rocketmq.v2.MessagingService/Heartbeat")
        .header("x-mq-client-id", "client")
        .header("grpc-timeout", timeout)
        .body(body)
        .unwrap();
    let begun = Instant::now();
    let mut body = infallible(service.call(request).await).into_body();
    let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
    let data = frame.unwrap().unwrap().into_data().unwrap();
    let answer = HeartbeatResponse::decode(&data[5..]).unwrap();
    (answer.status.unwrap().code(), begun.elapsed())
}

fn empty_message() -> Whole {
    Whole::new(vec![Bytes::from_static(&[0; 5])])
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_answers_ends_before_its_deadline_and_holds_nothing() {
    let memory = Memory::default();
    let (code, took) = answer(&memory, "3S", empty_message()).await;
    assert_eq!(code, Code::ProxyTimeout);
    assert!(took < Duration::from_secs(3) && took > Duration::from_millis(2_900), "{took:?}");
    let (code, took) = answer(&memory, "99999999H", empty_message()).await;
    assert_eq!((code, took.as_secs()), (Code::ProxyTimeout, 59));
    assert_eq!(memory.requests.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_arrive_ends_within_a_minute_and_holds_nothing() {
    let memory = Memory::default();
    let (code, took) = answer(&memory, "1H", Never).await;
    assert_eq!((code, took.as_secs()), (Code::ProxyTimeout, 60));
    let (code, took) = answer(&memory, "5S", Never).await;
    assert_eq!((code, took.as_secs()), (Code::ProxyTimeout, 5));
    assert_eq!(memory.requests.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_memory_is_refused_at_once() {
    let memory = Memory::default();
    let _all = memory.requests.take(memory.requests.max()).unwrap();
    let (code, took) = answer(&memory, "3S", empty_message()).await;
    assert_eq!((code, took), (Code::TooManyRequests, Duration::ZERO));
}
