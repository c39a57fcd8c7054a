//! Counts the elements of repeated fields in the bytes of a protobuf message, so that it is known what decoding would take
//! before anything is allocated: two bytes on the wire may become a kilobyte in memory. Looks only where a limit is.

use broker_proto::rocketmq::Code;
use bytes::Bytes;

/// A repeated field with a limit. The count is that of the whole request, wherever in it the field stands.
#[derive(Debug)]
pub(crate) struct Counted {
    /// For the text of the refusal.
    pub(crate) name: &'static str,
    /// Numbers of the fields that lead to it, its own last.
    pub(crate) path: &'static [u32],
    /// Most elements.
    pub(crate) max: usize,
    /// What an element without content takes when it is decoded.
    pub(crate) element_bytes: usize,
    /// For the refusal.
    pub(crate) code: Code,
}

/// Why a request is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("the request is not a protobuf message")]
    Malformed,
    #[error("the request has more than {max} {name}, its limit")]
    TooMany { name: &'static str, max: usize, code: Code },
}

/// Nested unknown groups, which nobody sends.
const GROUPS_MAX: usize = 16;

/// Bytes that the elements of the counted fields take beside their content.
///
/// # Errors
/// [`ScanError`].
pub(crate) fn scan(pieces: &[Bytes], counted: &[Counted]) -> Result<usize, ScanError> {
    let bytes = pieces.iter().map(Bytes::len).sum();
    let mut scan = Scan { pieces, piece: 0, offset: 0, position: 0, counted, counts: [0; 16] };
    debug_assert!(counted.len() <= scan.counts.len(), "a slot for each");
    scan.message(bytes, 0, u16::MAX)?;
    let taken = counted.iter().zip(scan.counts).map(|(field, count)| field.element_bytes * count);
    Ok(taken.sum())
}

struct Scan<'a> {
    pieces: &'a [Bytes],
    /// The piece that is read, and how much of it was.
    piece: usize,
    offset: usize,
    /// How much of all pieces was read.
    position: usize,
    counted: &'a [Counted],
    counts: [usize; 16],
}

impl Scan<'_> {
    /// Reads a message up to `end`. `looked_for` has a bit for each counted field whose path leads here; paths have few
    /// steps, and so has the recursion.
    fn message(&mut self, end: usize, depth: usize, looked_for: u16) -> Result<(), ScanError> {
        let mut groups = 0;
        while self.position < end {
            let (number, kind) = self.tag()?;
            match kind {
                0 => drop(self.varint()?),
                1 => self.skip(8, end)?,
                5 => self.skip(4, end)?,
                2 => {
                    let bytes = usize::try_from(self.varint()?);
                    let bytes = bytes.map_err(|_| ScanError::Malformed)?;
                    let inner_end = self.position.checked_add(bytes).filter(|at| *at <= end);
                    let inner_end = inner_end.ok_or(ScanError::Malformed)?;
                    let inside =
                        if groups == 0 { self.count(number, depth, looked_for)? } else { 0 };
                    if inside == 0 {
                        self.skip(bytes, end)?;
                    } else {
                        self.message(inner_end, depth + 1, inside)?;
                    }
                }
                3 if groups < GROUPS_MAX => groups += 1,
                4 if groups > 0 => groups -= 1,
                _ => return Err(ScanError::Malformed),
            }
        }
        if self.position == end && groups == 0 { Ok(()) } else { Err(ScanError::Malformed) }
    }

    /// Counts one element; returns what is looked for inside of it.
    fn count(&mut self, number: u32, depth: usize, looked_for: u16) -> Result<u16, ScanError> {
        let mut inside = 0;
        for (slot, (field, count)) in self.counted.iter().zip(&mut self.counts).enumerate() {
            let bit = 1 << slot;
            if looked_for & bit == 0 || field.path.get(depth) != Some(&number) {
                continue;
            }
            if field.path.len() > depth + 1 {
                inside |= bit;
                continue;
            }
            *count += 1;
            if *count > field.max {
                let Counted { name, max, code, .. } = *field;
                return Err(ScanError::TooMany { name, max, code });
            }
        }
        Ok(inside)
    }

    /// Number and wire type of the next field.
    fn tag(&mut self) -> Result<(u32, u8), ScanError> {
        let tag = u32::try_from(self.varint()?).map_err(|_| ScanError::Malformed)?;
        let number = tag >> 3;
        if number == 0 { Err(ScanError::Malformed) } else { Ok((number, (tag & 7) as u8)) }
    }

    fn varint(&mut self) -> Result<u64, ScanError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ScanError::Malformed)
    }

    fn byte(&mut self) -> Result<u8, ScanError> {
        loop {
            let piece = self.pieces.get(self.piece).ok_or(ScanError::Malformed)?;
            if let Some(byte) = piece.get(self.offset) {
                self.offset += 1;
                self.position += 1;
                return Ok(*byte);
            }
            self.piece += 1;
            self.offset = 0;
        }
    }

    fn skip(&mut self, bytes: usize, end: usize) -> Result<(), ScanError> {
        if bytes > end - self.position {
            return Err(ScanError::Malformed);
        }
        self.position += bytes;
        let mut left = bytes;
        while let Some(piece) = self.pieces.get(self.piece) {
            let here = piece.len() - self.offset;
            if left < here {
                self.offset += left;
                break;
            }
            left -= here;
            self.piece += 1;
            self.offset = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
