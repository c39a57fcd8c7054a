//! What was just written is read from the medium and compared with what was meant, before anything that it replaces goes.
//! Bytes only; whether they mean the same to who reads them later is compared by who wrote them.

use std::path::Path;

use crate::disk::{AlignedBuffer, Disk, DiskError};

/// So much is compared at once.
const PIECE_BYTES: usize = 1024 * 1024;

/// Creates a file as [`Disk::create_filled`] does, and reads it back.
///
/// # Errors
/// [`DiskError`], also when the file holds something else.
pub(crate) fn create_compared(
    disk: &dyn Disk,
    path: &Path,
    contents: &[u8],
) -> Result<(), DiskError> {
    disk.create_filled(path, contents)?;
    let file = disk.open(path)?;
    if file.length_bytes() != contents.len() as u64 {
        return Err(differs(path));
    }
    // Past the cache where that is possible: what a start will find is on the medium.
    let mut buffer = AlignedBuffer::with_capacity(PIECE_BYTES.min(contents.len()));
    for (piece, position) in contents.chunks(PIECE_BYTES).zip((0u64..).step_by(PIECE_BYTES)) {
        file.read_through(position, buffer.overwrite(piece.len()))?;
        if buffer.as_slice() != piece {
            return Err(differs(path));
        }
    }
    Ok(())
}

/// The file does not hold what was written.
pub(crate) fn differs(path: &Path) -> DiskError {
    DiskError {
        operation: "read back",
        path: path.to_owned(),
        message: "the file does not hold what was written into it".to_owned(),
        is_full: false,
        is_missing: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated_disk::SimulatedDisk;

    #[test]
    fn a_file_that_holds_something_else_is_noticed_wherever_the_difference_is() {
        let path = Path::new("log/index.tmp");
        for length in [0, 1, 700, PIECE_BYTES, PIECE_BYTES + 5] {
            let contents: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let disk = SimulatedDisk::default();
            create_compared(&disk, path, &contents).unwrap();
            assert_eq!(disk.contents(path).unwrap(), contents);
            for at in [0, length / 2, length.saturating_sub(1)] {
                disk.garble_created(".tmp", Some(at));
                let compared = create_compared(&disk, path, &contents);
                assert_eq!(compared.is_err(), length > 0, "byte {at} of {length}");
                disk.garble_created(".tmp", None);
            }
        }
    }
}
