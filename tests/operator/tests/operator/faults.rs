//! What may go wrong between an operator and everything that it reads and writes: its process ends, a write is refused or its
//! answer is lost, watches break off and forget. Decides nothing about operators.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker_proto::admin::{
    ApplyGroupRequest, ApplyTopicRequest, ClusterMap, DeleteGroupRequest, DeleteTopicRequest,
    Group, ResetOffsetsRequest, Topic,
};
use bytes::Bytes;
use futures::future::pending;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use kube::Client;
use kube::client::Body;
use operator::broker_admin::{
    AdminError, Answer, BrokerAdmin, BrokerEndpoint, Connect, StateStream,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::random::Random;

/// How often the watch of one kind breaks off: each time it pauses for longer before it begins again.
const BREAKS_MAX: usize = 3;
/// What happens within this time before a watch breaks off is never told.
const UNTOLD: Duration = Duration::from_millis(200);
/// Events that a watch tells before it breaks off, at most.
const TOLD_MAX: u64 = 6;
/// How much later than the API server tells them events arrive, at most.
const LATE_MS: u64 = 300;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    Nothing,
    /// The process ends before this write is sent, from 1, or when it is done and nobody has heard of that.
    End {
        write: usize,
        is_done: bool,
    },
    /// Of so many writes one is refused, or done and its answer lost; never the same one twice in a row.
    FailWrites {
        one_in: u64,
    },
    /// Watches are late, and break off so that the rest of what there was to tell is gone (410).
    BreakWatches,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;
type Answered = Response<AnswerBody>;

enum Fate {
    Done,
    Refused,
    AnswerLost,
    EndsBefore,
    EndsBehind,
}

struct State {
    plan: Plan,
    random: Mutex<Random>,
    writes: Mutex<Vec<String>>,
    breaks: Mutex<HashMap<String, usize>>,
    /// Writes that failed when they were tried last.
    failed_last: Mutex<HashSet<String>>,
    failed: AtomicUsize,
    end: CancellationToken,
}

#[derive(Clone)]
pub(crate) struct Faults(Arc<State>);

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.plan)
    }
}

impl Faults {
    pub(crate) fn new(plan: Plan, seed: u64) -> Self {
        Self(Arc::new(State {
            plan,
            random: Mutex::new(Random::new(seed)),
            writes: Mutex::default(),
            breaks: Mutex::default(),
            failed_last: Mutex::default(),
            failed: AtomicUsize::new(0),
            end: CancellationToken::new(),
        }))
    }

    /// Writes so far, those for the lease left out.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.0.writes.lock().unwrap().clone()
    }

    /// How many writes failed or watches broke off.
    pub(crate) fn failed(&self) -> usize {
        self.0.failed.load(Ordering::Relaxed)
    }

    /// Whether the process is to end.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.end.is_cancelled()
    }

    /// Comes when the process is to end. From then on nothing is answered to it.
    pub(crate) async fn end(&self) {
        self.0.end.cancelled().await;
    }

    fn fate(&self, what: String) -> Fate {
        let mut writes = self.0.writes.lock().unwrap();
        writes.push(what.clone());
        match self.0.plan {
            Plan::End { write, is_done } if writes.len() == write => {
                if is_done {
                    Fate::EndsBehind
                } else {
                    Fate::EndsBefore
                }
            }
            Plan::FailWrites { one_in } => {
                let mut random = self.0.random.lock().unwrap();
                let mut failed = self.0.failed_last.lock().unwrap();
                // Each attempt waits twice as long as the one before, and the test not that long.
                if failed.remove(&what) || random.below(one_in) > 0 {
                    return Fate::Done;
                }
                failed.insert(what);
                self.0.failed.fetch_add(1, Ordering::Relaxed);
                if random.happens(500) { Fate::Refused } else { Fate::AnswerLost }
            }
            Plan::End { .. } | Plan::Nothing | Plan::BreakWatches => Fate::Done,
        }
    }

    /// Nothing comes of what is under way when the process ends.
    async fn until_the_end<T>(&self, request: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.end() => pending().await,
            answer = request => answer,
        }
    }

    async fn write<T>(
        &self,
        what: String,
        request: impl Future<Output = T>,
        refusal: T,
        loss: T,
    ) -> T {
        if self.has_ended() {
            return pending().await;
        }
        match self.fate(what) {
            Fate::Done => self.until_the_end(request).await,
            Fate::Refused => refusal,
            Fate::AnswerLost => {
                self.until_the_end(request).await;
                loss
            }
            Fate::EndsBefore => {
                self.0.end.cancel();
                pending().await
            }
            Fate::EndsBehind => {
                self.until_the_end(request).await;
                self.0.end.cancel();
                pending().await
            }
        }
    }

    /// A client of the API server to which this happens.
    pub(crate) fn client(&self, client: Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let faults = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, faults) = (client.clone(), faults.clone());
            async move { faults.ask(client, request).await }
        });
        Client::new(service, namespace)
    }

    async fn ask(&self, client: Client, request: Request<Body>) -> Result<Answered, kube::Error> {
        let path = request.uri().path().to_owned();
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
        let what = format!("{} {path}", request.method());
        let is_read = request.method() == Method::GET;
        let asked = async { Ok(client.send(request).await?.map(boxed)) };
        if is_read || path.contains("/leases") {
            let answer = self.until_the_end(asked).await?;
            return Ok(if is_watch { self.watched(path, answer) } else { answer });
        }
        let refusal = failure(StatusCode::CONFLICT, "Conflict");
        let loss = failure(StatusCode::GATEWAY_TIMEOUT, "Timeout");
        self.write(what, asked, Ok(refusal), Ok(loss)).await
    }

    /// The answer of a watch, late and broken off when that is the plan.
    fn watched(&self, path: String, answer: Answered) -> Answered {
        if self.0.plan != Plan::BreakWatches {
            return answer;
        }
        let told = {
            let mut breaks = self.0.breaks.lock().unwrap();
            let count = breaks.entry(path).or_insert(0);
            *count += 1;
            let breaks_off = *count <= BREAKS_MAX && answer.status() == StatusCode::OK;
            breaks_off.then(|| 1 + self.0.random.lock().unwrap().below(TOLD_MAX))
        };
        let faults = self.clone();
        answer.map(|body| {
            let frames = BodyStream::new(body);
            let begin = (frames, told, faults);
            let late = stream::unfold(begin, |(mut frames, told, faults)| async move {
                if told == Some(0) {
                    let _ = tokio::time::timeout(UNTOLD, async {
                        while frames.next().await.is_some() {}
                    })
                    .await;
                    faults.0.failed.fetch_add(1, Ordering::Relaxed);
                    let gone =
                        json!({"type": "ERROR", "object": status(StatusCode::GONE, "Expired")});
                    let frame = Frame::data(Bytes::from(format!("{gone}\n")));
                    return Some((Ok(frame), (frames, None, faults)));
                }
                let frame = frames.next().await?;
                let late = faults.0.random.lock().unwrap().below(LATE_MS);
                tokio::time::sleep(Duration::from_millis(late)).await;
                Some((frame, (frames, told.map(|told| told - 1), faults)))
            });
            boxed(StreamBody::new(late))
        })
    }

    /// A way to brokers on which this happens.
    pub(crate) fn connector(&self, roads: Arc<dyn Connect>) -> Arc<dyn Connect> {
        Arc::new(FaultyRoads { roads, faults: self.clone() })
    }
}

