//! Settings of groups that change while they consume.

use broker_engine::Command;
use broker_model::{Model, Order};

use super::{Clients, NewCall};
use crate::plan::Plan;
use crate::random::Random;

impl Clients {
    /// More or fewer attempts, in order or not, paused or not; whatever else was different before is as planned again.
    pub(super) fn change_settings(&mut self, plan: &Plan, random: &mut Random) -> Option<NewCall> {
        let group = random.pick(&plan.groups)?;
        let mut settings = group.settings.clone();
        if settings.name.as_str() == "undertaker" {
            return None;
        }
        match random.below(3) {
            0 => {
                let attempts_max = u32::try_from(random.between(1, 5)).unwrap_or(1);
                settings.retry.max_attempts = attempts_max;
            }
            1 if settings.model == Model::Clustering => {
                let is_in_order = settings.order == Order::Fifo;
                settings.order = if is_in_order { Order::Concurrent } else { Order::Fifo };
            }
            _ => settings.is_consuming = false,
        }
        self.call(Command::PutGroup(Box::new(settings)))
    }
}
