//! Reading a log without changing or trusting it: every frame with what holds of it, and every stretch without one.
//! For looking into a log and for finding out what is damaged; memory stays at one frame whatever the log's size.

use std::path::Path;

use bytes::Bytes;

use crate::disk::{Disk, DiskError};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::limits::FRAME_ALIGNMENT_BYTES;
use crate::log::LogEnd;
use crate::reader::ReadError;
use crate::segment_scan::SegmentScan;
use crate::segments::{self, Segment};

/// A segment file as it lies in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentExtent {
    /// Log position of its first byte.
    pub base: u64,
    /// Its length in the log.
    pub length_bytes: u64,
    /// Bytes of the file: fewer when the segment is condensed.
    pub file_bytes: u64,
}

/// A frame whose header holds.
#[derive(Debug, Clone)]
pub struct FoundFrame {
    /// Its header.
    pub header: FrameHeader,
    /// Its checksum, which the next frame repeats.
    pub checksum: u32,
    /// Its payload; none when the payload's checksum does not hold.
    pub payload: Option<Bytes>,
    /// Whether it carries on where the frame before it ended: chain of checksums and index.
    pub follows: bool,
}

/// Bytes without a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Log position of the first byte.
    pub from: u64,
    /// Log position behind the last byte.
    pub to: u64,
    /// What the bytes are to the log.
    pub meaning: GapMeaning,
    /// Whether anything but zeros is there.
    pub has_bytes: bool,
    /// Whether no file holds some of it.
    pub is_missing: bool,
    /// Why some of it cannot be read.
    pub unreadable: Option<DiskError>,
}

/// What a gap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapMeaning {
    /// The rest of a full segment: the next frame carries on.
    Unused,
    /// Frames are lost: the next frame does not carry on.
    Hole,
    /// No frame comes behind it.
    Tail,
    /// Nothing of it was needed any more, and its segments are gone.
    Dropped,
}

/// A segment of which only what was live is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCondensed {
    /// Log position of its first byte.
    pub from: u64,
    /// Log position behind its last byte, if that is known.
    pub to: u64,
    /// Records of it that are kept and whole.
    pub records: u64,
    /// The times of the first and of the last of them.
    pub times: Option<(u64, u64)>,
    /// What does not hold.
    pub damage: Vec<ReadError>,
}

/// What a walk comes across, in the order of the log.
#[derive(Debug, Clone)]
pub enum Found {
    /// A frame.
    Frame(FoundFrame),
    /// A condensed segment; every record in it was read and checked.
    Condensed(FoundCondensed),
    /// A stretch without frames.
    Gap(Gap),
}

/// The segment files of a directory, in order. Changes nothing.
///
/// # Errors
/// [`DiskError`].
pub fn extents(disk: &dyn Disk, directory: &Path) -> Result<Vec<SegmentExtent>, DiskError> {
    let segments = segments::look(disk, directory)?;
    let extent = |s: &Segment| SegmentExtent {
        base: s.base,
        length_bytes: s.end() - s.base,
        file_bytes: s.file_bytes(),
    };
    Ok(segments.iter().map(extent).collect())
}

/// Walks over the log in a directory and gives `visit` everything it comes across until that says false. What is before
/// `start`, where the newest snapshot ends, is looked at segment by segment: there are gaps where nothing is kept.
///
/// # Errors
/// [`DiskError`] when the directory cannot be listed or a file cannot be opened; unreadable bytes are gaps.
pub fn walk(
    disk: &dyn Disk,
    shard: u32,
    directory: &Path,
    start: LogEnd,
    visit: &mut dyn FnMut(Found) -> bool,
) -> Result<(), DiskError> {
    let segments = segments::look(disk, directory)?;
    let covered = segments.partition_point(|segment| segment.base < start.position);
    if walk_covered(shard, &segments[..covered], visit) {
        walk_segments(shard, &segments, start, visit);
    }
    Ok(())
}

