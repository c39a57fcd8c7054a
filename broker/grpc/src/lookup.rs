//! Looking messages up over all shards of this broker: by id, by key, by time. The stored head is the wire form of the
//! message, so what is wanted is decided here and only here; the shards search their logs.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::RangeInclusive;

use broker_engine::Refusal;
use broker_model::{ShardId, TopicName, key_hash};
use broker_proto::rocketmq as wire;
use broker_replication::ShardHandle;
use broker_replication::shard::lookup::{
    FindMessages, FoundMessage, IsWanted, MessageTrace, Searched, TraceMessage,
};
use prost::Message as _;

use crate::context::BrokerContext;
use crate::convert::message_id;
use crate::limits::MESSAGE_ID_AGE_MS_MAX;

/// Which messages of a topic are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum By {
    /// Those with this id: one, or several copies of it.
    Id(String),
    /// Those with this key among theirs.
    Key(String),
    /// Those of this lite topic.
    LiteTopic(String),
    /// Every one.
    All,
}

/// A search over all shards.
#[derive(Debug, Clone)]
pub(crate) struct Find {
    pub(crate) topic: TopicName,
    /// When they were stored, Unix milliseconds.
    pub(crate) times: RangeInclusive<u64>,
    pub(crate) by: By,
    pub(crate) messages_max: usize,
    /// Where an answer before said that it goes on.
    pub(crate) cursor: Option<Cursor>,
}

/// Something that a shard knows.
#[derive(Debug)]
pub(crate) struct Located<'a, T> {
    pub(crate) shard: &'a ShardHandle,
    pub(crate) found: T,
}

/// What all shards know together, and how far they looked.
#[derive(Debug)]
pub(crate) struct Answer<'a, T> {
    pub(crate) all: Vec<Located<'a, T>>,
    pub(crate) is_complete: bool,
    /// Everything before that time was looked at, Unix time.
    pub(crate) until_ms: u64,
    /// Of a search for messages: where it goes on behind all that is in this answer.
    pub(crate) next: Cursor,
}

/// Where a search goes on: a log position on each shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor(BTreeMap<ShardId, u64>);

impl Cursor {
    /// The text of [`Cursor`]'s `Display`; none when it is no such.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let part = |part: &str| {
            let (shard, position) = part.split_once(':')?;
            Some((ShardId(shard.parse().ok()?), position.parse().ok()?))
        };
        text.split(',').map(part).collect::<Option<_>>().map(Self)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (shard, position)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{}:{position}", shard.0)?;
        }
        Ok(())
    }
}

impl<'a, T> Answer<'a, T> {
    fn nothing() -> Self {
        Self { all: Vec::new(), is_complete: true, until_ms: 0, next: Cursor::default() }
    }

    fn add(&mut self, shard: &'a ShardHandle, found: Vec<T>, searched: Searched) {
        self.all.extend(found.into_iter().map(|found| Located { shard, found }));
        self.note(searched);
    }

    fn note(&mut self, searched: Searched) {
        // What one shard did not look at is not known: the earliest end counts.
        self.until_ms = match (self.is_complete, searched.is_complete) {
            (true, true) => self.until_ms.max(searched.until_ms),
            (true, false) => searched.until_ms,
            (false, true) => self.until_ms,
            (false, false) => self.until_ms.min(searched.until_ms),
        };
        self.is_complete &= searched.is_complete;
    }
}

impl Answer<'_, FoundMessage> {
    /// Oldest first, and what is of one shard as it stands in its log, whatever its clock did.
    fn merge(&mut self) {
        let mut latest: HashMap<ShardId, u64> = HashMap::new();
        self.all.sort_by_cached_key(|located| {
            let latest = latest.entry(located.shard.id()).or_default();
            *latest = (*latest).max(located.found.stored_ms);
            *latest
        });
    }

    /// Keeps the first so many; the search goes on with the others.
    pub(crate) fn cut_off(&mut self, messages_max: usize) {
        // Backwards, so that the first of each shard counts.
        for located in self.all.iter().skip(messages_max).rev() {
            self.next.0.insert(located.shard.id(), located.found.position);
            self.is_complete = false;
        }
        self.all.truncate(messages_max);
    }
}

/// Messages of a topic, oldest first. Shards that do not hold the topic are left out.
///
/// # Errors
/// [`Refusal`] of a shard.
pub(crate) async fn find<'a>(
    context: &'a BrokerContext,
    find: &Find,
) -> Result<Answer<'a, FoundMessage>, Refusal> {
    let near = match &find.by {
        By::Id(id) if find.cursor.is_none() => near(id, &find.times),
        _ => None,
    };
    if let Some(times) = near {
        let found = find_in(context, find, times).await?;
        if !found.all.is_empty() || !found.is_complete {
            return Ok(found);
        }
    }
    find_in(context, find, find.times.clone()).await
}

async fn find_in<'a>(
    context: &'a BrokerContext,
    find: &Find,
    times: RangeInclusive<u64>,
) -> Result<Answer<'a, FoundMessage>, Refusal> {
    let mut answer = Answer::nothing();
    for shard in context.catalog.shards() {
        let Find { topic, messages_max, by, .. } = find.clone();
        let key_hash = match &by {
            By::Key(key) => Some(key_hash(key.as_bytes())),
            By::Id(_) | By::LiteTopic(_) | By::All => None,
        };
        let from = find.cursor.as_ref().and_then(|cursor| cursor.0.get(&shard.id()));
        let from = from.copied().unwrap_or(0);
        let asked = FindMessages { topic, times: times.clone(), from, messages_max, key_hash };
        match shard.find_messages(asked, is_wanted(by)).await {
            Ok(found) => {
                answer.next.0.insert(shard.id(), found.next_position);
                answer.add(shard, found.messages, found.searched);
            }
            Err(Refusal::TopicNotFound(_)) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    answer.merge();
    answer.cut_off(find.messages_max);
    if !answer.is_complete
        && let Some(last) = answer.all.last()
    {
        answer.until_ms = answer.until_ms.min(last.found.stored_ms);
    }
    Ok(answer)
}

/// What became of a message; one trace per stored copy, oldest first.
///
/// # Errors
/// [`Refusal`] of a shard.
pub(crate) async fn trace<'a>(
    context: &'a BrokerContext,
    topic: &TopicName,
    id: &str,
) -> Result<Answer<'a, MessageTrace>, Refusal> {
    if let Some(times) = near(id, &(0..=u64::MAX)) {
        let traces = trace_since(context, topic, id, *times.start()).await?;
        if !traces.all.is_empty() || !traces.is_complete {
            return Ok(traces);
        }
    }
    trace_since(context, topic, id, 0).await
}

