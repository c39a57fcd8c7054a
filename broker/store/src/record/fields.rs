//! Reading and writing the fields of records. Reading never panics, whatever the bytes are.

use bytes::{Buf, Bytes, BytesMut};

use super::{RECORD_HEADER_BYTES, RecordError};

pub(super) fn put_u32(payload: &mut BytesMut, value: u32) {
    payload.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u32_u64(payload: &mut BytesMut, first: u32, second: u64) {
    put_u32(payload, first);
    put_u64(payload, second);
}

pub(super) fn put_u64(payload: &mut BytesMut, value: u64) {
    payload.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_text(payload: &mut BytesMut, text: &str) {
    put_u32(payload, u32::try_from(text.len()).expect("names and expressions have small limits"));
    payload.extend_from_slice(text.as_bytes());
}

/// Takes fields off the front of some bytes.
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(super) fn new(rest: Bytes) -> Self {
        Self { rest }
    }

    pub(super) fn u8(&mut self) -> Result<u8, RecordError> {
        self.rest.try_get_u8().map_err(|_| RecordError::Short)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RecordError> {
        self.rest.try_get_u32_le().map_err(|_| RecordError::Short)
    }

    pub(super) fn u64(&mut self) -> Result<u64, RecordError> {
        self.rest.try_get_u64_le().map_err(|_| RecordError::Short)
    }

    pub(super) fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], RecordError> {
        let bytes = self.bytes(BYTES)?;
        bytes.as_ref().try_into().map_err(|_| RecordError::Short)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<Bytes, RecordError> {
        if self.rest.len() < length {
            return Err(RecordError::Short);
        }
        Ok(self.rest.split_to(length))
    }

    pub(super) fn text(&mut self) -> Result<String, RecordError> {
        let length = self.u32()? as usize;
        let bytes = self.bytes(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| RecordError::IllegalField("text"))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// A count of things of at least one byte each, so that a wrong count cannot ask for much memory.
    pub(super) fn count(&mut self) -> Result<usize, RecordError> {
        let count = self.u32()? as usize;
        if count > self.rest.len() { Err(RecordError::Short) } else { Ok(count) }
    }
}

pub(super) fn put_u32s(payload: &mut BytesMut, values: &[u32]) {
    values.iter().for_each(|value| put_u32(payload, *value));
}

pub(super) fn put_u64s(payload: &mut BytesMut, values: &[u64]) {
    values.iter().for_each(|value| put_u64(payload, *value));
}

/// Bytes of the first record of a payload, with what stands in front of it; none when there is no whole one.
#[must_use]
pub fn record_bytes(payload: &[u8]) -> Option<usize> {
    let (length, _) = payload.split_first_chunk::<4>()?;
    let length = RECORD_HEADER_BYTES.checked_add(u32::from_le_bytes(*length) as usize)?;
    (length <= payload.len()).then_some(length)
}
