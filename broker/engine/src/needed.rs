//! Where in the log the records are that the state needs, told bit by bit: of a long state no step looks at all.
//!
//! A timed message moves on while it waits: from the snapshot or its bucket to those that are due soon, and out. The walk goes
//! the same way, so that it may tell of one twice and of none never.

use broker_store::SealedRun;

use crate::effects::ReplyTo;
use crate::engine::Engine;
use crate::hidden::TimedPlace;
use crate::index::Queue;

/// How far a walk has come. It begins with the default.
#[derive(Debug, Clone, Default)]
pub struct NeededWalk {
    at: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Timed(TimedPlace),
    /// A transaction by the time of its next check and its number.
    Open(u64, u64),
    Queue {
        topic: u32,
        queue: usize,
    },
    End,
}

impl Default for Place {
    fn default() -> Self {
        Self::Timed(TimedPlace::default())
    }
}

/// What the state needs.
#[derive(Debug)]
pub enum Needed<'a> {
    /// The record of a message that nobody sees yet, at this position.
    Hidden(u64),
    /// Entries of a queue in a sealed segment.
    Run(&'a SealedRun),
}

impl NeededWalk {
    /// Whether all was told.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.at, Place::End)
    }
}

impl<R: ReplyTo> Engine<R> {
    /// Goes on with a walk: tells of about `looks` records, or to the end.
    pub fn walk_needed(
        &self,
        walk: &mut NeededWalk,
        mut looks: usize,
        tell: &mut dyn FnMut(Needed<'_>),
    ) {
        while looks > 0 && !walk.is_over() {
            walk.at = match walk.at {
                Place::Timed(place) => {
                    let mut tell = |position| tell(Needed::Hidden(position));
                    let next = self.state.timed.walk(place, &mut looks, &mut tell);
                    next.map_or(Place::Open(0, 0), Place::Timed)
                }
                Place::Open(check_at_ms, number) => {
                    let from = (check_at_ms, number);
                    let mut last = None;
                    for (at, half) in self.state.transactions.open_from(from).take(looks) {
                        looks = looks.saturating_sub(1);
                        tell(Needed::Hidden(half.message.position));
                        last = Some(at);
                    }
                    match last.filter(|_| looks == 0) {
                        Some((at_ms, number)) => Place::Open(at_ms, number.saturating_add(1)),
                        None => Place::Queue { topic: 0, queue: 0 },
                    }
                }
                Place::Queue { topic, queue } => self.walk_runs((topic, queue), &mut looks, tell),
                Place::End => Place::End,
            };
        }
    }

    fn walk_runs(
        &self,
        from: (u32, usize),
        looks: &mut usize,
        tell: &mut dyn FnMut(Needed<'_>),
    ) -> Place {
        let numbers = self.state.topics.keys().copied().filter(|number| *number >= from.0);
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        for number in numbers {
            let queues = self.state.topics.get(&number).map_or(&[][..], |topic| &topic.queues);
            let first = if number == from.0 { from.1 } else { 0 };
            for (queue, state) in queues.iter().enumerate().skip(first) {
                if *looks == 0 {
                    return Place::Queue { topic: number, queue };
                }
                let runs = Queue::sealed(state).inspect(|run| tell(Needed::Run(run))).count();
                *looks = looks.saturating_sub(runs.saturating_add(1));
            }
        }
        Place::End
    }
}