/// Walks from `start`, the beginning of a segment, on.
pub(crate) fn walk_segments(
    shard: u32,
    segments: &[Segment],
    start: LogEnd,
    visit: &mut dyn FnMut(Found) -> bool,
) {
    let mut walk = Walk::new(shard, Some((start.checksum, start.index)), start.position, visit);
    let mut end = start.position;
    let behind = segments.partition_point(|segment| segment.base < start.position);
    let segments = &segments[behind..];
    for (at, segment) in segments.iter().enumerate() {
        // What no snapshot stands for must be there frame by frame.
        if segment.is_condensed() {
            continue;
        }
        if segment.base > end {
            walk.gap_at(end, segment.base).is_missing = true;
        }
        if !walk.segment(segment, following(segments, at)) {
            return;
        }
        end = end.max(segment.end());
    }
    walk.end_gap(GapMeaning::Tail);
}

/// Walks over segments that a snapshot covers: there may be gaps where nothing is kept any more.
fn walk_covered(shard: u32, segments: &[Segment], visit: &mut dyn FnMut(Found) -> bool) -> bool {
    let mut end = 0;
    for (at, segment) in segments.iter().enumerate() {
        let gap = Gap {
            from: end,
            to: segment.base,
            meaning: GapMeaning::Dropped,
            has_bytes: false,
            is_missing: true,
            unreadable: None,
        };
        if end < segment.base && !visit(Found::Gap(gap)) {
            return false;
        }
        end = segment.end();
        if let Some(condensed) = condensed(shard, segment) {
            if !visit(Found::Condensed(condensed)) {
                return false;
            }
            continue;
        }
        let mut walk = Walk::new(shard, None, segment.base, &mut *visit);
        if !walk.segment(segment, following(segments, at)) || !walk.end_gap(GapMeaning::Unused) {
            return false;
        }
    }
    true
}

/// Reads all that is kept of a condensed segment; none when it is whole.
fn condensed(shard: u32, segment: &Segment) -> Option<FoundCondensed> {
    let (from, to) = (segment.base, segment.end());
    let mut found = FoundCondensed { from, to, records: 0, times: None, damage: Vec::new() };
    for logged in segment.condensed_records(shard)? {
        match logged {
            Ok(logged) => {
                found.records += 1;
                found.times.get_or_insert((logged.time_ms, 0)).1 = logged.time_ms;
            }
            Err(error) => found.damage.push(error),
        }
    }
    Some(found)
}

struct Walk<'a> {
    shard: u32,
    /// Checksum and index of the frame before; none when that is not known.
    last: Option<(u32, u64)>,
    /// Where the segment before and this one begin.
    bases: (u64, u64),
    is_first: bool,
    /// Everything so far is in one chain of whole frames.
    is_whole: bool,
    /// Where the last frame ends whose payload does not hold.
    broken_end: u64,
    gap: Option<Gap>,
    visit: &'a mut dyn FnMut(Found) -> bool,
}

/// The segment right behind the one at this place in the list, if its file is there.
fn following(segments: &[Segment], at: usize) -> Option<&Segment> {
    let end = segments.get(at)?.end();
    segments.get(at + 1).filter(|next| next.base == end)
}

impl<'a> Walk<'a> {
    fn new(
        shard: u32,
        last: Option<(u32, u64)>,
        from: u64,
        visit: &'a mut dyn FnMut(Found) -> bool,
    ) -> Self {
        let bases = (0, from);
        Self { shard, last, bases, is_first: true, is_whole: true, broken_end: 0, gap: None, visit }
    }

    /// False when the visitor has enough.
    fn segment(&mut self, segment: &Segment, following: Option<&Segment>) -> bool {
        self.bases = (self.bases.1, segment.base);
        let mut scan = SegmentScan::new(self.shard, segment);
        let mut at = segment.base;
        while at < segment.end() {
            let step = (at + FRAME_ALIGNMENT_BYTES).min(segment.end());
            let next = match scan.header_at(at) {
                Ok(Some((header, checksum))) => {
                    let Ok(payload) = scan.payload_of(&header) else {
                        at = self.unreadable(&mut scan, segment, at);
                        continue;
                    };
                    let carries_on = payload.is_some() && self.follows(&header);
                    if !carries_on && self.ends_in(segment, at) && self.goes_on_in(following) {
                        // Left over from a torn write, in what is the unused rest of the segment now.
                        self.gap_at(at, step).has_bytes = true;
                        step
                    } else {
                        // Where a payload does not hold, frames may have been written over it.
                        let end = at + header.frame_bytes();
                        let next = if payload.is_some() { end } else { step };
                        self.broken_end =
                            if payload.is_some() { 0 } else { end.min(segment.end()) };
                        if !self.frame(header, checksum, payload) {
                            return false;
                        }
                        next
                    }
                }
                Ok(None) if at < self.broken_end => step,
                Ok(None) => {
                    let is_zero = scan.is_zero(at, step - at).unwrap_or(true);
                    self.gap_at(at, step).has_bytes |= !is_zero;
                    step
                }
                Err(_) => self.unreadable(&mut scan, segment, at),
            };
            at = next.min(segment.end());
        }
        true
    }

