//! The records of a stretch of the log, in order. Every frame is checked against its checksums and against the frame
//! before it: what is returned is what was written, or an error that names the position. Of condensed segments comes what
//! is kept of them.

use std::iter::FusedIterator;
use std::ops::RangeInclusive;

use bytes::Bytes;

use super::ReadError;
use crate::condensed::CondensedRecords;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::limits::CLOCK_STEP_MS_MAX;
use crate::record::Record;
use crate::segment_scan::SegmentScan;
use crate::segments::Segment;

/// A record and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedRecord {
    /// Log position, for [`super::LogReader::record`].
    pub position: u64,
    /// Its length in the log.
    pub length_bytes: u32,
    /// The leader's clock when its frame was closed, Unix time.
    pub time_ms: u64,
    /// The record.
    pub record: Record,
}

/// Yields records until the end of the stretch or the first error. Holds one frame in memory, or one piece of the file
/// when that is larger.
#[derive(Debug)]
pub struct Records<'a> {
    shard: u32,
    /// From the one being read on.
    segments: &'a [Segment],
    scan: Option<SegmentScan<'a>>,
    /// Instead of the scan, in a condensed segment.
    condensed: Option<CondensedRecords<'a>>,
    is_beside: bool,
    /// Where the next frame begins.
    position: u64,
    end: u64,
    /// Of the frame before; none before the first.
    checksum: Option<u32>,
    times: RangeInclusive<u64>,
    /// What is left of the frame being read.
    payload: Bytes,
    payload_end: u64,
    time_ms: u64,
    has_failed: bool,
}

impl<'a> Records<'a> {
    pub(crate) fn new(shard: u32, segments: &'a [Segment], from: u64, end: u64) -> Self {
        let later = segments.partition_point(|segment| segment.base <= from);
        let segments = later.checked_sub(1).map_or(&[][..], |at| &segments[at..]);
        let mut records = Self {
            shard,
            segments,
            scan: None,
            condensed: None,
            is_beside: false,
            position: from,
            end,
            checksum: None,
            times: 0..=u64::MAX,
            payload: Bytes::new(),
            payload_end: 0,
            time_ms: 0,
            has_failed: false,
        };
        records.enter_segment();
        records
    }

    /// As [`Records::new`], for work beside the data path, which must cost it as little as can be.
    pub(crate) fn beside(shard: u32, segments: &'a [Segment], from: u64, end: u64) -> Self {
        let mut records = Self::new(shard, segments, from, end);
        records.is_beside = true;
        records.enter_segment();
        records
    }

    /// Begins to read the segment that is the first now.
    fn enter_segment(&mut self) {
        let (shard, segments) = (self.shard, self.segments);
        let Some(segment) = segments.first() else { return };
        self.condensed = segment.condensed_records(shard);
        let is_whole = self.condensed.is_none();
        let scan = if self.is_beside { SegmentScan::beside } else { SegmentScan::new };
        self.scan = is_whole.then(|| scan(shard, segment));
    }

    /// Leaves out records of frames of other times.
    pub(super) fn only(mut self, times: RangeInclusive<u64>) -> Self {
        self.times = times;
        self
    }

