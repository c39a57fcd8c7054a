//! Putting a message into the dead-letter topic of a group: a small record that points at the message, never a copy.

use broker_model::{DeadLetterPolicy, MessageType, QueuePlacement, Topic, TopicName};
use broker_store::record::{DeadLetterReference, Death, Place, Reference};
use broker_store::{IndexEntry, Record};

use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;

impl<R: ReplyTo> Engine<R> {
    /// Whether a group reads its own dead letters. What fails there is a dead letter already: it comes again, and no other
    /// one is made of it.
    pub(crate) fn reads_own_dead_letters(&self, group: u32, topic: u32) -> bool {
        let group = self.state.group_of(group);
        let topic = self.state.topics.get(&topic).map(|state| &state.topic.name);
        topic.filter(|name| name.is_dead_letter()).is_some_and(|name| {
            group.is_some_and(|group| *name == TopicName::dead_letter_of(&group.name))
        })
    }

    pub(crate) fn dead_letter(&mut self, place: Place, death: Death, effects: &mut Effects<R>) {
        if self.reads_own_dead_letters(place.group, place.topic) {
            // Who gives up on it here is done with it; it is kept, and can be put back.
            return effects.append(&Record::Acknowledge(place));
        }
        let topic = self.state.topics.get(&place.topic);
        let queue = topic.and_then(|topic| topic.queues.get(place.queue as usize));
        let message = queue.and_then(|queue| queue.get(place.offset));
        let group = self.state.group_of(place.group);
        let group = group.filter(|group| group.dead_letter == DeadLetterPolicy::Store);
        let name = group.map(|group| TopicName::dead_letter_of(&group.name));
        // What retention took away cannot be kept either.
        let (Some(name), Some(message)) = (name, message) else {
            return effects.append(&Record::Acknowledge(place));
        };
        let known = self.state.topic_numbers.get(&name).copied();
        let stands = match known {
            // It goes first and comes back empty: where in it the message stands is known then.
            Some(number) if self.deleting_topics.contains(&number) => {
                self.append_dead_letter_topic(name, effects);
                None
            }
            Some(number) => Some(number),
            None => {
                let (number, topic) = self.append_dead_letter_topic(name, effects);
                // Known at once, so that it has offsets to give; committing it again changes nothing.
                self.apply_put_topic(number, topic);
                Some(number)
            }
        };
        let stands = stands.map(|number| self.reference_in(number, place, message, death));
        effects.append(&Record::DeadLetter { place, stands });
    }

    fn reference_in(
        &mut self,
        dead_letters: u32,
        place: Place,
        message: IndexEntry,
        death: Death,
    ) -> DeadLetterReference {
        let reference = Reference {
            topic: dead_letters,
            queue: 0,
            offset: self.take_offset(dead_letters, 0),
            position: message.position,
            length_bytes: message.length_bytes,
            tag_hash: message.tag_hash,
        };
        let origin_topic = message.origin_or(place.topic);
        DeadLetterReference { reference, origin_topic, death: Some(death) }
    }

    fn append_dead_letter_topic(
        &mut self,
        name: TopicName,
        effects: &mut Effects<R>,
    ) -> (u32, Topic) {
        let placement = vec![QueuePlacement { shard: self.shard, queues: 1 }];
        let topic = Topic::with_defaults(name, MessageType::Normal, placement);
        let number = self.take_topic_number();
        effects.append(&Record::PutTopic { number, topic: Box::new(topic.clone()) });
        (number, topic)
    }

    pub(crate) fn take_topic_number(&mut self) -> u32 {
        let number = self.state.next_topic_number;
        // So many topics never come: each is a record of the log.
        self.state.next_topic_number = self.state.next_topic_number.saturating_add(1);
        number
    }
}
