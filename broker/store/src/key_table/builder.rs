//! Making the key table of a segment: frame by frame while somebody reads them anyway, or from the segment alone.

use std::path::Path;

use crc32c::crc32c;

use super::{
    BLOCK_ENTRIES, CHECKSUM_BYTES, ENTRY_BYTES, Header, IS_LEFT_OUT, KeysOfHead, TopicKey,
    key_table_path,
};
use crate::disk::{Disk, DiskError};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::limits::KEYS_PER_SEGMENT_MAX;
use crate::read_back::create_compared;
use crate::record::message_heads;
use crate::segment_scan::SegmentScan;
use crate::segments::{Segment, UNFINISHED_KEYS};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    short: u32,
    /// From the beginning of the segment.
    at: u32,
    stored_ms: u64,
}

/// The key table of one segment while it is being made.
#[derive(Debug)]
pub struct KeyTableBuilder {
    shard: u32,
    base: u64,
    keys_of_head: KeysOfHead,
    entries: Vec<Entry>,
    is_left_out: bool,
    /// Of the entries, Unix time.
    times: Option<(u64, u64)>,
    last_frame: u64,
    /// The hashes of one message.
    hashes: Vec<u64>,
}

impl KeyTableBuilder {
    /// An empty table for the segment at `base`.
    #[must_use]
    pub fn new(shard: u32, base: u64, keys_of_head: KeysOfHead) -> Self {
        Self {
            shard,
            base,
            keys_of_head,
            entries: Vec::new(),
            is_left_out: false,
            times: None,
            last_frame: base,
            hashes: Vec::new(),
        }
    }

    /// Takes in the next frame of the segment, which is whole.
    pub fn take(&mut self, header: &FrameHeader, payload: &[u8]) {
        self.last_frame = header.position;
        if header.kind != FrameKind::Entry || self.is_left_out {
            return;
        }
        let stored_ms = header.time_ms;
        let (oldest_ms, newest_ms) = self.times.unwrap_or((stored_ms, stored_ms));
        self.times = Some((oldest_ms.min(stored_ms), newest_ms.max(stored_ms)));
        let begin = header.position + FRAME_HEADER_BYTES as u64;
        for message in message_heads(payload) {
            (self.keys_of_head)(message.head, &mut self.hashes);
            if self.hashes.is_empty() {
                continue;
            }
            let at = in_segment(begin + message.at as u64, self.base);
            let topic = message.topic;
            let shorts = self.hashes.drain(..).map(|hash| TopicKey { topic, hash }.short());
            self.entries.extend(shorts.map(|short| Entry { short, at, stored_ms }));
            if self.entries.len() > KEYS_PER_SEGMENT_MAX {
                return self.leave_out();
            }
        }
    }

    fn leave_out(&mut self) {
        self.entries = Vec::new();
        self.is_left_out = true;
    }

    /// The file of a segment whose frames were taken in, up to the last one, which has this checksum.
    #[must_use]
    pub fn finish(mut self, last_checksum: u32) -> KeyTableFile {
        self.entries.sort_unstable();
        let mut directory = Vec::new();
        for block in self.entries.chunks(BLOCK_ENTRIES) {
            directory.extend_from_slice(&block[0].short.to_le_bytes());
        }
        let (oldest_ms, newest_ms) = self.times.unwrap_or_default();
        let header = Header {
            shard: self.shard,
            entries: u32::try_from(self.entries.len()).expect("bounded"),
            flags: if self.is_left_out { IS_LEFT_OUT } else { 0 },
            base: self.base,
            oldest_ms,
            newest_ms,
            last_frame: in_segment(self.last_frame, self.base),
            last_checksum,
            directory_checksum: crc32c(&directory),
        };
        let mut bytes = header.encode();
        bytes.reserve_exact(header.file_bytes() - bytes.len());
        bytes.extend_from_slice(&directory);
        for block in self.entries.chunks(BLOCK_ENTRIES) {
            let start = bytes.len();
            for entry in block {
                bytes.extend_from_slice(&entry.short.to_le_bytes());
                bytes.extend_from_slice(&entry.at.to_le_bytes());
                bytes.extend_from_slice(&entry.stored_ms.to_le_bytes());
            }
            debug_assert_eq!(bytes.len() - start, block.len() * ENTRY_BYTES);
            let checksum = crc32c(&bytes[start..]);
            bytes.extend_from_slice(&checksum.to_le_bytes());
            debug_assert_eq!(size_of_val(&checksum), CHECKSUM_BYTES);
        }
        KeyTableFile { base: self.base, bytes }
    }
}

/// The bytes of a key table.
#[derive(Debug)]
pub struct KeyTableFile {
    base: u64,
    bytes: Vec<u8>,
}

impl KeyTableFile {
    /// Reads a full segment, which `next` follows, though maybe not at once. None when not even its first frame is
    /// there, or nobody wants it any more.
    #[must_use]
    pub fn of_segment(
        shard: u32,
        (segment, next): (&Segment, &Segment),
        keys_of_head: KeysOfHead,
        is_given_up: &dyn Fn() -> bool,
    ) -> Option<Self> {
        let mut builder = KeyTableBuilder::new(shard, segment.base, keys_of_head);
        let mut scan = SegmentScan::beside(shard, segment);
        let mut position = segment.base;
        let mut last: Option<u32> = None;
        // What cannot be read ends it as well.
        while let Ok(Some((header, checksum, payload))) = scan.frame_at(position) {
            if last.is_some_and(|last| last != header.previous_checksum) {
                break;
            }
            if is_given_up() {
                return None;
            }
            builder.take(&header, &payload);
            last = Some(checksum);
            position += header.frame_bytes();
        }
        let last = last?;
        // Behind what does not hold, or was read wrongly, there may be more. Only the frame that carries on says that this was
        // the end; where it is gone, or condensed, nobody knows.
        let is_next = segment.end() == next.base && !next.is_condensed();
        if !is_next || !follows(shard, next, last) {
            builder.leave_out();
        }
        Some(builder.finish(last))
    }

    /// How many they are.
    #[must_use]
    pub fn length_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Writes the file durably and reads it back; then it replaces one of the same name.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), DiskError> {
        let unfinished = directory.join(UNFINISHED_KEYS);
        create_compared(disk, &unfinished, &self.bytes)?;
        disk.rename(&unfinished, &key_table_path(directory, self.base))
    }
}

fn follows(shard: u32, next: &Segment, checksum: u32) -> bool {
    let first = SegmentScan::new(shard, next).header_at(next.base);
    first.is_ok_and(|first| first.is_some_and(|(header, _)| header.previous_checksum == checksum))
}

fn in_segment(position: u64, base: u64) -> u32 {
    u32::try_from(position - base).expect("segments are far below 4 GiB")
}
