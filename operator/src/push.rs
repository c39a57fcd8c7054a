//! Brings one topic or group into every broker of a cluster. Compares before it writes: a broker that was asked for the
//! same in this session and has not changed it since is left alone.

use broker_proto::admin::{ApplyGroupRequest, ApplyTopicRequest, Group, Topic};
use futures::future::join_all;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

use crate::broker_admin::{AdminError, Answer, BrokerAdmin};
use crate::context::Context;
use crate::events::Happening;
use crate::links::state::{Thing, Vanished};
use crate::links::{BrokerView, ClusterView, Links};
use crate::metrics::Drift;
use crate::names::ClusterKey;
use crate::status_writer::{Kind, describe};
use crate::{consumer_group, topic};

/// A thing that can be pushed.
pub trait Pushable: Thing {
    /// What people call it.
    const NOUN: &'static str;
    /// Asks one broker for it.
    fn apply<'a>(&self, admin: &'a dyn BrokerAdmin, take_ownership: bool) -> Answer<'a, Self>;
    /// What a broker holds otherwise than it is wanted; none when nothing differs.
    fn differences(held: &Self, wanted: &Self) -> Option<String>;
}

impl Pushable for Topic {
    const NOUN: &'static str = "topic";

    fn apply<'a>(&self, admin: &'a dyn BrokerAdmin, take_ownership: bool) -> Answer<'a, Self> {
        admin.apply_topic(ApplyTopicRequest {
            topic: Some(self.clone()),
            take_ownership,
            ..ApplyTopicRequest::default()
        })
    }

    fn differences(held: &Self, wanted: &Self) -> Option<String> {
        topic::difference::differences(held, wanted).told()
    }
}

impl Pushable for Group {
    const NOUN: &'static str = "group";

    fn apply<'a>(&self, admin: &'a dyn BrokerAdmin, take_ownership: bool) -> Answer<'a, Self> {
        admin.apply_group(ApplyGroupRequest {
            group: Some(self.clone()),
            take_ownership,
            ..ApplyGroupRequest::default()
        })
    }

    fn differences(held: &Self, wanted: &Self) -> Option<String> {
        consumer_group::difference::differences(held, wanted).told()
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

/// What came of a push, and what it put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushing {
    /// What came of it.
    pub outcome: Outcome,
    /// What somebody else had done in brokers.
    pub repairs: Vec<Repair>,
}

/// What somebody else had done in a broker, put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// Number of the broker.
    pub broker: u32,
    /// What it was.
    pub damage: Damage,
}

/// What somebody else does in a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// Changes it, told field by field.
    Changed(String),
    /// Deletes it.
    Vanished(Vanished),
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
) -> Pushing {
    let hash = fingerprint(thing);
    let ask = |broker| ask(links, key, broker, thing, hash, take_ownership);
    let answers = join_all(view.brokers.iter().map(ask)).await;
    let (mut missing, mut repairs, mut refused) = (Vec::new(), Vec::new(), None);
    for (broker, answer) in view.brokers.iter().zip(answers) {
        let broker = broker.broker;
        match answer {
            Ok(damage) => repairs.extend(damage.map(|damage| Repair { broker, damage })),
            Err(error) if error.is_refusal() => {
                refused.get_or_insert(Outcome::Refused { broker, error });
            }
            Err(error) => missing.push(Missing { broker, error: error.words() }),
        }
    }
    let outcome = match refused {
        Some(refused) => refused,
        None if missing.is_empty() => Outcome::Everywhere,
        None => Outcome::Missing(missing),
    };
    Pushing { outcome, repairs }
}

async fn ask<T: Pushable>(
    links: &Links,
    key: &ClusterKey,
    broker: &BrokerView<T>,
    thing: &T,
    hash: u64,
    take_ownership: bool,
) -> Result<Option<Damage>, AdminError> {
    if let Some(silence) = &broker.silence {
        let message = silence.error.clone();
        return Err(AdminError { code: tonic::Code::Unavailable, message });
    }
    if is_in_place(broker, hash) {
        return Ok(None);
    }
    links.note_ask::<T>(key, broker.broker, thing.name());
    let answer = thing.apply(broker.admin.as_ref(), take_ownership).await?;
    // Only what was asked for before in the same words can have been changed by somebody else.
    let was_pushed = broker.pushed.is_some_and(|pushed| pushed.hash == hash);
    let held = broker.held.as_ref().filter(|_| was_pushed);
    let changed = held.and_then(|held| T::differences(held, thing)).map(Damage::Changed);
    let vanished = links.note_push(key, broker, answer, hash).map(Damage::Vanished);
    Ok(vanished.or(changed))
}

/// What people are told of something that was put back.
#[must_use]
pub fn told<T: Pushable>(name: &str, repair: &Repair) -> Happening {
    let Repair { broker, damage } = repair;
    let noun = T::NOUN;
    match damage {
        Damage::Changed(fields) => {
            let note = format!(
                "somebody else changed {noun} {name:?} on broker {broker}; it is put back: {fields}"
            );
            Happening::warning("DriftRepaired", note)
        }
        Damage::Vanished(vanished) => {
            let shards = match vanished.shards.as_slice() {
                [] => String::new(),
                shards => format!(" on {}", shards.join(", ")),
            };
            let lost = match &vanished.waited {
                _ if noun == Group::NOUN => {
                    "its progress and its dead letters there are gone".to_owned()
                }
                None => "its messages there are gone".to_owned(),
                Some((group, messages)) => format!(
                    "its messages there are gone, {messages} among them that group {group:?} had yet to get"
                ),
            };
            let note = format!(
                "somebody else deleted {noun} {name:?} on broker {broker}; it is made again, empty{shards}: {lost}"
            );
            Happening::warning("LostAndMadeAgain", note)
        }
    }
}

/// Tells of everything that was put back, and counts it.
pub(crate) async fn tell_repairs<T: Pushable, K: Kind>(
    object: &K,
    name: &str,
    repairs: &[Repair],
    context: &Context,
) {
    for repair in repairs {
        let drift = match repair.damage {
            Damage::Changed(_) => Drift::Changed,
            Damage::Vanished(_) => Drift::Gone,
        };
        context.metrics.repaired(T::NOUN, drift);
        let happening = told::<T>(name, repair);
        warn!(object = %describe(object), "{}", happening.note);
        context.events.tell(object, &happening).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_of<T: Pushable>(damage: Damage) -> String {
        told::<T>("orders", &Repair { broker: 1, damage }).note
    }

    #[test]
    fn what_was_lost_is_told_as_far_as_it_is_known() {
        let shards = vec!["shard-1".to_owned()];
        let waited = Some(("billing".to_owned(), 5000));
        let all = Damage::Vanished(Vanished { shards, waited });
        assert_eq!(
            told_of::<Topic>(all.clone()),
            "somebody else deleted topic \"orders\" on broker 1; it is made again, empty on shard-1: its messages there are \
             gone, 5000 among them that group \"billing\" had yet to get"
        );
        assert!(
            told_of::<Topic>(Damage::Vanished(Vanished::default()))
                .ends_with("messages there are gone")
        );
        assert!(
            told_of::<Group>(all).ends_with("its progress and its dead letters there are gone")
        );
        let changed = Damage::Changed("queues (has 1, wanted 8)".to_owned());
        assert!(told_of::<Topic>(changed).ends_with("it is put back: queues (has 1, wanted 8)"));
    }
}
