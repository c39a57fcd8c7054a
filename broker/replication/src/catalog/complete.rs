//! Telling shards at the start what they do not know and others do: a shard that came later, and one that a stop in the middle
//! of a change left behind.

use std::collections::HashSet;
use std::mem::discriminant;

use super::progress_on;
use broker_engine::{Command, Join, OffsetAt, Outcome, ResetOffsets};
use broker_model::{GroupName, StartFrom, TopicName};
use futures::{StreamExt as _, stream};

use super::merged::Repair;
use super::{Catalog, CatalogError, Refusal};

/// Changes on their way at one time: enough for them to share writes.
const REPAIRS_AT_ONCE: usize = 256;

impl Catalog {
    /// Makes all shards know what any of them knows. A shard that cannot take it in now is told at the next start, and refuses
    /// until then what it does not know.
    ///
    /// # Errors
    /// [`CatalogError::Shard`] when the progress of groups cannot be read.
    pub async fn complete_shards(&self) -> Result<(), CatalogError> {
        let mut changing = self.inner.changing.lock().await;
        let repairs = std::mem::take(&mut *changing);
        let begins = self.late_beginnings(&repairs).await?;
        // One kind after the other: see [`super::merged::Merged`].
        let is_alike =
            |a: &Repair, b: &Repair| discriminant(&a.command) == discriminant(&b.command);
        for alike in repairs.chunk_by(is_alike) {
            self.carry_out(alike.to_vec()).await;
        }
        self.carry_out(begins).await;
        let joins = self.late_joins().await?;
        self.carry_out(joins).await;
        Ok(())
    }

    /// A consumer of a broadcasting group that one shard knows and another does not: it gets what is sent there from now on,
    /// which is before it connects again.
    async fn late_joins(&self) -> Result<Vec<Repair>, CatalogError> {
        let mut members: Vec<HashSet<(GroupName, String)>> = Vec::new();
        for shard in self.shards() {
            let Outcome::Members(theirs) = shard.submit(Command::ReadMembers).await? else {
                continue;
            };
            members.push(theirs.into_iter().collect());
        }
        let all: HashSet<_> = members.iter().flatten().cloned().collect();
        if members.iter().all(|theirs| theirs.len() == all.len()) {
            return Ok(Vec::new());
        }
        let begun = self.begun().await?;
        let mut joins = Vec::new();
        for (shard, theirs) in members.iter().enumerate() {
            for (group, client_id) in all.difference(theirs) {
                let topics = begun.iter().filter(|(of, topic)| {
                    of == group && self.topic(topic.as_str()).is_some() && !topic.is_dead_letter()
                });
                let topics = topics.map(|(_, topic)| topic.clone()).collect();
                let join = Join { group: group.clone(), topics, client_id: client_id.clone() };
                joins.push(Repair { shard, command: Command::Join(join), is_new: true });
            }
        }
        Ok(joins)
    }

    /// Groups and topics that any shard has progress of.
    async fn begun(&self) -> Result<HashSet<(GroupName, TopicName)>, CatalogError> {
        let mut begun = HashSet::new();
        for shard in self.shards() {
            let rows = progress_on(shard, None).await?;
            begun.extend(rows.into_iter().map(|row| (row.group, row.topic)));
        }
        Ok(begun)
    }

    async fn carry_out(&self, repairs: Vec<Repair>) {
        let asked = repairs.into_iter().map(|Repair { shard, command, .. }| async move {
            let Some(shard) = self.shards().get(shard).filter(|shard| shard.damage().is_none())
            else {
                return;
            };
            let what = format!("{command:?}");
            match shard.submit(command).await {
                Ok(_) | Err(Refusal::TopicNotFound(_) | Refusal::GroupNotFound(_)) => {
                    tracing::info!(shard = shard.name(), what, "told a shard what others know");
                }
                Err(error) => {
                    tracing::warn!(shard = shard.name(), what, %error,
                        "a shard does not know what others do; it is told at the next start");
                }
            }
        });
        stream::iter(asked).buffer_unordered(REPAIRS_AT_ONCE).collect::<()>().await;
    }

    /// A group that begins with what is new, and has begun on another shard, is owed all that stands on a shard that did not
    /// know it.
    async fn late_beginnings(&self, repairs: &[Repair]) -> Result<Vec<Repair>, CatalogError> {
        let mut late: Vec<(usize, GroupName, TopicName)> = Vec::new();
        for Repair { shard, command, is_new } in repairs {
            let Command::PutGroup(group) = command else { continue };
            let subscriptions = group.subscriptions.iter().filter(|_| *is_new);
            let latest = subscriptions.filter(|s| s.start_from == StartFrom::Latest);
            late.extend(latest.map(|s| (*shard, group.name.clone(), s.topic.clone())));
        }
        if late.is_empty() {
            return Ok(Vec::new());
        }
        let begun = self.begun().await?;
        late.retain(|(_, group, topic)| begun.contains(&(group.clone(), topic.clone())));
        let begins = late.into_iter().map(|(shard, group, topic)| {
            let (topics, to) = (vec![topic], OffsetAt::Earliest);
            let reset = ResetOffsets { group, topics, to, id: String::new() };
            Repair { shard, command: Command::ResetOffsets(reset), is_new: false }
        });
        Ok(begins.collect())
    }
}
