//! Any bytes as the payload of a frame: what decodes is encoded and decoded again without a difference. The input is
//! taken as it is, and once more as the kind and fields of a record whose length and checksum are right.

#![no_main]

use broker_store::{Lease, Record};
use bytes::{Bytes, BytesMut};
use crc32c::crc32c;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    survives(Bytes::copy_from_slice(data));
    let mut sealed = BytesMut::new();
    sealed.extend_from_slice(&(data.len() as u32).to_le_bytes());
    sealed.extend_from_slice(&crc32c(data).to_le_bytes());
    sealed.extend_from_slice(data);
    survives(sealed.freeze());
});

fn survives(mut payload: Bytes) {
    while !payload.is_empty() {
        let before = payload.len();
        let Ok(record) = Record::decode(&mut payload) else { return };
        assert!(payload.len() < before, "a record takes bytes");
        if let Record::Lease(Lease { span, .. }) = &record {
            assert!(*span <= 64);
        }
        let mut encoded = BytesMut::new();
        record.encode(&mut encoded);
        let again = Record::decode(&mut encoded.freeze()).expect("what was encoded can be decoded");
        // A float that is not a number differs even from itself.
        assert_eq!(format!("{again:?}"), format!("{record:?}"));
    }
}
