//! What the log may still grow by. While the volume has no room for another segment, the log goes on in the segments that
//! are ours already; before they are used up, whatever would make it grow is refused, so that the log never has to fail for
//! want of room. Should the volume fill up faster than anybody looks, the write that finds no room waits for it. And while
//! there is little, whatever gives space back is not left waiting for a segment to fill.

use std::collections::BTreeSet;

use broker_engine::{Command, LayoutCommand, Needed, NeededWalk, Refusal, ReplyTo};
use broker_model::Now;
use broker_store::segments::Segment;

use super::Replica;
use crate::at_hand::{AtHand, Noted};
use crate::maintenance::{Room, WantsSpare};
use crate::recovered::segment_of;

/// Of a segment, one part in so many is kept for what was decided already, and for what a start writes.
const KEPT_PART: u64 = 64;

/// So many records that the state needs are looked at each time the space is known anew: about 10 ms in the second.
const NEEDED_PER_LOOK: usize = 200_000;

/// What the replica knows of the space.
#[derive(Debug, Default)]
pub(super) struct KnownRoom {
    pub(super) is_nearly_full: bool,
    ready_segments: u64,
    /// A write waits because it found no room for its segment.
    is_write_waiting: bool,
    /// The segments that the state needs, as far as that is known.
    needed: BTreeSet<u64>,
    walk: NeededWalk,
    /// That of the last walk which came to its end.
    would_roll_give_space: bool,
    /// As it was when the walk began.
    walk_sealed_position: u64,
}

impl<R: ReplyTo> Replica<R> {
    /// Takes note of the space that there is: sends are refused while it is little.
    pub fn set_room(&mut self, room: Room) {
        self.room.is_nearly_full = room.is_nearly_full;
        self.room.ready_segments = room.ready_segments;
        self.tell_engine_of_room();
        self.look_for_space();
        let is_ready = self.room.ready_segments > self.log.segments_to_enter();
        if is_ready
            && self.room.would_roll_give_space
            && self.node.propose(Vec::new(), Vec::new()).is_ok()
        {
            // The entry, which says nothing, is the first in it.
            self.log.leave_segment();
            self.forget_walk();
        }
    }

    /// Whether there should be a spare.
    #[must_use]
    pub fn wants_spare(&self) -> WantsSpare {
        if self.room.ready_segments == 0 && self.room.would_roll_give_space {
            WantsSpare::Now
        } else if self.log.wants_spare() {
            WantsSpare::Soon
        } else {
            WantsSpare::No
        }
    }

    /// Looks on whether segments that the state needs no more wait for nothing but snapshots. These are written where a segment
    /// ends, and while sends are refused this one may never. Two segments at least: the one that is left for it waits for
    /// snapshots itself, so that for one alone a shard would go from segment to segment without end, and win nothing.
    fn look_for_space(&mut self) {
        let is_all_sealed = self.log.active_base() <= self.sealed_position;
        let is_possible = self.room.is_nearly_full
            && self.failure.is_none()
            && self.is_leader()
            && !self.log.leaves_segment();
        if !is_all_sealed || !is_possible || self.room.walk_sealed_position != self.sealed_position
        {
            self.forget_walk();
        }
        if !is_all_sealed || !is_possible {
            return;
        }
        let (segments, needed) = (self.log.segments(), &mut self.room.needed);
        let segment_of = segment_of(segments);
        self.engine.walk_needed(&mut self.room.walk, NEEDED_PER_LOOK, &mut |found| match found {
            Needed::Hidden(position) => drop(needed.insert(segment_of(position))),
            Needed::Run(run) => {
                needed.insert(run.base());
                needed.extend(run.refers_to().iter().map(|other| other.base));
            }
        });
        let is_idle = |segment: &Segment| {
            let base = segment.base();
            base < self.sealed_position && !segment.is_condensed() && !needed.contains(&base)
        };
        let may_give_space = segments.iter().filter(|segment| is_idle(segment)).nth(1).is_some();
        if self.room.walk.is_over() || !may_give_space {
            self.room.would_roll_give_space = may_give_space;
            self.room.needed.clear();
            self.room.walk = NeededWalk::default();
        }
    }

    fn forget_walk(&mut self) {
        self.room.would_roll_give_space = false;
        self.room.needed.clear();
        self.room.walk = NeededWalk::default();
        self.room.walk_sealed_position = self.sealed_position;
    }

