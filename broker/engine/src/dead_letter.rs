//! Putting a message into the dead-letter topic of a group: a small record that points at the message, never a copy.

use broker_model::{DeadLetterPolicy, MessageType, QueuePlacement, Topic, TopicName};
use broker_store::Record;
use broker_store::record::Place;

use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn dead_letter(&mut self, place: Place, effects: &mut Effects<R>) {
        if let Some(group) = self.state.group_of(place.group) {
            if group.dead_letter == DeadLetterPolicy::Discard {
                return effects.append(&Record::Acknowledge(place));
            }
            let name = TopicName::dead_letter_of(&group.name);
            if !self.state.topic_numbers.contains_key(&name)
                && !self.reserved_topics.contains(&name)
            {
                self.create_dead_letter_topic(name, effects);
            }
        }
        effects.append(&Record::DeadLetter(place));
    }

    fn create_dead_letter_topic(&mut self, name: TopicName, effects: &mut Effects<R>) {
        let topic = Topic::with_defaults(
            name.clone(),
            MessageType::Normal,
            vec![QueuePlacement { shard: self.shard, queues: 1 }],
        );
        let number = self.take_topic_number();
        effects.append(&Record::PutTopic { number, topic: Box::new(topic) });
        self.reserved_topics.push(name);
    }

    pub(crate) fn take_topic_number(&mut self) -> u32 {
        let number = self.state.next_topic_number;
        self.state.next_topic_number += 1;
        number
    }
}
