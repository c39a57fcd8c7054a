//! A client that makes handles up: of what others have, or of nothing at all, with numbers as large as they can be.

use broker_engine::{Acknowledge, ChangeInvisible, Command, ForwardToDeadLetter};
use broker_model::{ReceiptHandle, ShardId};

use super::{Clients, Held, NewCall};
use crate::plan::Plan;
use crate::random::Random;

impl Clients {
    /// Does something with a handle that nobody was given.
    pub(super) fn forge(&mut self, plan: &Plan, random: &mut Random) -> Option<NewCall> {
        let Held { group, topic, handle } = random.pick(&self.held)?.clone();
        let handle = forged(handle, random);
        let command = match random.below(3) {
            0 => Command::Acknowledge(Acknowledge { group, topic, handles: vec![handle] }),
            1 => {
                let invisible_ms = random.below(plan.invisible_ms_max);
                Command::ChangeInvisible(ChangeInvisible { group, topic, handle, invisible_ms })
            }
            _ => Command::ForwardToDeadLetter(ForwardToDeadLetter { group, topic, handle }),
        };
        self.call(command)
    }
}

fn forged(mut handle: ReceiptHandle, random: &mut Random) -> ReceiptHandle {
    match random.below(7) {
        // The right name of a delivery, and what does not belong to it.
        0 => handle.attempt = 1 << 31,
        1 => handle.attempt = u32::MAX,
        2 => handle.shard = ShardId(7),
        // Names that nobody was given.
        kind => {
            handle.nonce ^= 1 << random.below(32);
            match kind {
                3 => handle.offset = u64::MAX - random.below(2),
                4 => handle.queue = u32::MAX,
                5 => handle.offset += random.below(5),
                _ => {}
            }
        }
    }
    handle
}
