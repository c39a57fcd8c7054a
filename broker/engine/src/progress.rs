//! Answers about what is: progress of groups, numbers of topics. Changes nothing.

use broker_model::GroupName;

use crate::command::{GroupTopicProgress, Outcome, TopicNumbers};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::state::GroupTopic;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn read_progress(
        &self,
        group: Option<&GroupName>,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        let wanted = group.map(|name| self.state.group_numbers.get(name).copied().unwrap_or(0));
        let all = self.state.group_topics.iter().flatten();
        let owner = |reader: u32| self.state.members.get(&reader).map_or(reader, |m| m.group);
        let asked =
            all.filter(|progress| wanted.is_none_or(|number| number == owner(progress.group)));
        let progress = asked.filter_map(|progress| self.progress_of(progress)).collect();
        effects.now.push((reply, Ok(Outcome::Progress(progress))));
    }

    fn progress_of(&self, progress: &GroupTopic<R>) -> Option<GroupTopicProgress> {
        let group = self.state.group_of(progress.group)?;
        let topic = self.state.topics.get(&progress.topic)?;
        let queues = || progress.queues.iter().zip(&topic.queues);
        let oldest = queues().filter_map(|(state, queue)| queue.get(state.cursor()));
        Some(GroupTopicProgress {
            group: group.name.clone(),
            topic: topic.topic.name.clone(),
            lag_messages: queues().map(|(state, queue)| state.lag(queue.end())).sum(),
            inflight_messages: queues().map(|(state, _)| state.inflight()).sum(),
            oldest_ms: oldest.map(|entry| entry.stored_ms).min(),
            waiters: progress.waiters.len(),
        })
    }

    pub(crate) fn read_topics(&self, reply: R, effects: &mut Effects<R>) {
        let mut topics: Vec<_> = self.state.topics.iter().collect();
        topics.sort_unstable_by_key(|(number, _)| **number);
        let numbers = topics.into_iter().map(|(_, topic)| TopicNumbers {
            topic: topic.topic.name.clone(),
            messages: topic.queues.iter().map(crate::index::Queue::len).sum(),
            bytes: topic.queues.iter().map(crate::index::Queue::bytes).sum(),
        });
        effects.now.push((reply, Ok(Outcome::Topics(numbers.collect()))));
    }
}
