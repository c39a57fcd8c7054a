//! A frame: one group-commit batch and one Raft entry. The header's layout is stored: docs/storage-format.md draws it.
//! Position and the chain of checksums make every stale frame of a recycled segment invalid for ever.

use crc32c::crc32c;

use crate::limits::{FRAME_ALIGNMENT_BYTES, FRAME_PAYLOAD_BYTES_MAX};

/// Bytes of the header.
pub const FRAME_HEADER_BYTES: usize = 80;
/// Version of the layout of frames and records.
pub const FORMAT_VERSION: u8 = 3;
/// The first version, which is still read.
pub const FIRST_FORMAT_VERSION: u8 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"PNF1");

/// What a frame carries. Numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A Raft entry whose payload is records.
    Entry = 1,
    /// Term, vote and members of this replica; not an entry, carries the index of the entry before it.
    HardState = 2,
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The format version that it was written in, [`FORMAT_VERSION`] for a new one.
    pub version: u8,
    /// What the payload is.
    pub kind: FrameKind,
    /// The shard it belongs to.
    pub shard: u32,
    /// Records in the payload.
    pub records: u32,
    /// Raft term.
    pub term: u64,
    /// Raft index.
    pub index: u64,
    /// Number of the first record, counted over the whole log.
    pub first_record: u64,
    /// Log position of the frame.
    pub position: u64,
    /// Every entry up to this index was durable on this replica when the frame was written.
    pub durable_index: u64,
    /// Of an entry, when it was stored by the leader's clock, Unix time; it never goes back. Of a hard state, how far the
    /// leader's steady time had come.
    pub time_ms: u64,
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// Checksum of the frame before; 0 for the first.
    pub previous_checksum: u32,
    /// CRC32C of the payload.
    pub payload_checksum: u32,
}

impl FrameHeader {
    /// Header bytes and the frame's own checksum, which the next frame repeats.
    #[must_use]
    pub fn encode(&self) -> ([u8; FRAME_HEADER_BYTES], u32) {
        let mut bytes = [0u8; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4] = self.version;
        bytes[5] = self.kind as u8;
        bytes[8..12].copy_from_slice(&self.shard.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.records.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.term.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.index.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_record.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.position.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.durable_index.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.time_ms.to_le_bytes());
        bytes[64..68].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[68..72].copy_from_slice(&self.previous_checksum.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = crc32c(&bytes[..76]);
        bytes[76..80].copy_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// Reads a header back, with its checksum; none when the bytes are no whole header of this format.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let bytes: &[u8; FRAME_HEADER_BYTES] = bytes.get(..FRAME_HEADER_BYTES)?.try_into().ok()?;
        let is_known = (FIRST_FORMAT_VERSION..=FORMAT_VERSION).contains(&bytes[4]);
        if !starts_like_a_frame(bytes) || !is_known {
            return None;
        }
        let checksum = u32_at(bytes, 76);
        if crc32c(&bytes[..76]) != checksum {
            return None;
        }
        let kind = match bytes[5] {
            1 => FrameKind::Entry,
            2 => FrameKind::HardState,
            _ => return None,
        };
        let header = Self {
            version: bytes[4],
            kind,
            shard: u32_at(bytes, 8),
            records: u32_at(bytes, 12),
            term: u64_at(bytes, 16),
            index: u64_at(bytes, 24),
            first_record: u64_at(bytes, 32),
            position: u64_at(bytes, 40),
            durable_index: u64_at(bytes, 48),
            time_ms: u64_at(bytes, 56),
            payload_bytes: u32_at(bytes, 64),
            previous_checksum: u32_at(bytes, 68),
            payload_checksum: u32_at(bytes, 72),
        };
        (header.payload_bytes as usize <= FRAME_PAYLOAD_BYTES_MAX).then_some((header, checksum))
    }

    /// Bytes that the frame takes in the log, padding included.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.payload_bytes as usize)
    }
}

/// Bytes that a frame with this payload takes in the log, padding included.
#[must_use]
pub fn frame_bytes(payload_bytes: usize) -> u64 {
    ((FRAME_HEADER_BYTES + payload_bytes) as u64).next_multiple_of(FRAME_ALIGNMENT_BYTES)
}

/// A cheap first look, for searches through many bytes.
#[must_use]
pub fn starts_like_a_frame(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && bytes[..4] == MAGIC.to_le_bytes()
}

/// The format version of a header that a later version of Pinnace wrote at this position. Magic, version, position and
/// header checksum keep their places in every version, so that an older one can tell this from damage.
#[must_use]
pub fn later_version(bytes: &[u8], position: u64) -> Option<u8> {
    let bytes: &[u8; FRAME_HEADER_BYTES] = bytes.get(..FRAME_HEADER_BYTES)?.try_into().ok()?;
    let is_later = starts_like_a_frame(bytes) && bytes[4] > FORMAT_VERSION;
    let holds = u64_at(bytes, 40) == position && crc32c(&bytes[..76]) == u32_at(bytes, 76);
    (is_later && holds).then_some(bytes[4])
}

fn u32_at(bytes: &[u8; FRAME_HEADER_BYTES], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8; FRAME_HEADER_BYTES], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(index: u64, time_ms: u64, payload_bytes: u32) -> FrameHeader {
        FrameHeader {
            version: FORMAT_VERSION,
            kind: FrameKind::Entry,
            shard: 3,
            records: 2,
            term: 5,
            index,
            first_record: 11,
            position: 4096,
            durable_index: index.saturating_sub(1),
            time_ms,
            payload_bytes: payload_bytes % 1_000_000,
            previous_checksum: 77,
            payload_checksum: 99,
        }
    }

    proptest! {
        #[test]
        fn headers_survive_the_round_trip_and_no_flipped_bit_passes(
            index in any::<u64>(), time in any::<u64>(), length in any::<u32>(), bit in 0usize..640,
        ) {
            let header = header(index, time, length);
            let (mut bytes, checksum) = header.encode();
            prop_assert_eq!(FrameHeader::decode(&bytes), Some((header, checksum)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(FrameHeader::decode(&bytes), None);
        }

        #[test]
        fn arbitrary_bytes_are_no_header(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(FrameHeader::decode(&bytes), None);
        }
    }
}