fn status(code: StatusCode, reason: &str) -> serde_json::Value {
    let message = format!("{reason}, as the test wants it");
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "code": code.as_u16(),
    })
}

fn boxed<B>(body: B) -> AnswerBody
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    body.map_err(Into::into).boxed_unsync()
}

fn failure(code: StatusCode, reason: &str) -> Answered {
    let body = boxed(Body::from(status(code, reason).to_string().into_bytes()));
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}

#[derive(Debug)]
struct FaultyRoads {
    roads: Arc<dyn Connect>,
    faults: Faults,
}

impl Connect for FaultyRoads {
    fn connect(&self, endpoint: &BrokerEndpoint) -> Result<Arc<dyn BrokerAdmin>, AdminError> {
        let admin = self.roads.connect(endpoint)?;
        Ok(Arc::new(FaultyAdmin { admin, broker: endpoint.broker, faults: self.faults.clone() }))
    }
}

#[derive(Debug)]
struct FaultyAdmin {
    admin: Arc<dyn BrokerAdmin>,
    broker: u32,
    faults: Faults,
}

impl FaultyAdmin {
    fn write<'a, T: Send + 'a>(&'a self, what: &str, request: Answer<'a, T>) -> Answer<'a, T> {
        let what = format!("{what} at broker {}", self.broker);
        let error = |code, message: &str| Err(AdminError { code, message: message.to_owned() });
        let refusal = error(Code::Unavailable, "not sent");
        let loss = error(Code::DeadlineExceeded, "no answer");
        async move { self.faults.write(what, request, refusal, loss).await }.boxed()
    }
}

impl BrokerAdmin for FaultyAdmin {
    fn apply_cluster_map(&self, map: ClusterMap) -> Answer<'_, u64> {
        self.write("ApplyClusterMap", self.admin.apply_cluster_map(map))
    }

    fn apply_topic(&self, request: ApplyTopicRequest) -> Answer<'_, Topic> {
        self.write("ApplyTopic", self.admin.apply_topic(request))
    }

    fn delete_topic(&self, request: DeleteTopicRequest) -> Answer<'_, ()> {
        self.write("DeleteTopic", self.admin.delete_topic(request))
    }

    fn apply_group(&self, request: ApplyGroupRequest) -> Answer<'_, Group> {
        self.write("ApplyGroup", self.admin.apply_group(request))
    }

    fn delete_group(&self, request: DeleteGroupRequest) -> Answer<'_, ()> {
        self.write("DeleteGroup", self.admin.delete_group(request))
    }

    fn reset_offsets(&self, request: ResetOffsetsRequest) -> Answer<'_, ()> {
        self.write("ResetOffsets", self.admin.reset_offsets(request))
    }

    fn watch_state(&self) -> Answer<'_, StateStream> {
        let faults = self.faults.clone();
        async move { faults.until_the_end(self.admin.watch_state()).await }.boxed()
    }
}
