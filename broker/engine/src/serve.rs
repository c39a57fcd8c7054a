//! Serving polls that wait: only those are asked that may get something of the queues that have something new, and what takes
//! long to look through is looked through step by step.

use broker_store::Log;

use crate::command::{Outcome, Receive};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::limits::limits;
use crate::state::{GroupTopic, TopicState};

/// Stands for all queues of a topic among those that have something new.
pub(crate) const ANY_QUEUE: u32 = u32::MAX;

impl<R: ReplyTo> Engine<R> {
    /// A step of the shard begins: polls may look at as many messages again as one step allows, and so much work may be done.
    pub fn begin_step(&mut self, work: u32) {
        self.looks = limits().looked_at_per_step;
        self.work = work;
    }

    /// Polls that come before the next step may look as well.
    pub fn end_step(&mut self) {
        self.looks = limits().looked_at_per_step;
    }

    /// Whether [`Engine::serve_waiters`] has something to do at once.
    #[must_use]
    pub fn has_polls_to_serve(&self) -> bool {
        !(self.dirty.is_empty() && self.dirty_topics.is_empty() && self.looking.is_empty())
    }

    /// A queue may have something for polls that wait.
    pub(crate) fn wake(&mut self, index: usize, queue: u32) {
        if self.state.group_topic(index).is_some_and(|progress| !progress.waiters.is_empty()) {
            self.dirty.push((index, queue));
        }
    }

