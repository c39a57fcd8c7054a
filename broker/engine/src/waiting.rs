//! Polls that wait at one group and topic, in lines: those of a line want the same messages, so that one of them looks for all.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::command::Receive;
use crate::state::PollEnd;

/// A poll that waits for messages.
#[derive(Debug)]
pub(crate) struct Waiter<R> {
    pub(crate) id: u64,
    pub(crate) reply: R,
    pub(crate) receive: Receive,
}

impl<R> Waiter<R> {
    /// When it is answered empty.
    pub(crate) fn end(&self, group_topic: usize) -> PollEnd {
        PollEnd { deadline_ms: self.receive.poll_until_ms, group_topic, waiter: self.id }
    }
}

/// Polls that want the same, the oldest first.
#[derive(Debug)]
pub(crate) struct Line<R> {
    pub(crate) waiters: VecDeque<Waiter<R>>,
    /// What is there was not looked at to the end: none of them is answered empty before.
    pub(crate) is_looking: bool,
}

impl<R> Line<R> {
    /// What its polls want; none when it is empty.
    pub(crate) fn wants(&self) -> Option<&Receive> {
        self.waiters.front().map(|waiter| &waiter.receive)
    }

    fn takes(&self, receive: &Receive) -> bool {
        self.wants().is_some_and(|wants| {
            let has_same_topics = match (&wants.lite_topics, &receive.lite_topics) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            };
            has_same_topics && wants.filter == receive.filter
        })
    }
}

/// What became of a poll whose time ends.
pub(crate) enum End<R> {
    Gone,
    /// Its line is looking yet.
    Looks,
    Of(Waiter<R>),
}

/// All polls that wait at one group and topic.
#[derive(Debug)]
pub(crate) struct Waiting<R> {
    lines: Vec<Line<R>>,
    count: usize,
}

impl<R> Default for Waiting<R> {
    fn default() -> Self {
        Self { lines: Vec::new(), count: 0 }
    }
}

impl<R> Waiting<R> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn push(&mut self, waiter: Waiter<R>, is_looking: bool) {
        self.count = self.count.saturating_add(1);
        match self.lines.iter_mut().find(|line| line.takes(&waiter.receive)) {
            Some(line) => {
                line.waiters.push_back(waiter);
                line.is_looking |= is_looking;
            }
            None => self.lines.push(Line { waiters: VecDeque::from([waiter]), is_looking }),
        }
    }

    pub(crate) fn lines(&self) -> &[Line<R>] {
        &self.lines
    }

    pub(crate) fn line_mut(&mut self, line: usize) -> Option<&mut Line<R>> {
        self.lines.get_mut(line)
    }

    /// Takes out the first poll of a line.
    pub(crate) fn take_first(&mut self, line: usize) -> Option<Waiter<R>> {
        let waiter = self.lines.get_mut(line)?.waiters.pop_front()?;
        self.count = self.count.saturating_sub(1);
        Some(waiter)
    }

    /// Puts back what [`Waiting::take_first`] gave.
    pub(crate) fn put_back(&mut self, line: usize, waiter: Waiter<R>) {
        if let Some(line) = self.lines.get_mut(line) {
            line.waiters.push_front(waiter);
            self.count = self.count.saturating_add(1);
        }
    }

    /// Takes out those of a line that wait no longer than this.
    pub(crate) fn take_ended(&mut self, line: usize, now_ms: u64) -> Vec<Waiter<R>> {
        let Some(line) = self.lines.get_mut(line) else { return Vec::new() };
        let is_ended = |waiter: &Waiter<R>| waiter.receive.poll_until_ms <= now_ms;
        let (ended, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut line.waiters).into_iter().partition(is_ended);
        line.waiters = waiting.into();
        self.count = self.count.saturating_sub(ended.len());
        ended
    }

    /// Takes out a poll whose time ends, unless its line is looking yet.
    pub(crate) fn end(&mut self, id: u64) -> End<R> {
        for line in &mut self.lines {
            let Ok(at) = line.waiters.binary_search_by_key(&id, |waiter| waiter.id) else {
                continue;
            };
            if line.is_looking {
                return End::Looks;
            }
            let Some(waiter) = line.waiters.remove(at) else { continue };
            self.count = self.count.saturating_sub(1);
            self.forget_empty_lines();
            return End::Of(waiter);
        }
        End::Gone
    }

    /// Takes out those whose line is looking yet, and that wait no longer than this.
    pub(crate) fn take_ended_looking(&mut self, now_ms: u64) -> Vec<Waiter<R>> {
        let is_looking = |line: &usize| self.lines[*line].is_looking;
        let looking: Vec<usize> = (0..self.lines.len()).filter(is_looking).collect();
        let ended = looking.into_iter().flat_map(|line| self.take_ended(line, now_ms)).collect();
        self.forget_empty_lines();
        ended
    }

    pub(crate) fn forget_empty_lines(&mut self) {
        self.lines.retain(|line| !line.waiters.is_empty());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiter<R>> {
        self.lines.iter().flat_map(|line| &line.waiters)
    }

    pub(crate) fn into_waiters(self) -> impl Iterator<Item = Waiter<R>> {
        self.lines.into_iter().flat_map(|line| line.waiters)
    }
}
