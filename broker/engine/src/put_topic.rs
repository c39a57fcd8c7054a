//! Create, change or delete a topic on this shard. Whether the change is allowed was decided for all shards before.

use broker_model::{MessageType, Topic, TopicName};
use broker_store::Record;
use broker_store::record::NameKind;

use crate::command::Outcome;
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn put_topic(&mut self, topic: Topic, reply: R, effects: &mut Effects<R>) {
        let known = self.state.topic_numbers.get(&topic.name).copied();
        let known = known.filter(|number| !self.deleting_topics.contains(number));
        let number = known.unwrap_or_else(|| self.take_topic_number());
        effects.append(&Record::PutTopic { number, topic: Box::new(topic.clone()) });
        if let Some(known) = self.state.topics.get_mut(&number)
            && topic.message_type == MessageType::Fifo
        {
            known.layouts.decide(topic.queues);
        }
        self.begin_subscribers(number, &topic, effects);
        effects.on_commit.push((reply, Ok(Outcome::Done)));
    }

    pub(crate) fn delete_topic(&mut self, name: &TopicName, reply: R, effects: &mut Effects<R>) {
        match self.topic_number(name) {
            Ok(number) => {
                effects.append(&Record::DeleteTopic { number });
                let (kind, name) = (NameKind::Topic, name.to_string());
                effects.append(&Record::DeleteName { kind, name });
                self.deleting_topics.push(number);
                effects.on_commit.push((reply, Ok(Outcome::Done)));
            }
            Err(refusal) => effects.now.push((reply, Err(refusal))),
        }
    }
}
