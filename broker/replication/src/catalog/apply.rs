//! Changing the catalog: check, decide, log on every shard, then show it.

use std::sync::Arc;

use broker_engine::{Command, Refusal};
use broker_model::limits::{GROUPS_MAX, TOPICS_MAX};
use broker_model::{
    ConsumerGroup, GroupName, MessageType, Owner, ShardId, Topic, TopicName, message_group_hash,
};

use super::{ApplyOptions, Catalog, CatalogChange, CatalogError, GroupEntry, TopicEntry};

/// The instance name under which the command line declares: it owns nothing.
const NOT_AN_OWNER: &str = "cli";

impl Catalog {
    /// Creates a topic or changes it to these settings; says whether anything changed. Without a placement the queues
    /// are spread over the shards of this broker.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn apply_topic(
        &self,
        mut topic: Topic,
        options: ApplyOptions,
    ) -> Result<(Arc<TopicEntry>, bool), CatalogError> {
        let _one_at_a_time = self.inner.changing.lock().await;
        let known = self.topic(topic.name.as_str());
        check_version(known.as_ref().map(|entry| entry.version), options)?;
        topic.owner = topic.owner.filter(|owner| owner.instance != NOT_AN_OWNER);
        let known_owner = known.as_ref().and_then(|entry| entry.topic.owner.as_ref());
        if topic.placement.is_empty() {
            topic.placement = self.place(&topic, known.as_deref());
        }
        if let Some(entry) = &known {
            topic.first_queues = entry.topic.first_queues_of_next(topic.queues);
            if entry.topic.is_placed_as(&topic) {
                // The queue of a message group follows from the order of the shards.
                topic.placement.clone_from(&entry.topic.placement);
            }
        }
        topic.validate().map_err(|error| CatalogError::Illegal(error.to_string()))?;
        if let Some(entry) = &known {
            let same = Topic { owner: entry.topic.owner.clone(), ..topic.clone() };
            let same = same == entry.topic;
            topic.owner = next_owner(known_owner, topic.owner, same, options)?;
            if same && topic.owner == entry.topic.owner {
                return Ok((entry.clone(), false));
            }
            check_topic_change(&entry.topic, &topic, same, options)?;
        } else {
            check_new_topic(&topic)?;
            self.check_room("topics", self.read().topics.len(), TOPICS_MAX)?;
        }
        self.check_writable()?;
        let is_more = |entry: &Arc<TopicEntry>| entry.topic.queues < topic.queues;
        if topic.first_queues.is_some() && known.as_ref().is_some_and(is_more) {
            self.grow(&topic).await?;
        } else {
            for shard in self.shards() {
                shard.submit(Command::PutTopic(Box::new(topic.clone()))).await?;
            }
        }
        let entry = self.write().put_topic(topic);
        self.tell(CatalogChange::Topic(entry.clone()));
        Ok((entry, true))
    }

    /// Deletes a topic and all its messages; says whether it existed.
    ///
    /// # Errors
    /// [`CatalogError::OwnedByAnother`] unless forced.
    pub async fn delete_topic(
        &self,
        name: &TopicName,
        owner: Option<&Owner>,
        force: bool,
    ) -> Result<bool, CatalogError> {
        let _one_at_a_time = self.inner.changing.lock().await;
        let Some(entry) = self.topic(name.as_str()) else { return Ok(false) };
        check_owner(entry.topic.owner.as_ref(), owner, force)?;
        self.check_writable()?;
        for shard in self.shards() {
            let deleted = shard.submit(Command::DeleteTopic(name.clone())).await;
            ignore_missing(deleted)?;
        }
        let mut state = self.write();
        state.topics.remove(name);
        state.version += 1;
        drop(state);
        self.tell(CatalogChange::TopicDeleted(name.clone()));
        Ok(true)
    }

    /// Creates a group or changes it to these settings; says whether anything changed.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn apply_group(
        &self,
        mut group: ConsumerGroup,
        options: ApplyOptions,
    ) -> Result<(Arc<GroupEntry>, bool), CatalogError> {
        let _one_at_a_time = self.inner.changing.lock().await;
        let known = self.group(group.name.as_str());
        check_version(known.as_ref().map(|entry| entry.version), options)?;
        group.validate().map_err(|error| CatalogError::Illegal(error.to_string()))?;
        group.owner = group.owner.filter(|owner| owner.instance != NOT_AN_OWNER);
        if let Some(entry) = &known {
            let same = ConsumerGroup { owner: entry.group.owner.clone(), ..group.clone() };
            let same = same == entry.group;
            group.owner = next_owner(entry.group.owner.as_ref(), group.owner, same, options)?;
            if same && group.owner == entry.group.owner && entry.is_declared {
                return Ok((entry.clone(), false));
            }
            let legal = entry.group.check_change(&group);
            legal.map_err(|error| CatalogError::Differs(error.to_string()))?;
            if options.create_only && !same {
                return Err(CatalogError::Differs(group_difference(&entry.group, &group)));
            }
        } else {
            self.check_room("consumer groups", self.read().groups.len(), GROUPS_MAX)?;
        }
        self.check_writable()?;
        self.log_group(group).await
    }

    /// Deletes a group and its progress; says whether it existed.
    ///
    /// # Errors
    /// [`CatalogError::OwnedByAnother`] unless forced.
    pub async fn delete_group(
        &self,
        name: &GroupName,
        owner: Option<&Owner>,
        force: bool,
    ) -> Result<bool, CatalogError> {
        let _one_at_a_time = self.inner.changing.lock().await;
        let Some(entry) = self.group(name.as_str()) else { return Ok(false) };
        check_owner(entry.group.owner.as_ref(), owner, force)?;
        self.check_writable()?;
        for shard in self.shards() {
            let deleted = shard.submit(Command::DeleteGroup(name.clone())).await;
            ignore_missing(deleted)?;
        }
        let mut state = self.write();
        state.remove_group(name);
        state.deleted_groups.insert(name.clone());
        drop(state);
        self.tell(CatalogChange::GroupDeleted(name.clone()));
        Ok(true)
    }

    /// What is declared must be kept by every shard, or by none.
    pub(super) fn check_writable(&self) -> Result<(), CatalogError> {
        match self.shards().iter().find_map(|shard| shard.damage()) {
            Some(damage) => Err(Refusal::ReadOnly(damage.to_string()).into()),
            None => Ok(()),
        }
    }

    async fn log_group(
        &self,
        group: ConsumerGroup,
    ) -> Result<(Arc<GroupEntry>, bool), CatalogError> {
        for shard in self.shards() {
            shard.submit(Command::PutGroup(Box::new(group.clone()))).await?;
        }
        let entry = self.write().put_group(group, true);
        self.tell(CatalogChange::Group(entry.clone()));
        Ok((entry, true))
    }

    fn check_room(&self, what: &str, count: usize, max: usize) -> Result<(), CatalogError> {
        if count >= max {
            return Err(CatalogError::Limit(format!(
                "the broker holds {max} {what}, its limit; delete some first"
            )));
        }
        Ok(())
    }

    /// Keeps queues where they are and adds new ones where there are fewest.
    fn place(
        &self,
        topic: &Topic,
        known: Option<&TopicEntry>,
    ) -> Vec<broker_model::QueuePlacement> {
        let mut shards: Vec<ShardId> = self.shards().iter().map(super::ShardHandle::id).collect();
        if topic.message_type == MessageType::Priority && !shards.is_empty() {
            // Its queues are its levels, and only one owner can keep their order.
            let home = known.and_then(|entry| entry.topic.placement.first()).map(|p| p.shard);
            let turn = message_group_hash(Some(topic.name.as_str())) % shards.len() as u64;
            let turn = usize::try_from(turn).unwrap_or(0);
            shards = vec![home.unwrap_or_else(|| shards[turn])];
        }
        let Some(known) = known.filter(|entry| entry.topic.queues <= topic.queues) else {
            return Topic::spread(topic.queues, &shards);
        };
        let mut placement = known.topic.placement.clone();
        if topic.message_type == MessageType::Lite {
            // The shard of a lite topic follows from those that the topic is on.
            shards.clear();
        }
        for shard in shards {
            if !placement.iter().any(|p| p.shard == shard) {
                placement.push(broker_model::QueuePlacement { shard, queues: 0 });
            }
        }
        for _ in known.topic.queues..topic.queues {
            if let Some(fewest) = placement.iter_mut().min_by_key(|p| p.queues) {
                fewest.queues += 1;
            }
        }
        placement.retain(|p| p.queues > 0);
        placement
    }
}

