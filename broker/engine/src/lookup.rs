//! Answers for whoever reads the log beside the engine: names for the numbers in records. Changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use broker_model::{GroupName, TopicName};

use crate::clients::Clients;
use crate::command::Outcome;
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;

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
}

impl Clients {
    fn names(&self, numbers: &[u32]) -> HashMap<u32, Arc<str>> {
        let wanted: HashSet<u32> = numbers.iter().copied().collect();
        self.by_number().filter(|(number, _)| wanted.contains(number)).collect()
    }
}