    /// Gives waiting polls what has become ready since the last call.
    pub fn serve_waiters(&mut self, now_ms: u64, log: &Log, effects: &mut Effects<R>) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for of_one in dirty.chunk_by(|(one, _), (other, _)| one == other) {
            let index = of_one[0].0;
            let mut queues = of_one.iter().map(|(_, queue)| *queue as usize).collect();
            // It is the last one in their order.
            if of_one.last().is_some_and(|(_, queue)| *queue == ANY_QUEUE) {
                queues = self.all_queues(index);
            }
            self.serve_queues(now_ms, index, &queues, log, effects);
        }
        self.look_on(now_ms, log, effects);
        for topic in std::mem::take(&mut self.dirty_topics) {
            self.serve_pulls(topic, None, log, effects);
        }
    }

    fn all_queues(&self, index: usize) -> Vec<usize> {
        let count = self.state.group_topic(index).map_or(0, |progress| progress.queues.len());
        (0..count).collect()
    }

    /// Lets the lines that have not looked at everything go on, beginning at another one each time.
    fn look_on(&mut self, now_ms: u64, log: &Log, effects: &mut Effects<R>) {
        let from = self.looking_from;
        let looking: Vec<usize> =
            self.looking.range(from..).chain(self.looking.range(..from)).copied().collect();
        let share = u32::try_from(looking.len().max(1))
            .map_or(0, |lines| self.looks.checked_div(lines).unwrap_or(0));
        let looks_max = share.max(limits().looked_at_per_turn);
        for index in looking {
            if self.looks == 0 {
                self.looking_from = index;
                return;
            }
            self.looking.remove(&index);
            let count = self.state.group_topic(index).map_or(0, |p| p.waiters.lines().len());
            for line in 0..count {
                let progress = self.state.group_topic(index);
                if progress.is_some_and(|p| p.waiters.lines()[line].is_looking) {
                    self.serve_line(now_ms, (index, line), None, looks_max, log, effects);
                }
            }
            self.forget_empty_lines(index);
        }
    }

    fn serve_queues(
        &mut self,
        now_ms: u64,
        index: usize,
        queues: &[usize],
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        for line in self.lines_to_serve(index, queues) {
            if !self.has_ready(index, queues) {
                break;
            }
            let looks_max = limits().looked_at_per_turn;
            self.serve_line(now_ms, (index, line), Some(queues), looks_max, log, effects);
        }
        self.forget_empty_lines(index);
    }

    fn forget_empty_lines(&mut self, index: usize) {
        if let Some(progress) = self.state.group_topic_mut(index) {
            progress.waiters.forget_empty_lines();
        }
    }

    /// The lines that may get something of these queues, those first that want the first new message, then the oldest.
    fn lines_to_serve(&self, index: usize, queues: &[usize]) -> Vec<usize> {
        let Some(progress) = self.state.group_topic(index) else { return Vec::new() };
        let Some(topic) = self.state.topics.get(&progress.topic) else { return Vec::new() };
        let lines = progress.waiters.lines();
        let is_in_order = self.state.is_in_order(progress);
        let mut serve: Vec<(bool, u64, usize)> = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let Some(oldest) = line.waiters.front() else { continue };
            let Claim { wants_new, wants_due } = claim(progress, topic, &oldest.receive, queues);
            if wants_new || wants_due || is_in_order {
                serve.push((!wants_new, oldest.id, number));
            }
        }
        if serve.is_empty() {
            // What none of them wants is done for the group when one of them looked at it.
            let oldest = lines
                .iter()
                .enumerate()
                .filter_map(|(number, line)| Some((line.waiters.front()?.id, number)));
            return oldest.min().map(|(_, number)| number).into_iter().collect();
        }
        serve.sort_unstable();
        serve.into_iter().map(|(_, _, number)| number).collect()
    }

    /// Hands out to a line, of these queues or of all that it wants, for as long as it finds something.
    fn serve_line(
        &mut self,
        now_ms: u64,
        (index, line): (usize, usize),
        queues: Option<&[usize]>,
        looks_max: u32,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        let mut is_cut = false;
        loop {
            let progress = self.state.group_topic_mut(index);
            let Some(waiter) = progress.and_then(|p| p.waiters.take_first(line)) else { break };
            let mut deliveries = Vec::new();
            if !waiter.reply.is_gone() {
                let picked = self.pick(now_ms, index, &waiter, queues, looks_max, log, effects);
                effects.end_piece();
                // Another shard may have answered it meanwhile.
                if picked.deliveries.is_empty() && !waiter.reply.is_gone() {
                    is_cut = picked.is_cut;
                    if let Some(progress) = self.state.group_topic_mut(index) {
                        progress.waiters.put_back(line, waiter);
                    }
                    break;
                }
                deliveries = picked.deliveries;
            }
            self.state.waiters = self.state.waiters.saturating_sub(1);
            self.state.poll_ends.remove(&waiter.end(index));
            effects.now.push((waiter.reply, Ok(Outcome::Received(deliveries))));
        }
        if is_cut || queues.is_none() {
            self.note_look(now_ms, index, line, is_cut, effects);
        }
    }

    /// Takes note of how far a line has looked through all that it wants: those of its polls that wait no longer are answered
    /// when that is to the end.
    fn note_look(
        &mut self,
        now_ms: u64,
        index: usize,
        line: usize,
        is_cut: bool,
        effects: &mut Effects<R>,
    ) {
        let Some(progress) = self.state.group_topic_mut(index) else { return };
        let Some(of_line) = progress.waiters.line_mut(line) else { return };
        let was_looking = std::mem::replace(&mut of_line.is_looking, is_cut);
        if is_cut {
            return self.look_on_later(index);
        }
        if was_looking {
            for waiter in progress.waiters.take_ended(line, now_ms) {
                self.state.waiters = self.state.waiters.saturating_sub(1);
                self.state.poll_ends.remove(&waiter.end(index));
                effects.now.push((waiter.reply, Ok(Outcome::Received(Vec::new()))));
            }
        }
    }

    pub(crate) fn look_on_later(&mut self, index: usize) {
        self.looking.insert(index);
    }

    /// Whether one of these queues may have something.
    pub(crate) fn has_ready(&self, index: usize, queues: &[usize]) -> bool {
        let Some(progress) = self.state.group_topic(index) else { return false };
        let Some(topic) = self.state.topics.get(&progress.topic) else { return false };
        let is_in_order = self.state.is_in_order(progress);
        let is_ready = |queue: &usize| {
            let end = topic.end_for(progress, is_in_order, *queue);
            progress.queues.get(*queue).is_some_and(|state| state.has_ready(end))
        };
        let is_open = progress.cursors_pending == 0 && progress.ends_behind.is_empty();
        is_open && queues.iter().any(is_ready)
    }
}

/// What a poll could get of some queues.
struct Claim {
    wants_new: bool,
    wants_due: bool,
}

fn claim<R>(
    progress: &GroupTopic<R>,
    topic: &TopicState<R>,
    receive: &Receive,
    queues: &[usize],
) -> Claim {
    let mut claim = Claim { wants_new: false, wants_due: false };
    for &queue in queues {
        let (Some(state), Some(entries)) = (progress.queues.get(queue), topic.queues.get(queue))
        else {
            continue;
        };
        if receive.lite_topics.as_ref().is_some_and(|names| !topic.lite.is_of(queue, names)) {
            continue;
        }
        let new = entries.get(state.first_new());
        claim.wants_new |= new.is_some_and(|entry| receive.filter.matches(entry.tag_hash));
        claim.wants_due |= state.may_have_due(receive.filter.tags());
    }
    claim
}