async fn trace_since<'a>(
    context: &'a BrokerContext,
    topic: &TopicName,
    id: &str,
    since_ms: u64,
) -> Result<Answer<'a, MessageTrace>, Refusal> {
    let mut answer = Answer::nothing();
    for shard in context.catalog.shards() {
        let asked = TraceMessage { topic: topic.clone(), since_ms };
        match shard.trace(asked, is_wanted(By::Id(id.to_owned()))).await {
            Ok(found) => answer.add(shard, found.traces, found.searched),
            Err(Refusal::TopicNotFound(_)) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    answer.all.sort_by_key(|located| located.found.message.stored_ms);
    Ok(answer)
}

/// The part of a range in which a message of this id was stored; none when the id does not tell, or nothing is saved.
fn near(id: &str, times: &RangeInclusive<u64>) -> Option<RangeInclusive<u64>> {
    let made_ms = message_id::made_ms(id)?;
    let begin = made_ms.saturating_sub(MESSAGE_ID_AGE_MS_MAX).max(*times.start());
    let end = made_ms.saturating_add(MESSAGE_ID_AGE_MS_MAX).min(*times.end());
    (begin <= end).then_some(begin..=end)
}

fn is_wanted(by: By) -> IsWanted {
    Box::new(move |head| match &by {
        By::All => true,
        By::Id(id) => {
            has(head, id) && properties(head).is_some_and(|properties| properties.message_id == *id)
        }
        By::Key(key) => {
            has(head, key)
                && properties(head).is_some_and(|properties| properties.keys.contains(key))
        }
        By::LiteTopic(name) => {
            let is_same = |properties: wire::SystemProperties| {
                properties.lite_topic.is_some_and(|lite_topic| lite_topic == *name)
            };
            has(head, name) && properties(head).is_some_and(is_same)
        }
    })
}

/// Texts stand in the head as they are, so most messages need not be decoded.
fn has(head: &[u8], text: &str) -> bool {
    text.is_empty() || head.windows(text.len()).any(|part| part == text.as_bytes())
}

fn properties(head: &[u8]) -> Option<wire::SystemProperties> {
    wire::Message::decode(head).ok()?.system_properties
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(id: &str, keys: &[&str]) -> Vec<u8> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let properties =
            wire::SystemProperties { message_id: id.into(), keys, ..Default::default() };
        wire::Message { system_properties: Some(properties), ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn an_id_is_not_taken_for_a_key_or_a_part_of_one() {
        let head = head("order-1", &["alpha", "beta"]);
        let is = |by| is_wanted(by)(&head);
        assert!(is(By::Id("order-1".into())) && is(By::Key("beta".into())) && is(By::All));
        for no in ["order", "order-11", "alpha", ""] {
            assert!(!is(By::Id(no.into())), "{no}");
        }
        for no in ["alph", "order-1", "alphabeta", ""] {
            assert!(!is(By::Key(no.into())), "{no}");
        }
        assert!(!is(By::LiteTopic("alpha".into())));
        assert!(!is_wanted(By::Id("order-1".into()))(b"order-1, but no head"));
    }

    #[test]
    fn an_id_with_a_time_narrows_the_range_that_is_searched() {
        let id = "0156F7E71C361B21BC024CCDBE00000000";
        let made_ms = message_id::made_ms(id).unwrap();
        let hour = MESSAGE_ID_AGE_MS_MAX;
        assert_eq!(near(id, &(0..=u64::MAX)), Some(made_ms - hour..=made_ms + hour));
        assert_eq!(near(id, &(made_ms..=made_ms + 5)), Some(made_ms..=made_ms + 5));
        assert_eq!(near(id, &(made_ms + 2 * hour..=u64::MAX)), None);
        assert_eq!(near("order-1", &(0..=u64::MAX)), None);
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let cursor = Cursor(BTreeMap::from([(ShardId(0), 7), (ShardId(12), u64::MAX)]));
        let text = cursor.to_string();
        assert_eq!(text, "0:7,12:18446744073709551615");
        assert_eq!(Cursor::parse(&text), Some(cursor));
        for wrong in ["", "0", "0:", ":1", "0:1,", "a:1", "0:-1", "0:18446744073709551616"] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_one_shard_did_not_look_at_counts() {
        let searched = |is_complete, until_ms| Searched { is_complete, until_ms };
        let sum = |parts: &[Searched]| {
            let mut answer: Answer<'_, ()> = Answer::nothing();
            parts.iter().for_each(|part| answer.note(*part));
            (answer.is_complete, answer.until_ms)
        };
        assert_eq!(sum(&[searched(true, 5), searched(true, 9)]), (true, 9));
        assert_eq!(sum(&[searched(true, 5), searched(false, 3)]), (false, 3));
        assert_eq!(sum(&[searched(false, 7), searched(false, 3), searched(true, 9)]), (false, 3));
    }
}
