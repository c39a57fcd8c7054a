//! Numbers for clients, so that a lease names who got its messages in four bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use broker_store::Record;

use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;

/// Clients remembered; older ones are forgotten, and named again under a new number when they come back.
const CLIENTS_REMEMBERED_MAX: usize = 65_536;

/// Numbers and names, both ways.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    numbers: HashMap<Arc<str>, u32>,
    by_age: VecDeque<(u32, Arc<str>)>,
    next_number: u32,
}

impl Clients {
    /// Numbers and ids of all that are remembered, in no order that means anything.
    pub(crate) fn by_number(&self) -> impl Iterator<Item = (u32, Arc<str>)> + '_ {
        self.by_age.iter().map(|(number, id)| (*number, Arc::clone(id)))
    }

    /// The last number given.
    pub(crate) fn last_number(&self) -> u32 {
        self.next_number
    }

    pub(crate) fn set_last_number(&mut self, number: u32) {
        self.next_number = self.next_number.max(number);
    }

    fn insert(&mut self, number: u32, id: &str) {
        if self.numbers.get(id) == Some(&number) {
            return;
        }
        let id: Arc<str> = id.into();
        self.next_number = self.next_number.max(number);
        self.numbers.insert(id.clone(), number);
        self.by_age.push_back((number, id));
        if self.by_age.len() > CLIENTS_REMEMBERED_MAX
            && let Some((number, id)) = self.by_age.pop_front()
            && self.numbers.get(&id) == Some(&number)
        {
            self.numbers.remove(&id);
        }
    }
}

impl<R: ReplyTo> Engine<R> {
    /// The number of a client, given on first use; 0 for one without an id.
    pub(crate) fn client_number(&mut self, id: &str, effects: &mut Effects<R>) -> u32 {
        if id.is_empty() {
            return 0;
        }
        if let Some(&number) = self.state.clients.numbers.get(id) {
            return number;
        }
        let number = self.state.clients.next_number.saturating_add(1);
        self.state.clients.insert(number, id);
        effects.append(&Record::Client { number, id: id.to_owned() });
        number
    }

    pub(crate) fn apply_client(&mut self, number: u32, id: &str) {
        self.state.clients.insert(number, id);
    }
}