    /// Log position up to which frames were read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    fn try_next(&mut self) -> Result<Option<(LoggedRecord, Bytes)>, ReadError> {
        while self.payload.is_empty() {
            if let Some(logged) = self.next_condensed()? {
                return Ok(Some((logged, Bytes::new())));
            }
            if !self.enter_frame()? {
                return Ok(None);
            }
        }
        let before = self.payload.clone();
        let position = self.payload_end - before.len() as u64;
        let record = Record::decode(&mut self.payload)
            .map_err(|reason| ReadError::Damaged { position, reason })?;
        let bytes = before.slice(..before.len() - self.payload.len());
        let length_bytes = u32::try_from(bytes.len()).expect("records are smaller than frames");
        let time_ms = self.time_ms;
        Ok(Some((LoggedRecord { position, length_bytes, time_ms, record }, bytes)))
    }

    /// The next record of condensed segments; none in whole ones.
    fn next_condensed(&mut self) -> Result<Option<LoggedRecord>, ReadError> {
        while self.position < self.end {
            let Some(condensed) = &mut self.condensed else { break };
            let Some(logged) = condensed.next().transpose()? else {
                self.leave_condensed();
                continue;
            };
            if logged.time_ms > self.times.end().saturating_add(CLOCK_STEP_MS_MAX) {
                self.position = self.end;
            } else if logged.position >= self.position {
                self.position = logged.position + u64::from(logged.length_bytes);
                if self.times.contains(&logged.time_ms) {
                    return Ok(Some(logged));
                }
            }
        }
        Ok(None)
    }

    fn leave_condensed(&mut self) {
        // What stood around the records that are kept cannot be compared.
        self.checksum = None;
        match self.segments.get(1).filter(|next| next.base < self.end) {
            Some(next) => {
                self.position = next.base;
                self.segments = &self.segments[1..];
                self.enter_segment();
            }
            None => self.position = self.end,
        }
    }

    /// As [`Iterator::next`], with the bytes of the record in a whole segment.
    pub(crate) fn next_with_bytes(&mut self) -> Option<Result<(LoggedRecord, Bytes), ReadError>> {
        if self.has_failed {
            return None;
        }
        let next = self.try_next();
        self.has_failed = next.is_err();
        next.transpose()
    }

    /// Goes on to the next frame; false at the end.
    fn enter_frame(&mut self) -> Result<bool, ReadError> {
        if self.position >= self.end {
            return Ok(false);
        }
        // The next segment is condensed: nothing of it is a frame.
        let Some((header, payload)) = self.next_frame()? else { return Ok(true) };
        if header.kind != FrameKind::Entry {
            return Ok(true);
        }
        if header.time_ms > self.times.end().saturating_add(CLOCK_STEP_MS_MAX) {
            self.position = self.end;
            return Ok(false);
        }
        if self.times.contains(&header.time_ms) {
            self.payload_end = header.position + (FRAME_HEADER_BYTES + payload.len()) as u64;
            self.payload = payload;
            self.time_ms = header.time_ms;
        }
        Ok(true)
    }

    fn next_frame(&mut self) -> Result<Option<(FrameHeader, Bytes)>, ReadError> {
        let stopped_at = self.position;
        if self.scan.is_none() {
            return Err(ReadError::Gone(stopped_at));
        }
        if let Some(frame) = self.frame_here()? {
            return Ok(Some(frame));
        }
        // The unused rest of a full segment, if the next one begins with the frame that follows; damage otherwise.
        let next = self.segments.get(1).filter(|next| next.base < self.end);
        let Some(next) = next.filter(|_| self.checksum.is_some()) else {
            return Err(ReadError::DamagedFrame(stopped_at));
        };
        if self.segments[0].end() < next.base {
            // What stood between was not needed any more.
            self.checksum = None;
        }
        self.segments = &self.segments[1..];
        self.position = next.base;
        self.enter_segment();
        if self.condensed.is_some() {
            return Ok(None);
        }
        self.frame_here()?.map(Some).ok_or(ReadError::DamagedFrame(stopped_at))
    }

    fn frame_here(&mut self) -> Result<Option<(FrameHeader, Bytes)>, ReadError> {
        let Some(scan) = self.scan.as_mut() else { return Ok(None) };
        let Some((header, checksum, payload)) = scan.frame_at(self.position)? else {
            return Ok(None);
        };
        if self.checksum.is_some_and(|before| before != header.previous_checksum) {
            return Ok(None);
        }
        self.position += header.frame_bytes();
        self.checksum = Some(checksum);
        Ok(Some((header, payload)))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<LoggedRecord, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_with_bytes()?.map(|(logged, _)| logged))
    }
}

impl FusedIterator for Records<'_> {}
