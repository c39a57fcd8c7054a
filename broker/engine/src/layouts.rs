//! The layouts of a FIFO topic that grows. A message group is found in a queue by the number of queues, so that after each
//! growth most message groups go elsewhere. What was sent before must be done first, on whatever shard it is:
//!
//! - A shard that has a new layout takes sends by no other, and none by this one before all shards are known to have it.
//! - It notes where in each of its queues the layout begins, and gives a group nothing from there on before the group is
//!   known to be behind all that was sent earlier, on every shard.
//!
//! Who asks the shards, and tells them, is outside of here.

use broker_model::{GroupName, TopicName};
use broker_store::Record;

use crate::command::{HeldGroup, LayoutCommand, Outcome, PassLayout, ProgressPlace};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::index::Queue;
use crate::state::{GroupTopic, TopicState};

/// Groups and topics that one step looks at.
const SLOTS_PER_PART: usize = 1_024;

/// A layout is named by the number of queues over all shards, which only grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) queues: u32,
    /// Where it begins in the queues that were here before; in all others with their first message.
    pub(crate) starts: Vec<u64>,
}

/// Those of one topic, without the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layouts {
    /// Ascending.
    grown: Vec<Layout>,
    /// Not every shard is known to have the newest.
    is_closed: bool,
    /// Decided, and not committed: sends by an earlier one are refused.
    decided: u32,
}

impl Layouts {
    /// The topic has grown to so many queues, and these are where its queues end; has no effect on what has grown further.
    pub(crate) fn grow(&mut self, queues: u32, starts: Vec<u64>) {
        if self.grown.last().is_none_or(|newest| newest.queues < queues) {
            self.grown.push(Layout { queues, starts });
            self.is_closed = true;
        }
    }

    pub(crate) fn decide(&mut self, queues: u32) {
        self.decided = self.decided.max(queues);
    }

