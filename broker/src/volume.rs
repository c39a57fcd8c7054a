//! What the size of the volume decides: how large segments are, and whether there is any use in starting on it.

use broker_store::limits::{
    LARGE_VOLUME_BYTES, SEGMENT_BYTES_LARGE, SEGMENT_BYTES_MIN, SEGMENT_BYTES_USUAL,
};

/// Segments that each shard finds room for, unless they would be smaller than the smallest.
const SEGMENTS_PER_SHARD: u64 = 32;
/// With room for fewer segments of its own a shard does not work for long: the one in use, the reserve, and full ones, which go
/// once two snapshots do without them.
const SEGMENTS_PER_SHARD_MIN: u64 = 6;
/// All shards of the volume share the room that is kept free.
const SEGMENTS_SHARED_MIN: u64 = 3;

/// Size of new segments of each shard, for so many shards on a volume of this size: a power of two.
pub(crate) fn segment_bytes(volume_bytes: u64, shards: u64) -> u64 {
    if volume_bytes >= LARGE_VOLUME_BYTES {
        return SEGMENT_BYTES_LARGE;
    }
    let part = volume_bytes / shards.max(1).saturating_mul(SEGMENTS_PER_SHARD);
    let power = part.checked_ilog2().map_or(0, |exponent| 1 << exponent);
    power.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_USUAL)
}

/// The least size of a volume for so many shards with segments of this size.
pub(crate) fn volume_bytes_min(segment_bytes: u64, shards: u64) -> u64 {
    let segments = shards.saturating_mul(SEGMENTS_PER_SHARD_MIN);
    segments.saturating_add(SEGMENTS_SHARED_MIN).saturating_mul(segment_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const GIB: u64 = 1024 * MIB;

    #[test]
    fn segments_grow_with_the_part_of_the_volume_that_a_shard_has() {
        // volume, shards, segment
        let rows = [
            (0, 1, 8 * MIB),
            (220_000_000, 1, 8 * MIB),
            (220_000_000, 3, 8 * MIB),
            (512 * MIB - 1, 1, 8 * MIB),
            (512 * MIB, 1, 16 * MIB),
            (3 * 512 * MIB, 3, 16 * MIB),
            (GIB, 1, 32 * MIB),
            (2 * GIB, 1, 64 * MIB),
            (6 * GIB - 1, 3, 32 * MIB),
            (6 * GIB, 3, 64 * MIB),
            (100 * GIB, 1, 64 * MIB),
            (512 * GIB - 1, 1, 64 * MIB),
            (512 * GIB, 64, 256 * MIB),
            (u64::MAX, 1, 256 * MIB),
        ];
        for (volume_bytes, shards, expected) in rows {
            assert_eq!(segment_bytes(volume_bytes, shards), expected, "{volume_bytes} {shards}");
        }
    }

    #[test]
    fn only_volumes_with_the_smallest_segments_can_be_too_small() {
        assert_eq!(volume_bytes_min(SEGMENT_BYTES_MIN, 1), 72 * MIB);
        assert_eq!(volume_bytes_min(SEGMENT_BYTES_MIN, 3), 168 * MIB);
        for shards in 1..=64 {
            for exponent in 0..50 {
                let volume_bytes = 1 << exponent;
                let segment_bytes = segment_bytes(volume_bytes, shards);
                let is_too_small = volume_bytes < volume_bytes_min(segment_bytes, shards);
                assert!(!is_too_small || segment_bytes == SEGMENT_BYTES_MIN);
            }
        }
    }
}
