//! All brokers of a cluster as one, for the verbs whose answer is the whole: each is asked through the one that is reached,
//! and what they say is put together. A broker that does not answer fails the verb, because a part would look like the whole.

use std::collections::BTreeMap;

use broker_proto::admin::{
    ClusterMap, FindMessagesRequest, FindMessagesResponse, Group, GroupStatus,
    ListDeadLettersRequest, ListDeadLettersResponse, MessageType, QueuePlacement,
    RedriveDeadLettersRequest, RedriveDeadLettersResponse, ResetOffsetsRequest, Topic, TopicLag,
    TopicStatus, TraceMessageRequest, TraceMessageResponse,
};
use futures::future::try_join_all;

use super::admin::{Admin, AdminArguments};
use super::failure::Failure;

/// Separates the number of the broker from its own cursor.
const CURSOR_MARK: char = '@';

/// The brokers, at least one, and the map when there are more.
#[derive(Debug)]
pub(crate) struct Cluster {
    brokers: Vec<Admin>,
    map: Option<ClusterMap>,
}

impl Cluster {
    /// Connects to the one broker that the arguments name, or to all of the cluster that the broker at the address belongs to.
    pub(crate) async fn connect(arguments: &AdminArguments) -> Result<Self, Failure> {
        let mut reached = Admin::connect(arguments).await?;
        if reached.broker.is_some() {
            return Ok(Self { brokers: vec![reached], map: None });
        }
        match reached.cluster_map().await?.filter(|map| map.brokers.len() > 1) {
            None => Ok(Self { brokers: vec![reached], map: None }),
            Some(map) => {
                let mut ids: Vec<u32> = map.brokers.iter().map(|b| b.broker_id).collect();
                ids.sort_unstable();
                let brokers = ids.into_iter().map(|id| reached.other(id)).collect();
                Ok(Self { brokers, map: Some(map) })
            }
        }
    }

    async fn of_each<T>(
        &mut self,
        ask: impl AsyncFn(&mut Admin) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        let is_cluster = self.map.is_some();
        let answers = try_join_all(self.brokers.iter_mut().map(|broker| ask(broker))).await;
        answers.map_err(|failure| if is_cluster { with_hint(failure) } else { failure })
    }

    /// One after the other, so that a failure can say what was done before.
    async fn at_each<T>(
        &mut self,
        change: impl AsyncFn(&mut Admin) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        let mut done = Vec::new();
        let mut answers = Vec::new();
        for broker in &mut self.brokers {
            match change(broker).await {
                Ok(answer) => answers.push(answer),
                Err(failure) => return Err(after(failure, &done)),
            }
            done.extend(broker.broker);
        }
        Ok(answers)
    }

    /// Topics by name with their numbers; all when `names` is empty.
    pub(crate) async fn topics(
        &mut self,
        names: &[&str],
    ) -> Result<Vec<(Topic, Option<TopicStatus>)>, Failure> {
        let parts = self.of_each(async |broker| broker.topics(names).await).await?;
        Ok(merged_topics(parts.into_iter().flatten()))
    }

    /// Groups by name with their members and lag; all when `names` is empty.
    pub(crate) async fn groups(
        &mut self,
        names: &[&str],
    ) -> Result<Vec<(Group, GroupStatus)>, Failure> {
        let parts = self.of_each(async |broker| broker.groups(names).await).await?;
        Ok(merged_groups(parts.into_iter().flatten()))
    }

    /// Creates a topic, with its queues spread over all shards; refuses to change one that differs.
    pub(crate) async fn create_topic(&mut self, topic: Topic) -> Result<Topic, Failure> {
        let topic = match &self.map {
            Some(map) => Topic { placement: placement(&topic, map), ..topic },
            None => topic,
        };
        let answers = self.at_each(async |broker| broker.create_topic(topic.clone()).await).await?;
        Ok(answers.into_iter().find_map(|answer| answer.topic).unwrap_or(topic))
    }

    /// Creates a group; refuses to change one that differs.
    pub(crate) async fn create_group(&mut self, group: Group) -> Result<Group, Failure> {
        let answers = self.at_each(async |broker| broker.create_group(group.clone()).await).await?;
        Ok(answers.into_iter().find_map(|answer| answer.group).unwrap_or(group))
    }

    /// Lets a group be delivered to, or pauses it, where it is otherwise; refuses when somebody else changed it meanwhile.
    pub(crate) async fn consume(&mut self, name: &str, wanted: bool) -> Result<(), Failure> {
        let change = async |broker: &mut Admin| {
            let held = broker.groups(&[name]).await?.pop().map(|(group, _)| group);
            match held.filter(|held| held.consume.unwrap_or(true) != wanted) {
                Some(held) => {
                    broker.change_group(Group { consume: Some(wanted), ..held }).await.map(drop)
                }
                None => Ok(()),
            }
        };
        self.at_each(change).await.map(drop)
    }

