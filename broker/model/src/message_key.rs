//! Keys of messages: what a producer finds its messages by again.

use xxhash_rust::xxh3::xxh3_64;

/// Hash of a key, by which a key table knows it; stored, so it never changes. Takes bytes, for what is not decoded yet.
#[must_use]
pub fn key_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_that_are_stored_never_change() {
        assert_eq!(key_hash(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(key_hash(b"invoice-77"), 0xe572_6363_1122_4e4f);
    }
}
