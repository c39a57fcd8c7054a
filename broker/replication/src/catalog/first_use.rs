//! Groups that nobody declared: made by first use, noted while they are used, and forgotten when no shard has seen them used
//! for long. When that is stands in `broker_engine`; here it is only asked, in rounds of a bounded size.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker_engine::{Command, Outcome, Refusal};
use broker_model::GroupName;
use broker_model::limits::{
    GROUPS_BY_FIRST_USE_MAX, GROUPS_PER_USE_ROUND_MAX, GROUPS_TOLD_AT_ONCE_MAX,
};

use super::{Catalog, CatalogChange, CatalogError, GroupEntry};

/// How far the look at all groups has come.
#[derive(Debug, Default)]
pub struct UseRound {
    looked_at_to: Option<GroupName>,
}

impl Catalog {
    /// The group, created with default settings when it is used for the first time, unless its name was deleted. A read-only shard keeps it in memory,
    /// so that what it holds can be received.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn ensure_group(&self, name: &GroupName) -> Result<Arc<GroupEntry>, CatalogError> {
        if let Some(entry) = self.group(name.as_str()) {
            entry.note_use();
            return Ok(entry);
        }
        let _one_at_a_time = self.inner.changing.lock().await;
        if let Some(entry) = self.group(name.as_str()) {
            entry.note_use();
            return Ok(entry);
        }
        if self.read().deleted_groups.contains(name) {
            return Err(CatalogError::Deleted(name.clone()));
        }
        if self.read().groups.len() >= GROUPS_BY_FIRST_USE_MAX {
            return Err(CatalogError::Limit(format!(
                "the broker holds {GROUPS_BY_FIRST_USE_MAX} consumer groups, the limit for those that nobody declared; \
                 declare the group {name}, or delete some that are not used"
            )));
        }
        self.make_group(name).await
    }

    async fn make_group(&self, name: &GroupName) -> Result<Arc<GroupEntry>, CatalogError> {
        for shard in self.shards() {
            shard.submit(Command::MakeGroup(name.clone())).await?;
        }
        let entry = self.write().make_group(name);
        self.tell(CatalogChange::Group(entry.clone()));
        Ok(entry)
    }

    /// Tells the shards which groups were used since the last round, and forgets some of those that nobody used for long.
    /// `is_hour_over`: another hour of service is over.
    ///
    /// # Errors
    /// [`Refusal`] of a shard; the next round tries again.
    pub async fn use_round(
        &self,
        round: &mut UseRound,
        is_hour_over: bool,
    ) -> Result<(), CatalogError> {
        let mut groups = self.groups();
        groups.retain(|entry| !entry.is_declared);
        let used: Vec<_> = groups.iter().filter(|entry| entry.is_used()).cloned().collect();
        self.tell_use(&used, is_hour_over).await?;
        self.check_writable()?;
        let from = round.looked_at_to.take();
        let next = groups.iter().map(|entry| &entry.group.name);
        let next = next.filter(|name| from.as_ref().is_none_or(|from| *name > from));
        let names: Vec<GroupName> = next.take(GROUPS_PER_USE_ROUND_MAX).cloned().collect();
        round.looked_at_to =
            names.last().filter(|_| names.len() == GROUPS_PER_USE_ROUND_MAX).cloned();
        let mut forgotten = 0;
        for names in names.chunks(GROUPS_TOLD_AT_ONCE_MAX) {
            for name in self.unused_on_all_shards(names.to_vec()).await? {
                forgotten += usize::from(self.forget_group(&name).await?);
            }
        }
        if forgotten > 0 {
            tracing::info!(
                forgotten,
                "consumer groups that nobody declared or used for long are forgotten"
            );
        }
        Ok(())
    }

    async fn tell_use(&self, used: &[Arc<GroupEntry>], is_hour_over: bool) -> Result<(), Refusal> {
        for (number, told) in used.chunks(GROUPS_TOLD_AT_ONCE_MAX).enumerate() {
            told.iter().for_each(|entry| entry.is_used.store(false, Ordering::Relaxed));
            let names: Vec<_> = told.iter().map(|entry| entry.group.name.clone()).collect();
            if let Err(refusal) = self.tell_all(&names, false).await {
                used.iter()
                    .skip(number * GROUPS_TOLD_AT_ONCE_MAX)
                    .for_each(|entry| entry.note_use());
                return Err(refusal);
            }
        }
        // Behind the uses, which were in the hour that is over.
        if is_hour_over { self.tell_all(&[], true).await } else { Ok(()) }
    }

    async fn tell_all(&self, groups: &[GroupName], is_hour_over: bool) -> Result<(), Refusal> {
        for shard in self.shards().iter().filter(|shard| shard.damage().is_none()) {
            let groups = groups.to_vec();
            shard.submit(Command::NoteGroupUse { groups, is_hour_over }).await?;
        }
        Ok(())
    }

    async fn unused_on_all_shards(
        &self,
        mut names: Vec<GroupName>,
    ) -> Result<Vec<GroupName>, Refusal> {
        for shard in self.shards() {
            if names.is_empty() {
                break;
            }
            match shard.submit(Command::ReadUnusedGroups(names)).await? {
                Outcome::Groups(unused) => names = unused,
                _ => return Ok(Vec::new()),
            }
        }
        Ok(names)
    }

    /// Says whether it was forgotten: not when it was used or declared since it was asked about.
    async fn forget_group(&self, name: &GroupName) -> Result<bool, CatalogError> {
        let _one_at_a_time = self.inner.changing.lock().await;
        let is_forgotten = |entry: &Arc<GroupEntry>| !entry.is_declared && !entry.is_used();
        let Some(_) = self.group(name.as_str()).filter(is_forgotten) else { return Ok(false) };
        // Whoever wants it from now on waits for its end.
        self.write().remove_group(name);
        for shard in self.shards() {
            match shard.submit(Command::ForgetGroup(name.clone())).await {
                Ok(_) | Err(Refusal::GroupNotFound(_)) => {}
                Err(Refusal::GroupInUse(_)) => {
                    self.make_group(name).await?;
                    return Ok(false);
                }
                Err(refusal) => {
                    // Some shards may know it; the next start, or the next use, tells the others.
                    self.write().make_group(name);
                    return Err(refusal.into());
                }
            }
        }
        self.tell(CatalogChange::GroupDeleted(name.clone()));
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