    /// Sets the progress of a group; tells on how many topics at least.
    pub(crate) async fn reset_offsets(
        &mut self,
        request: ResetOffsetsRequest,
    ) -> Result<u32, Failure> {
        let topics =
            self.at_each(async |broker| broker.reset_offsets(request.clone()).await).await?;
        Ok(topics.into_iter().max().unwrap_or(0))
    }

    /// Deletes a topic; false when there was none.
    pub(crate) async fn delete_topic(&mut self, name: &str, force: bool) -> Result<bool, Failure> {
        let existed = self.at_each(async |broker| broker.delete_topic(name, force).await).await?;
        Ok(existed.contains(&true))
    }

    /// Deletes a group; false when there was none.
    pub(crate) async fn delete_group(&mut self, name: &str, force: bool) -> Result<bool, Failure> {
        let existed = self.at_each(async |broker| broker.delete_group(name, force).await).await?;
        Ok(existed.contains(&true))
    }

    /// Puts dead letters back, or takes them away, or only counts them, at one broker after the other.
    pub(crate) async fn end_dead_letters(
        &mut self,
        request: RedriveDeadLettersRequest,
        end: impl AsyncFn(
            &mut Admin,
            RedriveDeadLettersRequest,
        ) -> Result<RedriveDeadLettersResponse, Failure>,
    ) -> Result<RedriveDeadLettersResponse, Failure> {
        let mut sum = RedriveDeadLettersResponse::default();
        let wanted = request.messages_max;
        for broker in
            self.brokers.iter_mut().filter(|broker| is_at(&request, broker, self.map.as_ref()))
        {
            let left = u64::from(wanted).saturating_sub(sum.messages);
            // What the others have left is counted, and not touched any more.
            let is_done = wanted > 0 && left == 0;
            let request = RedriveDeadLettersRequest {
                messages_max: u32::try_from(left).unwrap_or(u32::MAX),
                dry_run: request.dry_run || is_done,
                ..request.clone()
            };
            let answer = end(broker, request).await?;
            if !is_done {
                sum.messages = sum.messages.saturating_add(answer.messages);
            }
            sum.left = sum.left.saturating_add(answer.left);
        }
        Ok(sum)
    }

    /// Some dead letters with their messages, of one broker after the other.
    pub(crate) async fn list_dead_letters(
        &mut self,
        request: ListDeadLettersRequest,
    ) -> Result<ListDeadLettersResponse, Failure> {
        let (at, cursor) = self.place(&request.cursor)?;
        let request = ListDeadLettersRequest { cursor, ..request };
        let mut answer = self.brokers[at].list_dead_letters(request).await?;
        answer.cursor = self.cursor_behind(at, answer.cursor);
        Ok(answer)
    }

    /// Stored messages, oldest first, of one broker after the other.
    pub(crate) async fn find_messages(
        &mut self,
        mut request: FindMessagesRequest,
    ) -> Result<FindMessagesResponse, Failure> {
        let mut found = FindMessagesResponse::default();
        let (begin_ms, mut asked) = (request.begin_ms, request.cursor);
        let wanted = request.messages_max as usize;
        loop {
            let (at, cursor) = self.place(&asked)?;
            // A cursor says where it goes on; at the next broker the search begins at the same time.
            request.begin_ms = if cursor.is_empty() { begin_ms } else { None };
            request.cursor = cursor;
            let left = wanted.saturating_sub(found.messages.len());
            request.messages_max = u32::try_from(left).unwrap_or(u32::MAX);
            let answer = self.brokers[at].find_messages(request.clone()).await?;
            let is_at_end = answer.cursor.is_empty();
            found.messages.extend(answer.messages);
            found.until_ms = answer.until_ms;
            found.cursor = self.cursor_behind(at, answer.cursor);
            found.complete = answer.complete && found.cursor.is_empty();
            if found.cursor.is_empty() || !is_at_end || found.messages.len() >= wanted {
                return Ok(found);
            }
            asked = found.cursor.clone();
        }
    }

    /// What became of a message, wherever copies of it are.
    pub(crate) async fn trace_message(
        &mut self,
        request: TraceMessageRequest,
    ) -> Result<TraceMessageResponse, Failure> {
        let parts =
            self.of_each(async |broker| broker.trace_message(request.clone()).await).await?;
        let mut whole = TraceMessageResponse { complete: true, ..TraceMessageResponse::default() };
        for part in parts {
            if !part.complete && (whole.complete || part.until_ms < whole.until_ms) {
                whole.until_ms = part.until_ms;
            }
            whole.complete &= part.complete;
            whole.traces.extend(part.traces);
        }
        Ok(whole)
    }