fn check_version(have: Option<u64>, options: ApplyOptions) -> Result<(), CatalogError> {
    match options.if_version {
        Some(wanted) if wanted != have.unwrap_or(0) => {
            Err(CatalogError::WrongVersion { have: have.unwrap_or(0), wanted })
        }
        _ => Ok(()),
    }
}

fn check_owner(
    known: Option<&Owner>,
    owner: Option<&Owner>,
    force: bool,
) -> Result<(), CatalogError> {
    match known {
        Some(known) if !force && !owner.is_some_and(|owner| owner.is_same_object(known)) => {
            Err(CatalogError::OwnedByAnother(known.clone()))
        }
        _ => Ok(()),
    }
}

/// Who owns it after the change.
fn next_owner(
    known: Option<&Owner>,
    wanted: Option<Owner>,
    is_same: bool,
    options: ApplyOptions,
) -> Result<Option<Owner>, CatalogError> {
    match (known, wanted) {
        (Some(known), Some(wanted)) if wanted.is_same_object(known) || options.take_ownership => {
            Ok(Some(wanted))
        }
        (Some(known), Some(_)) => Err(CatalogError::OwnedByAnother(known.clone())),
        // Let go of, by its owner or with force.
        (Some(_), None) if options.take_ownership => Ok(None),
        // Without an owner of one's own one may say again what is so, but change nothing that is owned.
        (Some(known), None) if is_same => Ok(Some(known.clone())),
        (Some(known), None) => Err(CatalogError::OwnedByAnother(known.clone())),
        (None, wanted) => Ok(wanted),
    }
}

