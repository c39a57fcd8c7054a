//! The keys of a stored message, read off its head without decoding the rest of it: every message of a segment passes here
//! when the segment is sealed.

use broker_model::key_hash;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// `Message.system_properties`.
const SYSTEM_PROPERTIES: u32 = 3;
/// `SystemProperties.keys`.
const KEYS: u32 = 2;

/// Adds the hashes of the keys of a stored head. Of a head that is none of ours it adds what it comes across.
pub fn keys_of_head(head: &[u8], hashes: &mut Vec<u64>) {
    each_field(head, SYSTEM_PROPERTIES, &mut |properties| {
        each_field(properties, KEYS, &mut |key| hashes.push(key_hash(key)));
    });
}

/// Visits every field of this number that has a length; ends where the bytes are no message.
fn each_field(mut bytes: &[u8], number: u32, visit: &mut dyn FnMut(&[u8])) {
    while let Some((of, field)) = next_field(&mut bytes) {
        if of == number {
            visit(field);
        }
    }
}

/// The next field; empty when it is one without a length.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    if bytes.is_empty() {
        return None;
    }
    let (number, wire_type) = decode_key(bytes).ok()?;
    if wire_type != WireType::LengthDelimited {
        skip_field(wire_type, number, bytes, DecodeContext::default()).ok()?;
        return Some((number, &[]));
    }
    let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
    let (field, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((number, field))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use broker_proto::rocketmq::{Message, SystemProperties};
    use prost::Message as _;

    use super::*;

    fn hashes(head: &[u8]) -> Vec<u64> {
        let mut hashes = Vec::new();
        keys_of_head(head, &mut hashes);
        hashes
    }

    fn head(properties: SystemProperties) -> Vec<u8> {
        let user = [("keys", "no key"), ("region", "north")];
        let user_properties: HashMap<String, String> =
            user.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let system_properties = Some(properties);
        Message { user_properties, system_properties, ..Message::default() }.encode_to_vec()
    }

    #[test]
    fn all_keys_of_a_head_are_found_and_nothing_else_is_taken_for_one() {
        let plain = SystemProperties {
            tag: Some("paid".into()),
            message_id: "01AABB".into(),
            born_host: "host".into(),
            born_timestamp: Some(prost_types::Timestamp { seconds: 5, nanos: 7 }),
            queue_offset: Some(9),
            message_group: Some("group".into()),
            ..SystemProperties::default()
        };
        assert!(hashes(&head(plain.clone())).is_empty());
        let keyed = SystemProperties {
            keys: vec!["invoice-77".into(), String::new(), "\u{e4}".into()],
            ..plain
        };
        let expected = ["invoice-77", "", "\u{e4}"].map(|key| key_hash(key.as_bytes()));
        assert_eq!(hashes(&head(keyed)), expected);
    }

    #[test]
    fn the_keys_are_those_that_a_decoder_sees_wherever_they_stand() {
        // Properties in two parts, and fields in the other order: a decoder puts them together.
        let part = |key: &str, born_host: &str| {
            let keys = vec![key.to_owned()];
            head(SystemProperties { keys, born_host: born_host.into(), ..Default::default() })
        };
        let mut twice = part("a", "host");
        twice.extend(part("b", ""));
        let decoded = Message::decode(&twice[..]).unwrap().system_properties.unwrap();
        assert_eq!(decoded.keys, ["a", "b"]);
        assert_eq!(hashes(&twice), [key_hash(b"a"), key_hash(b"b")]);
    }

    #[test]
    fn bytes_that_are_no_head_are_read_up_to_where_they_break() {
        let whole = head(SystemProperties { keys: vec!["a".into(); 3], ..Default::default() });
        for length in 0..whole.len() {
            assert!(hashes(&whole[..length]).len() <= 3);
        }
        for start in 0..=255u8 {
            hashes(&[start; 40]);
            hashes(&[0x1a, 4, start, 0xff, 0xff, 0xff]);
        }
    }
}