    /// The broker where a cursor goes on, and its own cursor.
    fn place(&self, cursor: &str) -> Result<(usize, String), Failure> {
        if self.map.is_none() || cursor.is_empty() {
            return Ok((0, cursor.to_owned()));
        }
        let parts = cursor.split_once(CURSOR_MARK);
        let place = parts.and_then(|(broker, rest)| {
            let id: u32 = broker.parse().ok()?;
            let at = self.brokers.iter().position(|broker| broker.broker == Some(id))?;
            Some((at, rest.to_owned()))
        });
        place.ok_or_else(|| {
            Failure::input(format!(
                "{cursor:?} is no cursor of this cluster; give one as it was told"
            ))
        })
    }

    /// The cursor that goes on where this broker ended, or at the next one.
    fn cursor_behind(&self, at: usize, cursor: String) -> String {
        let at = if cursor.is_empty() { at + 1 } else { at };
        match self.brokers.get(at).and_then(|broker| broker.broker).filter(|_| self.map.is_some()) {
            Some(id) => format!("{id}{CURSOR_MARK}{cursor}"),
            None => cursor,
        }
    }
}

/// Whether a request that is about one dead letter is for this broker.
fn is_at(request: &RedriveDeadLettersRequest, broker: &Admin, map: Option<&ClusterMap>) -> bool {
    let (Some(only), Some(map)) = (&request.only, map) else { return true };
    let shard = map.shards.iter().find(|shard| shard.name == only.shard);
    shard.is_some_and(|shard| broker.broker == Some(shard.leader_broker))
}

fn with_hint(failure: Failure) -> Failure {
    match failure {
        Failure::Runtime(text) => {
            Failure::Runtime(format!("{text}; --broker ID asks one of the others alone"))
        }
        other => other,
    }
}

fn after(failure: Failure, done: &[u32]) -> Failure {
    match failure {
        Failure::Runtime(text) if !done.is_empty() => {
            let done: Vec<_> = done.iter().map(u32::to_string).collect();
            Failure::Runtime(format!(
                "{text}; brokers {} have done it, call again for the rest",
                done.join(", ")
            ))
        }
        other => other,
    }
}

/// Queues on all shards, as many on each as can be; the queues of a PRIORITY topic are its levels, and stay together.
fn placement(topic: &Topic, map: &ClusterMap) -> Vec<QueuePlacement> {
    let mut shards: Vec<_> = map.shards.iter().map(|shard| (shard.id, &shard.name)).collect();
    shards.sort_unstable();
    if topic.r#type() == MessageType::Priority {
        shards.truncate(1);
    }
    let count = u32::try_from(shards.len()).unwrap_or(u32::MAX).max(1);
    let queues_on = |at: u32| topic.queues / count + u32::from(at < topic.queues % count);
    let placed = (0..)
        .zip(shards)
        .map(|(at, (_, name))| QueuePlacement { shard: name.clone(), queues: queues_on(at) });
    placed.filter(|placed| placed.queues > 0).collect()
}

/// The same topics of several brokers. Of a dead-letter topic every broker knows its own queues only.
fn merged_topics(
    parts: impl Iterator<Item = (Topic, Option<TopicStatus>)>,
) -> Vec<(Topic, Option<TopicStatus>)> {
    let mut merged: BTreeMap<String, (Topic, Option<TopicStatus>)> = BTreeMap::new();
    for (topic, status) in parts {
        let Some((whole, numbers)) = merged.get_mut(&topic.name) else {
            merged.insert(topic.name.clone(), (topic, status));
            continue;
        };
        for placed in topic.placement {
            if whole.placement.iter().all(|known| known.shard != placed.shard) {
                whole.queues = whole.queues.saturating_add(placed.queues);
                whole.placement.push(placed);
            }
        }
        let Some(status) = status else { continue };
        let numbers = numbers.get_or_insert_default();
        numbers.messages = numbers.messages.saturating_add(status.messages);
        numbers.bytes = numbers.bytes.saturating_add(status.bytes);
        numbers.groups.extend(status.groups);
        numbers.groups.sort_unstable();
        numbers.groups.dedup();
    }
    merged.into_values().collect()
}

/// The same groups of several brokers: a client of several of them is one member.
fn merged_groups(parts: impl Iterator<Item = (Group, GroupStatus)>) -> Vec<(Group, GroupStatus)> {
    let mut merged: BTreeMap<String, (Group, GroupStatus)> = BTreeMap::new();
    for (group, status) in parts {
        let Some((whole, numbers)) = merged.get_mut(&group.name) else {
            merged.insert(group.name.clone(), (group, status));
            continue;
        };
        whole.consume = Some(whole.consume.unwrap_or(true) && group.consume.unwrap_or(true));
        for member in status.members {
            if numbers.members.iter().all(|known| known.client_id != member.client_id) {
                numbers.members.push(member);
            }
        }
        numbers.assignments.extend(status.assignments);
        status.topics.into_iter().for_each(|lag| add_lag(&mut numbers.topics, lag));
    }
    merged.into_values().collect()
}

