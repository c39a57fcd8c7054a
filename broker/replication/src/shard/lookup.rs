//! Searches of the log beside the running shard: messages of a topic, and what became of one message. A search reads
//! the durable log on a thread of its own and asks the engine only for names and places. What a head says is the
//! caller's to know: messages are told apart by a predicate, and found in key tables by the hash of a key.

mod deaths;
mod find;
mod search;
mod trace;

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_engine::{Command, NamesOf, Outcome, Refusal, Reply};
use broker_model::TopicName;
use broker_store::TopicKey;
use broker_store::reader::KeyTables;
use tokio::sync::oneshot;

use super::{ShardHandle, lock};

pub use broker_store::record::{Death, DeathCause};
pub use find::{Appearance, FindMessages, FoundMessage, FoundMessages};
pub use search::Searched;
use search::{Bounds, OfKey, Search};
pub use trace::{MessageTrace, MessageTraces, TraceEvent, TraceMessage, TraceStep};

/// Searches of one shard's log at one time; each takes a thread and up to one frame of memory.
pub const SEARCHES_PER_SHARD_MAX: usize = 4;
/// Bytes of the log that one search reads; what lies behind is left to the next.
pub const SEARCH_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// Bytes of the log that are read to say how dead letters died: they are shown without it, too.
pub const DEATHS_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Heads and bodies that one search returns; the first message always fits.
pub const FOUND_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Stored copies of one message that are traced: a producer that sent again after a lost answer leaves several.
pub const TRACED_COPIES_MAX: usize = 16;
/// Events of one stored copy.
pub const TRACE_EVENTS_MAX: usize = 1_000;

/// Says by its head whether a message is wanted.
pub type IsWanted = Box<dyn Fn(&[u8]) -> bool + Send>;

impl ShardHandle {
    /// Messages of a topic that were stored in a range of time, oldest first.
    ///
    /// # Errors
    /// [`Refusal::TopicNotFound`], [`Refusal::TooMany`] when as many searches run as may, [`Refusal::LogFailed`] naming
    /// the log position when the log is damaged.
    pub async fn find_messages(
        &self,
        find: FindMessages,
        is_wanted: IsWanted,
    ) -> Result<FoundMessages, Refusal> {
        let topic = self.topic_number(&find.topic).await?;
        let range =
            Range { times: find.times.clone(), from: find.from, bytes_max: SEARCH_BYTES_MAX };
        let key = find.key_hash.map(|hash| TopicKey { topic, hash });
        self.search(range, key, move |search| find::run(search, topic, &find, &is_wanted)).await
    }

    /// What became of the messages of a topic that the predicate knows, from when they were stored to now.
    ///
    /// # Errors
    /// As [`ShardHandle::find_messages`].
    pub async fn trace(
        &self,
        trace: TraceMessage,
        is_wanted: IsWanted,
    ) -> Result<MessageTraces, Refusal> {
        let topic = self.topic_number(&trace.topic).await?;
        let times = trace.since_ms..=u64::MAX;
        let range = Range { times, from: 0, bytes_max: SEARCH_BYTES_MAX };
        self.search(range, None, move |search| trace::run(search, topic, &is_wanted)).await
    }

    /// How dead letters died that stand at these offsets of a dead-letter topic and died in a range of time. What the log
    /// does not say, or says too far back, is left out.
    ///
    /// # Errors
    /// As [`ShardHandle::find_messages`].
    pub async fn deaths(
        &self,
        topic: &TopicName,
        times: RangeInclusive<u64>,
        offsets: BTreeSet<u64>,
    ) -> Result<HashMap<u64, Death>, Refusal> {
        let topic = self.topic_number(topic).await?;
        let work = move |search: Search<'_>| deaths::run(search, topic, offsets);
        let range = Range { times, from: 0, bytes_max: DEATHS_BYTES_MAX };
        self.search(range, None, work).await
    }

    async fn topic_number(&self, topic: &TopicName) -> Result<u32, Refusal> {
        let of = NamesOf { topics: vec![topic.clone()], ..NamesOf::default() };
        let outcome = self.submit(Command::ReadNames(of)).await?;
        let Outcome::Names(names) = outcome else { return Err(Refusal::Unavailable) };
        names.topics.get(topic).copied().ok_or_else(|| Refusal::TopicNotFound(topic.clone()))
    }

    /// Reads the log on a thread that may block; ends early when nobody waits for the result any more.
    async fn search<T: Send + 'static>(
        &self,
        range: Range,
        key: Option<TopicKey>,
        work: impl FnOnce(Search<'_>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = Arc::clone(&self.shared.searches).try_acquire_owned().map_err(|_| {
            let text = format!("{SEARCHES_PER_SHARD_MAX} searches of this log run already");
            Refusal::TooMany(text)
        })?;
        let is_given_up = Arc::new(AtomicBool::new(false));
        let _asker = Asker(Arc::clone(&is_given_up));
        let shard = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            // In this order: the reader knows every segment below the position.
            let end = shard.shared.durable_position.load(Ordering::Acquire);
            let reader = lock(&shard.shared.reader).clone();
            let tables =
                KeyTables { disk: &*shard.shared.disk, directory: &shard.shared.log_directory };
            // A shard whose log is damaged changes nothing on the disk.
            let removes_damaged = shard.shared.damage.is_none();
            let of_key = key.map(|key| OfKey { key, tables, removes_damaged });
            let Range { times, from, bytes_max } = range;
            let bounds = Bounds { times, from, end, bytes_max, of_key };
            work(Search::new(&reader, bounds, &is_given_up, &|command| shard.ask(command))?)
        });
        done.await.map_err(|_| Refusal::Unavailable)?
    }

    /// As [`ShardHandle::submit`], for a thread that may block.
    fn ask(&self, command: Command) -> Reply {
        let (sender, answer) = oneshot::channel();
        let input = self.input(command, Some(sender), None)?;
        self.inputs.blocking_send(input).map_err(|_| Refusal::Unavailable)?;
        answer.blocking_recv().map_err(|_| Refusal::Unavailable)?
    }
}

/// What of the log a search reads.
struct Range {
    times: RangeInclusive<u64>,
    /// Nothing before this log position.
    from: u64,
    bytes_max: u64,
}

/// Who waits for a search; dropped when its answer came, or when nobody wants it any more.
struct Asker(Arc<AtomicBool>);

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
