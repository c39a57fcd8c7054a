//! What the engine knows of a message whose record is not in memory, for whoever reads it: a reference to a message is
//! followed to where the message was stored.

use broker_store::{IndexEntry, MessageIdentity, Stored};

use crate::effects::ReplyTo;
use crate::engine::Engine;

impl<R: ReplyTo> Engine<R> {
    /// What the record says of a message that stands at this topic, queue and offset.
    pub(crate) fn identity_of(
        &self,
        place: (u32, u32, u64),
        entry: &IndexEntry,
    ) -> MessageIdentity {
        let (mut topic, mut queue, mut offset) = place;
        let tag_hash = entry.tag_hash;
        // A dead letter points at a message of its topic of origin, or at another dead letter.
        while entry.origin != 0 && topic != entry.origin {
            let queues = self.state.topics.get(&topic).map(|topic| &topic.queues);
            let origin = queues.and_then(|queues| queues.get(queue as usize)?.origin(offset));
            let Some(origin) = origin else {
                return MessageIdentity { topic: entry.origin, tag_hash, stored: Stored::Unknown };
            };
            (topic, queue, offset) = (origin.topic, origin.queue, origin.offset);
        }
        MessageIdentity { topic, tag_hash, stored: Stored::At { queue, offset } }
    }
}
