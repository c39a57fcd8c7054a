//! The text form that all handles share: a kind byte, the fields with the keyed code among them, a checksum, in URL-safe
//! base64. Opaque for clients. The checksum tells a damaged text at any broker; a made-up one is told by its code
//! (`handle_key`), where the key is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const CHECKSUM_BYTES: usize = 4;

/// The text is no handle of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the handle was not made by this system, or is damaged")]
pub struct HandleError;

pub(crate) const RECEIPT: u8 = 1;
pub(crate) const RECALL: u8 = 2;
pub(crate) const TRANSACTION: u8 = 3;

/// A handle's bytes being put together.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: u8) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(kind);
        Self(bytes)
    }

    pub(crate) fn u32(mut self, field: u32) -> Self {
        self.0.extend_from_slice(&field.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, field: u64) -> Self {
        self.0.extend_from_slice(&field.to_le_bytes());
        self
    }

    /// The code of a handle that goes to a client.
    pub(crate) fn code(self, code: Option<u64>) -> Self {
        debug_assert!(code.is_some(), "a client cannot use a handle without a code");
        self.u64(code.unwrap_or_default())
    }

    pub(crate) fn text(mut self, rest: &str) -> Self {
        self.0.extend_from_slice(rest.as_bytes());
        self
    }

    pub(crate) fn finish(mut self) -> String {
        let sum = crc32c::crc32c(&self.0);
        self.0.extend_from_slice(&sum.to_le_bytes());
        URL_SAFE_NO_PAD.encode(&self.0)
    }
}

/// A handle's bytes, read field by field.
pub(crate) struct Reader<'a>(&'a [u8]);

/// Checks a text and hands its fields to `read`, which must leave none over.
pub(crate) fn read<T>(
    text: &str,
    kind: u8,
    text_bytes_max: usize,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, HandleError>,
) -> Result<T, HandleError> {
    if text.len() > text_bytes_max {
        return Err(HandleError);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| HandleError)?;
    let body_bytes = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(HandleError)?;
    let (body, sum) = bytes.split_at(body_bytes);
    let is_ours = body.first() == Some(&kind) && crc32c::crc32c(body).to_le_bytes() == sum;
    if !is_ours {
        return Err(HandleError);
    }
    let mut reader = Reader(&body[1..]);
    let value = read(&mut reader)?;
    if reader.0.is_empty() { Ok(value) } else { Err(HandleError) }
}

impl Reader<'_> {
    pub(crate) fn u32(&mut self) -> Result<u32, HandleError> {
        let (field, rest) = self.0.split_first_chunk::<4>().ok_or(HandleError)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*field))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, HandleError> {
        let (field, rest) = self.0.split_first_chunk::<8>().ok_or(HandleError)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*field))
    }

    pub(crate) fn text(&mut self) -> Result<String, HandleError> {
        let rest = std::mem::take(&mut self.0);
        String::from_utf8(rest.to_vec()).map_err(|_| HandleError)
    }
}
