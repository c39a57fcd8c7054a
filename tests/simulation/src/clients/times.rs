//! Searches by time, and groups that are set to one.

use broker_engine::{Command, OffsetAt, ResetOffsets};
use broker_model::MessageType;

use super::{Clients, NewCall};
use crate::plan::{Plan, topic_name};
use crate::random::Random;
use crate::world::BEGIN_MS;

impl Clients {
    /// Asks for the offset at some time of the history, or sets a group to it.
    pub(super) fn ask_time(
        &mut self,
        plan: &Plan,
        random: &mut Random,
        now_ms: u64,
    ) -> Option<NewCall> {
        let time_ms = BEGIN_MS + random.below(now_ms.saturating_sub(BEGIN_MS) + 2_000);
        let at = OffsetAt::TimeMs(time_ms);
        if random.happens(700) {
            let topic = random.pick(&plan.topics)?;
            if topic.message_type == MessageType::Lite {
                return None;
            }
            let queue = u32::try_from(random.below(u64::from(topic.queues))).unwrap_or(0);
            return self.call(Command::QueryOffset { topic: topic.name.clone(), queue, at });
        }
        let group = random.pick(&plan.groups)?;
        let topic = topic_name(random.pick(&group.topics)?);
        let name = group.settings.name.clone();
        let request = ResetOffsets { group: name, topics: vec![topic], to: at, id: String::new() };
        self.call(Command::ResetOffsets(request))
    }
}