    /// Whether the whole frames so far end in this segment, so that what is behind them there may be an unused rest.
    fn ends_in(&self, segment: &Segment, at: u64) -> bool {
        let end = self.gap.as_ref().map_or(at, |gap| gap.from);
        self.is_whole && (end > segment.base || (self.is_first && end == segment.base))
    }

    /// Whether the log goes on with the first frame of this segment, so that what is before it there is unused.
    fn goes_on_in(&self, segment: Option<&Segment>) -> bool {
        let Some(segment) = segment else { return false };
        let frame = SegmentScan::new(self.shard, segment).frame_at(segment.base);
        matches!(frame, Ok(Some((header, ..))) if self.carries_on(&header))
    }

    /// Tries again with the smallest piece, so that only what really cannot be read is left out.
    fn unreadable(&mut self, scan: &mut SegmentScan<'_>, segment: &Segment, at: u64) -> u64 {
        if scan.read_small_pieces() {
            return at;
        }
        let Err(error) = scan.header_at(at) else {
            // The header can be read, its payload cannot: that is a frame with a payload that does not hold.
            let next = at + FRAME_ALIGNMENT_BYTES;
            self.gap_at(at, next).has_bytes = true;
            return next;
        };
        let next = SegmentScan::next_piece(segment, at);
        self.gap_at(at, next).unreadable.get_or_insert(error);
        next
    }

    fn gap_at(&mut self, from: u64, to: u64) -> &mut Gap {
        let gap = self.gap.get_or_insert(Gap {
            from,
            to,
            meaning: GapMeaning::Tail,
            has_bytes: false,
            is_missing: false,
            unreadable: None,
        });
        gap.to = to;
        gap
    }

    fn end_gap(&mut self, meaning: GapMeaning) -> bool {
        match self.gap.take() {
            Some(gap) => (self.visit)(Found::Gap(Gap { meaning, ..gap })),
            None => true,
        }
    }

    /// Whether a frame has the checksum and the index that come after the frame before.
    fn carries_on(&self, header: &FrameHeader) -> bool {
        let is_entry = u64::from(header.kind == FrameKind::Entry);
        self.last.is_none_or(|(previous, index)| {
            header.previous_checksum == previous
                && Some(header.index) == index.checked_add(is_entry)
        })
    }

    /// Whether a frame carries on, and right where the frame before ended.
    fn follows(&self, header: &FrameHeader) -> bool {
        let Some(gap) = &self.gap else { return self.carries_on(header) };
        // Only the rest of one segment may be unused between two frames, or the whole first one before them all.
        let (before, base) = self.bases;
        let is_rest = gap.from > before || (gap.from == before && self.is_first);
        is_rest && gap.to == base && !gap.is_missing && self.carries_on(header)
    }

    fn frame(&mut self, header: FrameHeader, checksum: u32, payload: Option<Bytes>) -> bool {
        let follows = self.follows(&header);
        self.is_first = false;
        self.is_whole &= follows && payload.is_some();
        self.last = Some((checksum, header.index));
        let meaning = if follows { GapMeaning::Unused } else { GapMeaning::Hole };
        self.end_gap(meaning)
            && (self.visit)(Found::Frame(FoundFrame { header, checksum, payload, follows }))
    }
}

/// Log position of a found frame's payload.
#[must_use]
pub fn payload_position(header: &FrameHeader) -> u64 {
    header.position + FRAME_HEADER_BYTES as u64
}

#[cfg(test)]
pub(crate) mod tests;