    pub(crate) fn open(&mut self, queues: u32) {
        if self.grown.last().is_some_and(|newest| newest.queues == queues) {
            self.is_closed = false;
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether a send by this layout of a topic of so many queues may be taken.
    fn takes(&self, layout: u32, queues: u32) -> bool {
        let newest = self.grown.last().map_or(0, |newest| newest.queues).max(self.decided);
        layout == queues && layout >= newest && !self.is_closed
    }

    /// The first layout that a group which has passed `passed` may have no messages of.
    fn held(&self, passed: u32) -> Option<&Layout> {
        self.grown.iter().find(|layout| layout.queues > passed)
    }

    /// Where the layout begins in a queue; at its first message when the shard knows none so late.
    fn start_of(&self, layout: u32, queue: usize) -> u64 {
        let layout = self.grown.iter().find(|known| known.queues >= layout);
        layout.and_then(|layout| layout.starts.get(queue)).copied().unwrap_or(0)
    }

    pub(crate) fn all(&self) -> &[Layout] {
        &self.grown
    }

    /// Takes in one that was stored, in the place of what is known of it.
    pub(crate) fn load(&mut self, layout: Layout, is_closed: bool) {
        self.grown.retain(|known| known.queues != layout.queues);
        self.grown.push(layout);
        self.grown.sort_unstable_by_key(|known| known.queues);
        self.is_closed = is_closed;
    }
}

impl<R> TopicState<R> {
    /// Where the messages end that a group may have of a queue.
    pub(crate) fn end_for(&self, progress: &GroupTopic<R>, is_in_order: bool, queue: usize) -> u64 {
        let end = self.queues.get(queue).map_or(0, Queue::end);
        let held = self.layouts.held(progress.passed_layout).filter(|_| is_in_order);
        held.map_or(end, |held| end.min(held.starts.get(queue).copied().unwrap_or(0)))
    }

    /// Whether a send by this layout may be taken.
    pub(crate) fn takes_layout(&self, layout: u32) -> bool {
        self.layouts.takes(layout, self.topic.queues)
    }
}

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn layout(&mut self, command: LayoutCommand, reply: R, effects: &mut Effects<R>) {
        match command {
            LayoutCommand::Open { topic, layout } => {
                self.open_layout((&topic, layout), reply, effects);
            }
            LayoutCommand::Pass(request) => self.pass_layout(&request, reply, effects),
            LayoutCommand::ReadPassed { group, topic, layout } => {
                self.read_passed((group.as_ref(), &topic, layout), reply, effects);
            }
            LayoutCommand::ReadHeld(from) => self.read_held(from, reply, effects),
        }
    }

    fn open_layout(
        &mut self,
        (topic, queues): (&TopicName, u32),
        reply: R,
        effects: &mut Effects<R>,
    ) {
        let number = match self.topic_number(topic) {
            Ok(number) => number,
            Err(refusal) => return effects.now.push((reply, Err(refusal))),
        };
        effects.append(&Record::OpenLayout { topic: number, queues });
        effects.on_commit.push((reply, Ok(Outcome::Done)));
    }

    /// Has no effect when the progress was set anew since the group was found to be so far.
    fn pass_layout(&mut self, request: &PassLayout, reply: R, effects: &mut Effects<R>) {
        if let Some((group, topic)) = self.numbers_of(&request.group, &request.topic)
            && let Some(index) = self.state.group_topic_indexes.get(&(group, topic))
            && let Some(progress) = self.state.group_topic(*index)
            && progress.cursors_pending == 0
            && progress.cursors_set == request.as_of
        {
            effects.append(&Record::PassLayout { group, topic, queues: request.layout });
        }
        effects.on_commit.push((reply, Ok(Outcome::Done)));
    }

    /// Whether the shard has a layout, and a group has done here what was sent before it. Answered when all that it has done so far is committed.
    fn read_passed(
        &mut self,
        (group, topic, layout): (Option<&GroupName>, &TopicName, u32),
        reply: R,
        effects: &mut Effects<R>,
    ) {
        let number = self.state.topic_numbers.get(topic).copied();
        let known = number.and_then(|number| self.state.topics.get(&number));
        let has_passed = known.is_some_and(|known| known.topic.queues >= layout)
            && group.is_none_or(|group| self.has_passed(group, topic, layout));
        effects.on_commit.push((reply, Ok(Outcome::Passed(has_passed))));
    }

    fn has_passed(&self, group: &GroupName, topic: &TopicName, layout: u32) -> bool {
        let Some((group, number)) = self.numbers_of(group, topic) else { return false };
        let Some(topic) = self.state.topics.get(&number) else { return false };
        let starts = (0..topic.queues.len()).map(|queue| topic.layouts.start_of(layout, queue));
        let index = self.state.group_topic_indexes.get(&(group, number));
        let Some(progress) = index.and_then(|index| self.state.group_topic(*index)) else {
            // What retention took before it came is owed to it no more.
            return topic.queues.iter().zip(starts).all(|(queue, start)| queue.base() >= start);
        };
        progress.cursors_pending == 0
            && progress.ends_behind.is_empty()
            && starts.zip(&progress.queues).all(|(start, queue)| queue.cursor() >= start)
    }

    fn numbers_of(&self, group: &GroupName, topic: &TopicName) -> Option<(u32, u32)> {
        let group = self.state.group_numbers.get(group)?;
        Some((*group, *self.state.topic_numbers.get(topic)?))
    }

    /// Topics that are closed, and groups that are held back, a part at a time.
    fn read_held(&self, from: ProgressPlace, reply: R, effects: &mut Effects<R>) {
        let closed = self.state.topics.values().filter(|topic| topic.layouts.is_closed());
        let mut closed: Vec<_> =
            closed.map(|topic| (topic.topic.name.clone(), topic.topic.queues)).collect();
        closed.sort_unstable();
        let (mut held, mut next) = (Vec::new(), None);
        let places = self.state.group_topic_indexes.range((from.reader, from.topic)..);
        for (slots, (&(reader, topic), index)) in places.enumerate() {
            if slots >= SLOTS_PER_PART {
                next = Some(ProgressPlace { reader, topic });
                break;
            }
            held.extend(
                self.state.group_topic(*index).and_then(|progress| self.held_group(progress)),
            );
        }
        effects.now.push((reply, Ok(Outcome::Held { closed, held, next })));
    }

    fn held_group(&self, progress: &GroupTopic<R>) -> Option<HeldGroup> {
        let topic = self.state.topics.get(&progress.topic)?;
        let layout = topic.layouts.held(progress.passed_layout)?;
        if !self.state.is_in_order(progress) {
            return None;
        }
        Some(HeldGroup {
            group: self.state.group_of(progress.group)?.name.clone(),
            topic: topic.topic.name.clone(),
            layout: layout.queues,
            as_of: progress.cursors_set,
        })
    }

    pub(crate) fn apply_open_layout(&mut self, topic: u32, queues: u32) {
        if let Some(topic) = self.state.topics.get_mut(&topic) {
            topic.layouts.open(queues);
        }
    }

    pub(crate) fn apply_pass_layout(&mut self, group: u32, topic: u32, queues: u32) {
        let Some(&index) = self.state.group_topic_indexes.get(&(group, topic)) else { return };
        let Some(progress) = self.state.group_topic_mut(index) else { return };
        progress.passed_layout = progress.passed_layout.max(queues);
        self.wake(index, crate::serve::ANY_QUEUE);
    }
}
