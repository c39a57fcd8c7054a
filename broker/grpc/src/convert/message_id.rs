//! Message ids of version 1 (protocol section 3.4): 17 bytes as 34 hexadecimal digits, with the second of their making.

/// 2021-01-01T00:00:00Z in Unix seconds, from where version 1 ids count.
const EPOCH_SECONDS: u64 = 1_609_459_200;
/// Where the second stands: behind version, hardware address and process id.
const SECOND_DIGITS: std::ops::Range<usize> = 18..26;

/// When the message of this id was made by its producer's clock, Unix milliseconds; none for any other form of id.
pub(crate) fn made_ms(id: &str) -> Option<u64> {
    let is_version_1 =
        id.len() == 34 && id.starts_with("01") && id.bytes().all(|b| b.is_ascii_hexdigit());
    let digits = id.get(SECOND_DIGITS).filter(|_| is_version_1)?;
    let seconds = u64::from(u32::from_str_radix(digits, 16).ok()?);
    Some((EPOCH_SECONDS + seconds) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

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
