//! Create, change or delete a consumer group on this shard.

use broker_model::{ConsumerGroup, GroupName};
use broker_store::Record;
use broker_store::record::NameKind;

use crate::command::Outcome;
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::refusal::Refusal;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn put_group(&mut self, group: ConsumerGroup, reply: R, effects: &mut Effects<R>) {
        self.append_group(group, effects);
        effects.on_commit.push((reply, Ok(Outcome::Done)));
    }

    /// Returns its number.
    pub(crate) fn append_group(&mut self, group: ConsumerGroup, effects: &mut Effects<R>) -> u32 {
        let known = self.state.group_numbers.get(&group.name).copied();
        let known = known.filter(|number| !self.deleting_groups.contains(number));
        let number = known.unwrap_or_else(|| {
            let number = self.state.next_group_number;
            // So many changes never come: each is a record of the log.
            self.state.next_group_number = number.saturating_add(1);
            number
        });
        effects.append(&Record::PutGroup { number, group: Box::new(group.clone()) });
        self.begin_declared(number, &group, effects);
        number
    }

    pub(crate) fn delete_group(&mut self, name: &GroupName, reply: R, effects: &mut Effects<R>) {
        match self.state.group_numbers.get(name) {
            Some(&number) => {
                effects.append(&Record::DeleteGroup { number });
                let (kind, name) = (NameKind::Group, name.to_string());
                effects.append(&Record::DeleteName { kind, name });
                self.deleting_groups.push(number);
                effects.on_commit.push((reply, Ok(Outcome::Done)));
            }
            None => effects.now.push((reply, Err(Refusal::GroupNotFound(name.clone())))),
        }
    }
}
