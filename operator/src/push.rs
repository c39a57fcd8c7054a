//! Brings one topic or group into every broker of a cluster. Compares before it writes: a broker that was asked for the
//! same in this session and has not changed it since is left alone.

use broker_proto::admin::{ApplyGroupRequest, ApplyTopicRequest, Group, Topic};
use futures::future::join_all;
use xxhash_rust::xxh3::xxh3_64;

use crate::broker_admin::{AdminError, Answer, BrokerAdmin};
use crate::links::state::Thing;
use crate::links::{BrokerView, ClusterView, Links};
use crate::names::ClusterKey;

/// A thing that can be pushed.
pub trait Pushable: Thing {
    /// Asks one broker for it.
    fn apply<'a>(&self, admin: &'a dyn BrokerAdmin, take_ownership: bool) -> Answer<'a, Self>;
}

impl Pushable for Topic {
    fn apply<'a>(&self, admin: &'a dyn BrokerAdmin, take_ownership: bool) -> Answer<'a, Self> {
        admin.apply_topic(ApplyTopicRequest {
            topic: Some(self.clone()),
            take_ownership,
            ..ApplyTopicRequest::default()
        })
    }
}

impl Pushable for Group {
    fn apply<'a>(&self, admin: &'a dyn BrokerAdmin, take_ownership: bool) -> Answer<'a, Self> {
        admin.apply_group(ApplyGroupRequest {
            group: Some(self.clone()),
            take_ownership,
            ..ApplyGroupRequest::default()
        })
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every broker holds what is asked for.
    Everywhere,
    /// Some brokers could not be asked now; the others hold it.
    Missing(Vec<Missing>),
    /// A broker refuses.
    Refused {
        /// Its number.
        broker: u32,
        /// Its words.
        error: AdminError,
    },
}

/// A broker that could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its number.
    pub broker: u32,
    /// Why.
    pub error: String,
}

/// Hash of what is asked for, to tell whether it was asked before.
#[must_use]
pub fn fingerprint<T: Thing>(thing: &T) -> u64 {
    xxh3_64(&thing.encode_to_vec())
}

/// Whether a broker was asked for exactly this in this session and holds it unchanged.
#[must_use]
pub fn is_in_place<T: Thing>(view: &BrokerView<T>, hash: u64) -> bool {
    match (view.pushed, &view.held) {
        (Some(pushed), Some(held)) => pushed.hash == hash && held.version() <= pushed.version,
        _ => false,
    }
}

/// Pushes to every broker that can be asked and does not have it.
pub async fn push<T: Pushable>(
    links: &Links,
    key: &ClusterKey,
    view: &ClusterView<T>,
    thing: &T,
    take_ownership: bool,
) -> Outcome {
    let hash = fingerprint(thing);
    let ask = |broker| ask(links, key, broker, thing, hash, take_ownership);
    let answers = join_all(view.brokers.iter().map(ask)).await;
    let mut missing = Vec::new();
    for (broker, answer) in view.brokers.iter().zip(answers) {
        match answer {
            Ok(()) => {}
            Err(error) if error.is_refusal() => {
                return Outcome::Refused { broker: broker.broker, error };
            }
            Err(error) => {
                missing.push(Missing { broker: broker.broker, error: error.to_string() });
            }
        }
    }
    if missing.is_empty() { Outcome::Everywhere } else { Outcome::Missing(missing) }
}

async fn ask<T: Pushable>(
    links: &Links,
    key: &ClusterKey,
    broker: &BrokerView<T>,
    thing: &T,
    hash: u64,
    take_ownership: bool,
) -> Result<(), AdminError> {
    if let Some(silence) = &broker.silence {
        let message = silence.error.clone();
        return Err(AdminError { code: tonic::Code::Unavailable, message });
    }
    if is_in_place(broker, hash) {
        return Ok(());
    }
    let answer = thing.apply(broker.admin.as_ref(), take_ownership).await?;
    links.note_push(key, broker, answer, hash);
    Ok(())
}