fn add_lag(lags: &mut Vec<TopicLag>, lag: TopicLag) {
    let Some(sum) = lags.iter_mut().find(|known| known.topic == lag.topic) else {
        return lags.push(lag);
    };
    sum.lag_messages = sum.lag_messages.saturating_add(lag.lag_messages);
    sum.inflight_messages = sum.inflight_messages.saturating_add(lag.inflight_messages);
    sum.ready_messages = sum.ready_messages.saturating_add(lag.ready_messages);
    sum.lag_ms = sum.lag_ms.max(lag.lag_ms);
    sum.dead_letters = sum.dead_letters.saturating_add(lag.dead_letters);
    sum.never_polled &= lag.never_polled;
    sum.estimated |= lag.estimated;
}

#[cfg(test)]
mod tests {
    use broker_proto::admin::{Member, Shard};

    use super::*;

    fn placed(shard: &str, queues: u32) -> QueuePlacement {
        QueuePlacement { shard: shard.into(), queues }
    }

    #[test]
    fn queues_are_spread_over_all_shards_and_levels_stay_together() {
        let shard = |id: u32| Shard { id, name: format!("shard-{id}"), ..Shard::default() };
        let map =
            ClusterMap { shards: vec![shard(10), shard(2), shard(0)], ..ClusterMap::default() };
        let topic = Topic { queues: 4, ..Topic::default() };
        let spread = placement(&topic, &map);
        assert_eq!(spread, [placed("shard-0", 2), placed("shard-2", 1), placed("shard-10", 1)]);
        let two = Topic { queues: 2, ..Topic::default() };
        assert_eq!(placement(&two, &map), [placed("shard-0", 1), placed("shard-2", 1)]);
        let levels = Topic { queues: 4, r#type: MessageType::Priority.into(), ..Topic::default() };
        assert_eq!(placement(&levels, &map), [placed("shard-0", 4)]);
    }

    #[test]
    fn the_numbers_of_a_topic_add_up_and_queues_that_only_one_knows_are_added() {
        let topic = |placement: Vec<QueuePlacement>| Topic {
            name: "orders".into(),
            queues: placement.iter().map(|placed| placed.queues).sum(),
            placement,
            ..Topic::default()
        };
        let numbers = |messages: u64, groups: &[&str]| TopicStatus {
            messages,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..TopicStatus::default()
        };
        let same = || topic(vec![placed("shard-0", 2), placed("shard-1", 2)]);
        let parts = [
            (same(), Some(numbers(3, &["b", "a"]))),
            (same(), None),
            (same(), Some(numbers(4, &["a", "c"]))),
        ];
        let merged = merged_topics(parts.into_iter());
        assert_eq!(merged, [(same(), Some(numbers(7, &["a", "b", "c"])))]);

        let own = [topic(vec![placed("shard-0", 1)]), topic(vec![placed("shard-1", 1)])];
        let merged = merged_topics(own.into_iter().map(|topic| (topic, None)));
        assert_eq!(merged[0].0, topic(vec![placed("shard-0", 1), placed("shard-1", 1)]));
    }

    #[test]
    fn the_lag_of_all_brokers_is_the_sum_and_a_client_of_two_is_one_member() {
        let lag = |messages: u64, age_ms: u64, never_polled: bool| TopicLag {
            topic: "orders".into(),
            lag_messages: messages,
            ready_messages: messages,
            lag_ms: age_ms,
            never_polled,
            ..TopicLag::default()
        };
        let part = |lags: Vec<TopicLag>, clients: &[&str]| {
            let member = |id: &&str| Member { client_id: (*id).into(), ..Member::default() };
            let group = Group { name: "billing".into(), ..Group::default() };
            let members = clients.iter().map(member).collect();
            (group, GroupStatus { members, topics: lags, ..GroupStatus::default() })
        };
        let parts = [
            part(vec![lag(10, 5, true)], &["a"]),
            part(vec![lag(20, 70, false)], &["b", "a"]),
            part(vec![], &[]),
        ];
        let merged = merged_groups(parts.into_iter());
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].1.topics, [lag(30, 70, false)]);
        let members: Vec<_> = merged[0].1.members.iter().map(|m| m.client_id.as_str()).collect();
        assert_eq!(members, ["a", "b"]);
    }
}
