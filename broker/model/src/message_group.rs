//! Message groups: order is kept among the messages of one group, and each group has one queue.

use xxhash_rust::xxh3::xxh3_64;

/// Hash of a message group; 0 stands for "none". Chooses the queue and names the group in the log, so it never changes.
#[must_use]
pub fn message_group_hash(group: Option<&str>) -> u64 {
    let group = group.filter(|group| !group.is_empty());
    // A real group never hashes to the value that means "none".
    group.map_or(0, |group| xxh3_64(group.as_bytes()).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_group_is_fixed_for_ever() {
        assert_eq!(message_group_hash(None), 0);
        assert_eq!(message_group_hash(Some("")), 0);
        assert_eq!(message_group_hash(Some("order-1")), 6_900_751_593_513_035_894);
    }
}