fn check_new_topic(topic: &Topic) -> Result<(), CatalogError> {
    TopicName::parse_declared(topic.name.as_str())
        .map_err(|error| CatalogError::Illegal(error.to_string()))?;
    Ok(())
}

fn check_topic_change(
    known: &Topic,
    topic: &Topic,
    is_same: bool,
    options: ApplyOptions,
) -> Result<(), CatalogError> {
    known.check_change(topic).map_err(|error| CatalogError::Differs(error.to_string()))?;
    if options.create_only && !is_same {
        return Err(CatalogError::Differs(topic_difference(known, topic)));
    }
    Ok(())
}

fn topic_difference(known: &Topic, topic: &Topic) -> String {
    let what = if known.queues != topic.queues {
        format!("{} queues, not {}", known.queues, topic.queues)
    } else {
        "other settings".to_owned()
    };
    format!("topic {} exists with {what}; to change it, leave create-only out", topic.name)
}

fn group_difference(known: &ConsumerGroup, group: &ConsumerGroup) -> String {
    let what = if known.retry.max_attempts != group.retry.max_attempts {
        format!("{} attempts, not {}", known.retry.max_attempts, group.retry.max_attempts)
    } else {
        "other settings".to_owned()
    };
    format!("consumer group {} exists with {what}; to change it, leave create-only out", group.name)
}

fn ignore_missing(reply: broker_engine::Reply) -> Result<(), CatalogError> {
    use broker_engine::Refusal::{GroupNotFound, TopicNotFound};
    match reply {
        Ok(_) | Err(TopicNotFound(_) | GroupNotFound(_)) => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}

#[cfg(test)]
mod tests;
