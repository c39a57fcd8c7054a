//! What decoding finds is what was counted, for messages of all shapes, cut anywhere; and no bytes at all make it fail otherwise.

use std::collections::HashMap;

use broker_proto::rocketmq::{Message, SendMessageRequest, SystemProperties};
use prost::Message as _;

use super::*;

const MESSAGES: Counted = Counted {
    name: "messages",
    path: &[1],
    max: 40,
    element_bytes: 1_000,
    code: Code::PayloadTooLarge,
};
const PROPERTIES: Counted = Counted {
    name: "properties",
    path: &[1, 2],
    max: 60,
    element_bytes: 100,
    code: Code::PayloadTooLarge,
};
const KEYS: Counted = Counted {
    name: "keys",
    path: &[1, 3, 2],
    max: 80,
    element_bytes: 10,
    code: Code::PayloadTooLarge,
};

/// The next number of a series that looks random (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn below(state: &mut u64, end: u64) -> usize {
    usize::try_from(next(state) % end).unwrap()
}

fn request(state: &mut u64) -> SendMessageRequest {
    let message = |state: &mut u64| Message {
        user_properties: (0..below(state, 4)).map(|n| (format!("k{n}"), "v".repeat(n))).collect(),
        system_properties: Some(SystemProperties {
            keys: (0..below(state, 5)).map(|n| "x".repeat(n * 90)).collect(),
            message_group: Some("group".to_owned()),
            queue_id: -1,
            ..SystemProperties::default()
        }),
        body: vec![0xff; below(state, 400)].into(),
        ..Message::default()
    };
    SendMessageRequest { messages: (0..below(state, 60)).map(|_| message(state)).collect() }
}

/// The bytes in pieces of any size, empty ones too.
fn pieces(state: &mut u64, bytes: &[u8]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, others) = rest.split_at(below(state, 9).min(rest.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = others;
    }
    pieces
}

#[test]
fn what_is_counted_is_what_decoding_finds() {
    let (mut taken, mut refused) = (0, HashMap::new());
    for seed in 0..300 {
        let state = &mut { seed };
        let request = request(state);
        let bytes = request.encode_to_vec();
        let counts = [
            request.messages.len(),
            request.messages.iter().map(|m| m.user_properties.len()).sum(),
            request.messages.iter().flat_map(|m| &m.system_properties).map(|p| p.keys.len()).sum(),
        ];
        let fields = [MESSAGES, PROPERTIES, KEYS];
        let found = scan(&pieces(state, &bytes), &fields);
        let fits = counts.iter().zip(&fields).all(|(count, field)| *count <= field.max);
        match found {
            Ok(held) => {
                taken += 1;
                assert!(fits, "seed {seed}: {counts:?}");
                assert_eq!(held, counts[0] * 1_000 + counts[1] * 100 + counts[2] * 10, "{seed}");
            }
            Err(ScanError::TooMany { name, .. }) => {
                *refused.entry(name).or_insert(0) += 1;
                assert!(!fits, "seed {seed}: {counts:?}");
            }
            Err(ScanError::Malformed) => panic!("seed {seed}: not malformed"),
        }
    }
    assert!(taken > 20 && refused.len() == 3, "{taken} taken, {refused:?} refused");
}

/// Whatever the bytes are, they are read to an end, and never is less counted than decoding makes.
#[test]
fn bytes_of_any_kind_are_counted_or_refused() {
    let mut decoded = 0;
    for seed in 0..600 {
        let state = &mut { seed };
        let mut bytes = request(state).encode_to_vec();
        for _ in 0..1 + below(state, 3) {
            if !bytes.is_empty() {
                let at = below(state, bytes.len() as u64);
                bytes[at] = u8::try_from(next(state) & 0xff).unwrap();
            }
        }
        let found = scan(&pieces(state, &bytes), &[MESSAGES]);
        if let Ok(request) = SendMessageRequest::decode(bytes.as_slice()) {
            decoded += 1;
            let messages = request.messages.len();
            match found {
                Ok(held) => assert!(held >= messages * 1_000, "seed {seed}"),
                Err(ScanError::TooMany { .. }) => assert!(messages > MESSAGES.max, "seed {seed}"),
                // Nested groups and field numbers out of range are nobody's.
                Err(ScanError::Malformed) => {}
            }
        }
    }
    assert!(decoded > 20, "{decoded}");
}

#[test]
fn lengths_beyond_the_end_and_endless_numbers_are_malformed() {
    let malformed = |bytes: &[u8]| {
        let found = scan(&[Bytes::copy_from_slice(bytes)], &[MESSAGES]);
        assert_eq!(found, Err(ScanError::Malformed), "{bytes:?}");
    };
    malformed(b"\x0a");
    malformed(b"\x0a\x05ab");
    malformed(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    malformed(&[0xff; 11]);
    malformed(b"\x00");
    malformed(b"\x0f");
    malformed(b"\x0c");
    malformed(b"\x0b");
    malformed(&[0x0b; 100]);
    assert_eq!(scan(&[], &[MESSAGES]), Ok(0));
    assert_eq!(scan(&[Bytes::from_static(b"\x0b\x0a\x00\x0c")], &[MESSAGES]), Ok(0), "in a group");
}
