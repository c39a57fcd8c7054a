//! Answers for whoever reads the log beside the engine: names for the numbers in records, and the place of a message
//! whose record does not say it. Changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use broker_model::{GroupName, TopicName};
use broker_store::record::Place;

use crate::clients::Clients;
use crate::command::Outcome;
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::refusal::Refusal;

/// What is to be named; all numbers are this shard's own.
#[derive(Debug, Clone, Default)]
pub struct NamesOf {
    /// Topics whose numbers are wanted.
    pub topics: Vec<TopicName>,
    /// Numbers of groups, or of consumers of broadcasting groups.
    pub groups: Vec<u32>,
    /// Numbers of clients.
    pub clients: Vec<u32>,
}

/// Names and numbers; what is gone is left out.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Numbers of topics.
    pub topics: HashMap<TopicName, u32>,
    /// Names of groups; with the client, when it is one consumer of a broadcasting group.
    pub groups: HashMap<u32, (GroupName, Option<Arc<str>>)>,
    /// Ids of clients.
    pub clients: HashMap<u32, Arc<str>>,
}

/// A message that stands in a queue by reference: a timed one that was due, a committed half message, a dead letter.
#[derive(Debug, Clone, Copy)]
pub struct FindPlace {
    /// Where it stands.
    pub queue: QueueNumber,
    /// Log position of the record with the message.
    pub position: u64,
    /// When it came to stand there, Unix time: the time of the frame that says so.
    pub since_ms: u64,
}

/// A queue, by numbers of this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueNumber {
    /// A queue of a topic.
    OfTopic {
        /// Number of the topic.
        topic: u32,
        /// Queue in this shard.
        queue: u32,
    },
    /// The dead letters of a group, or of one consumer of a broadcasting group.
    DeadLettersOf(u32),
}

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn read_names(&self, of: &NamesOf, reply: R, effects: &mut Effects<R>) {
        let state = &self.state;
        let topics = of.topics.iter().filter_map(|name| {
            let number = state.topic_numbers.get(name)?;
            Some((name.clone(), *number))
        });
        let groups = of.groups.iter().filter_map(|number| {
            let client = state.members.get(number).map(|member| member.client_id.clone());
            Some((*number, (state.group_of(*number)?.name.clone(), client)))
        });
        let names = Names {
            topics: topics.collect(),
            groups: groups.collect(),
            clients: state.clients.names(&of.clients),
        };
        effects.now.push((reply, Ok(Outcome::Names(Box::new(names)))));
    }

    /// The place has group 0: it is the message as the queue holds it.
    pub(crate) fn find_place(&self, find: FindPlace) -> Result<Outcome, Refusal> {
        Ok(Outcome::Place(self.place(find)))
    }

    fn place(&self, find: FindPlace) -> Option<Place> {
        let (topic, queue) = match find.queue {
            QueueNumber::OfTopic { topic, queue } => (topic, queue),
            QueueNumber::DeadLettersOf(group) => {
                let name = TopicName::dead_letter_of(&self.state.group_of(group)?.name);
                (*self.state.topic_numbers.get(&name)?, 0)
            }
        };
        let entries = self.state.topics.get(&topic)?.queues.get(queue as usize)?;
        // All that came at the same time stand together, and the index is in the order of time.
        let first = entries.offset_at(find.since_ms);
        let mut same_time = (first..entries.end())
            .map_while(|offset| entries.get(offset).map(|entry| (offset, entry)))
            .take_while(|(_, entry)| entry.stored_ms == find.since_ms);
        let found = same_time.find(|(_, entry)| entry.position == find.position);
        found.map(|(offset, _)| Place { group: 0, topic, queue, offset })
    }
}

impl Clients {
    fn names(&self, numbers: &[u32]) -> HashMap<u32, Arc<str>> {
        let wanted: HashSet<u32> = numbers.iter().copied().collect();
        self.by_number().filter(|(number, _)| wanted.contains(number)).collect()
    }
}
