//! Message ids of version 1 (protocol section 3.4): 17 bytes as 34 hexadecimal digits, with the second of their making.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// 2021-01-01T00:00:00Z in Unix seconds, from where version 1 ids count.
const EPOCH_SECONDS: u64 = 1_609_459_200;
/// Where the second stands: behind version, hardware address and process id.
const SECOND_DIGITS: std::ops::Range<usize> = 18..26;

/// The parts before the second: version, a random and locally administered hardware address, and the process id.
static PREFIX: LazyLock<String> = LazyLock::new(|| {
    let node = (RandomState::new().hash_one(0) & 0x0000_ffff_ffff_ffff) | 0x0200_0000_0000;
    format!("01{node:012X}{:04X}", std::process::id() & 0xffff)
});
static SEQUENCE: AtomicU32 = AtomicU32::new(0);

/// A new id, for a message that comes without one.
pub(crate) fn fresh(now_ms: u64) -> String {
    let seconds = (now_ms / 1000).saturating_sub(EPOCH_SECONDS) & 0xffff_ffff;
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    format!("{}{seconds:08X}{sequence:08X}", *PREFIX)
}

/// When the message of this id was made by its producer's clock, Unix milliseconds; none for any other form of id.
pub(crate) fn made_ms(id: &str) -> Option<u64> {
    let is_version_1 =
        id.len() == 34 && id.starts_with("01") && id.bytes().all(|b| b.is_ascii_hexdigit());
    let digits = id.get(SECOND_DIGITS).filter(|_| is_version_1)?;
    let seconds = u64::from(u32::from_str_radix(digits, 16).ok()?);
    EPOCH_SECONDS.saturating_add(seconds).checked_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_id_has_the_time_and_is_another_each_time() {
        let (first, second) = (fresh(1_648_047_038_999), fresh(1_648_047_038_999));
        assert_eq!(made_ms(&first), Some(1_648_047_038_000));
        assert_ne!(first, second);
    }

    #[test]
    fn the_second_is_read_from_ids_of_version_1_only() {
        assert_eq!(made_ms("0156F7E71C361B21BC024CCDBE00000000"), Some(1_648_047_038_000));
        assert_eq!(made_ms("0156f7e71c361b21bc024ccdbe00000000"), Some(1_648_047_038_000));
        for other in ["", "order-1", "7F0000010F2118B4AAC21683A3C90000", "\u{e9}"] {
            assert_eq!(made_ms(other), None, "{other}");
        }
        assert_eq!(made_ms("0256F7E71C361B21BC024CCDBE00000000"), None);
        assert_eq!(made_ms("01Z6F7E71C361B21BC024CCDBE00000000"), None);
    }
}