    /// Takes note of a write that found no room: it is to be tried again until there is some.
    pub fn write_waits(&mut self) {
        self.room.is_write_waiting = true;
        self.room.ready_segments = 0;
        self.tell_engine_of_room();
    }

    /// Whether a write waits for room.
    #[must_use]
    pub fn is_write_waiting(&self) -> bool {
        self.room.is_write_waiting
    }

    /// Takes note of a segment that the writer went on into.
    pub(super) fn entered_segment(&mut self) {
        self.room.is_write_waiting = false;
        self.room.ready_segments = self.room.ready_segments.saturating_sub(1);
        self.tell_engine_of_room();
    }

    fn tell_engine_of_room(&mut self) {
        self.engine.set_disk_full(self.refuses_sends());
    }

    /// Whether sends are refused because there is little room.
    #[must_use]
    pub fn refuses_sends(&self) -> bool {
        self.room.is_nearly_full || self.room.is_write_waiting
    }

    /// Whether the log must not grow.
    #[must_use]
    pub fn is_out_of_room(&self) -> bool {
        let room = &self.room;
        if room.is_write_waiting || !room.is_nearly_full {
            return room.is_write_waiting;
        }
        let needed = self.log.segments_to_enter();
        let kept_bytes = self.segment_bytes / KEPT_PART + self.open.payload.len() as u64;
        needed > room.ready_segments
            || (needed == room.ready_segments && self.log.left_bytes() < kept_bytes)
    }

    /// Does what is due; out of room only what needs none.
    pub(super) fn tick(&mut self, now: Now) {
        if self.is_out_of_room() {
            self.engine.end_polls_without_room(now.steady_ms, &self.log, &mut self.open);
        } else {
            let _upkeep = Noted::new(AtHand::Upkeep { shard: self.engine.shard().0 });
            self.engine.tick(now, &self.log, &mut self.open);
        }
    }

    pub(super) fn next_tick_ms(&self, now: Now) -> Option<u64> {
        if self.is_out_of_room() {
            self.engine.next_poll_end_without_room_ms()
        } else if self.is_log_behind() {
            let at_once = self.engine.has_polls_to_serve().then_some(0);
            self.engine.next_poll_end_ms().into_iter().chain(at_once).min()
        } else {
            self.engine.next_tick_ms(now)
        }
    }

    /// Hands out what polls wait for. Every delivery is a record, for which there must be room.
    pub(super) fn serve_waiters(&mut self, now: Now) {
        if !self.is_out_of_room() {
            self.engine.serve_waiters(now.steady_ms, &self.log, &mut self.open);
        }
    }

    /// Why a command cannot be carried out; none when there is room or the command needs none.
    pub(super) fn refused_for_room(&self, command: &Command) -> Option<Refusal> {
        (self.is_out_of_room() && makes_log_grow(command)).then_some(Refusal::NoRoom)
    }
}

/// Whether the command may add a record.
fn makes_log_grow(command: &Command) -> bool {
    match command {
        Command::Pull(_)
        | Command::ReadOffset { .. }
        | Command::QueryOffset { .. }
        | Command::ReadMembers
        | Command::ReadProgress(_)
        | Command::Layout(LayoutCommand::ReadPassed { .. } | LayoutCommand::ReadHeld(_))
        | Command::ReadTopics(_)
        | Command::ReadUnusedGroups(_)
        | Command::ListDeadLetters(_)
        | Command::ReadNames(_) => false,
        Command::Redrive(redrive) => !redrive.is_dry_run,
        Command::Send(_)
        | Command::Receive(_)
        | Command::Acknowledge(_)
        | Command::ChangeInvisible(_)
        | Command::Suspend(_)
        | Command::ForwardToDeadLetter(_)
        | Command::Release(_)
        | Command::Prolong(_)
        | Command::Recall(_)
        | Command::EndTransaction(_)
        | Command::NoteTransactionCheck(_)
        | Command::SetOffset(_)
        | Command::ResetOffsets(_)
        | Command::SetLiteOffsets(_)
        | Command::Join(_)
        | Command::Leave { .. }
        | Command::PutTopic(_)
        | Command::DeleteTopic(_)
        | Command::Layout(LayoutCommand::Open { .. } | LayoutCommand::Pass(_))
        | Command::PutGroup(_)
        | Command::MakeGroup(_)
        | Command::NoteGroupUse { .. }
        | Command::ForgetGroup(_)
        | Command::DeleteGroup(_) => true,
    }
}
