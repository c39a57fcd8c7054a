//! Every limit of the store, with its unit in the name.

/// Unit of writing: positions and lengths of writes are multiples of it (direct I/O asks for it).
pub const BLOCK_BYTES: usize = 4096;
/// Frames start at multiples of it, so that a search for frames need not look at every byte.
pub const FRAME_ALIGNMENT_BYTES: u64 = 64;
/// Largest payload of one frame for who reads it, and for who writes it into segments that are large enough: see
/// [`frame_payload_bytes_max`]. A send must fit in one frame.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Largest payload of one frame on the smallest segments: a message with the largest body and head fits, with room to spare
/// for what else its send decides.
pub const FRAME_PAYLOAD_BYTES_MAX_LEAST: usize = 5 * 1024 * 1024;
/// Records that may be kept apart are put into frames of about so many bytes.
pub const FRAME_BYTES_TARGET: usize = 1024 * 1024;
/// Smallest segment that a broker makes, for small volumes.
pub const SEGMENT_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// Size of segments where the volume is neither small nor large.
pub const SEGMENT_BYTES_USUAL: u64 = 64 * 1024 * 1024;
/// Segment size on volumes of at least [`LARGE_VOLUME_BYTES`].
pub const SEGMENT_BYTES_LARGE: u64 = 256 * 1024 * 1024;
/// Where the larger segment size begins.
pub const LARGE_VOLUME_BYTES: u64 = 512 * 1024 * 1024 * 1024;
/// Before times never went back in the log, the clock of leaders may have stepped back by so much between two frames; a search
/// by time looks as far around its range.
pub const CLOCK_STEP_MS_MAX: u64 = 60_000;
/// Entries of the key table of one segment, 16 bytes each, in memory while it is made; with more of them there is none.
pub const KEYS_PER_SEGMENT_MAX: usize = 2 * 1024 * 1024;
/// Bytes of the newest frames kept in memory for consumers that read at the tail.
pub const TAIL_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Largest payload of a frame that is written into new segments of this size: five eighths of one, so that a frame never
/// needs a segment of its own size, within [`FRAME_PAYLOAD_BYTES_MAX_LEAST`] and [`FRAME_PAYLOAD_BYTES_MAX`].
#[must_use]
pub const fn frame_payload_bytes_max(segment_bytes: u64) -> usize {
    let part = segment_bytes / 8 * 5;
    if part >= FRAME_PAYLOAD_BYTES_MAX as u64 {
        FRAME_PAYLOAD_BYTES_MAX
    } else if part <= FRAME_PAYLOAD_BYTES_MAX_LEAST as u64 {
        FRAME_PAYLOAD_BYTES_MAX_LEAST
    } else {
        // Between two numbers of this type.
        part as usize
    }
}

/// Bytes of heads and bodies of one send that fit in a frame of so many bytes, with the records that they are in.
#[must_use]
pub const fn send_bytes_max(frame_payload_bytes_max: usize) -> usize {
    frame_payload_bytes_max / 8 * 7
}

/// [`TAIL_CACHE_BYTES`], unless a simulation asks for less.
pub(crate) fn tail_cache_bytes() -> usize {
    #[cfg(any(test, feature = "simulation"))]
    if let Some(bytes) = crate::switches::tail_cache_bytes() {
        return bytes;
    }
    TAIL_CACHE_BYTES
}
