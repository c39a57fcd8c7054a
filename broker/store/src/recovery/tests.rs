//! Crash tests on the simulated disk: whatever a torn write leaves, every acknowledged frame comes back, unchanged and
//! in order, and nothing else but a prefix of what was being written; damage to acknowledged frames is never cut away.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::frame::frame_bytes;
use crate::limits::{
    FRAME_BYTES_TARGET, FRAME_PAYLOAD_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_BYTES_USUAL,
    frame_payload_bytes_max,
};
use crate::log::{FrameTooLarge, NewFrame};
use crate::segments::recycle;
use crate::simulated_disk::SimulatedDisk;

const SEGMENT_BYTES: u64 = 64 * 1024;

fn options() -> LogOptions {
    LogOptions { shard: 0, directory: "shard-0".into(), segment_bytes: SEGMENT_BYTES }
}

/// Opens the log and collects the payloads of its entries.
fn reopen(disk: &SimulatedDisk) -> Result<(Log, Writer, Vec<Bytes>), OpenError> {
    reopen_with(disk, SEGMENT_BYTES)
}

fn reopen_with(
    disk: &SimulatedDisk,
    segment_bytes: u64,
) -> Result<(Log, Writer, Vec<Bytes>), OpenError> {
    let mut payloads = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = LogOptions { segment_bytes, ..options() };
    let (log, writer) = open(&disk, &options, LogEnd::default(), &mut |frame| {
        if frame.header.kind == FrameKind::Entry {
            payloads.push(frame.payload);
        }
        Ok(())
    })?;
    Ok((log, writer, payloads))
}

fn append(log: &mut Log, payload: &[u8]) {
    append_in(log, payload, 1);
}

fn append_in(log: &mut Log, payload: &[u8], term: u64) {
    let index = log.end().index + 1;
    let payload = Bytes::copy_from_slice(payload);
    let kind = FrameKind::Entry;
    log.append(NewFrame { kind, term, index, time_ms: 7, records: 1, payload }).unwrap();
}

/// Writes all that is queued; false once the disk has failed.
fn write(log: &mut Log, writer: &mut Writer) -> bool {
    while let Some(write) = log.take_write() {
        match writer.write(&write) {
            Ok(written) => log.written(written),
            Err(_) => return false,
        }
    }
    true
}

fn payload(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| (number * 31 + i * 7) as u8).collect()
}

#[test]
fn an_empty_directory_becomes_an_empty_log() {
    let disk = SimulatedDisk::default();
    let (log, _, payloads) = reopen(&disk).unwrap();
    assert_eq!((log.end(), payloads.len()), (LogEnd::default(), 0));
}

#[test]
fn a_frame_that_is_larger_than_a_segment_comes_back_with_those_around_it() {
    let disk = SimulatedDisk::default();
    let mut expected = Vec::new();
    for length in [100, SEGMENT_BYTES as usize, 100, SEGMENT_BYTES as usize * 2 + 1] {
        let (mut log, mut writer, payloads) = reopen(&disk).unwrap();
        assert!(payloads == expected, "{} of {} frames", payloads.len(), expected.len());
        let payload = payload(length, length);
        append(&mut log, &payload);
        expected.push(Bytes::from(payload));
        assert!(log.left_bytes() < SEGMENT_BYTES && write(&mut log, &mut writer));
    }
    assert!(reopen(&disk).unwrap().2 == expected);
}

#[test]
fn frames_come_back_over_several_segments_and_several_lives() {
    let disk = SimulatedDisk::default();
    let mut expected = Vec::new();
    for life in 0..5 {
        let (mut log, mut writer, payloads) = reopen(&disk).unwrap();
        assert_eq!(payloads, expected);
        for number in 0..40 {
            let payload = payload(life * 100 + number, 1 + (number * 997) % 9_000);
            append(&mut log, &payload);
            expected.push(Bytes::from(payload));
            if number % 3 == 0 {
                assert!(write(&mut log, &mut writer));
            }
        }
        assert!(write(&mut log, &mut writer));
        assert_eq!(log.durable_index(), expected.len() as u64);
    }
    assert!(disk.files_ending(".seg").len() > 5);
}

#[test]
fn damage_below_a_durable_mark_is_reported_and_never_cut() {
    let disk = SimulatedDisk::default();
    let (mut log, mut writer, _) = reopen(&disk).unwrap();
    for number in 0..10 {
        append(&mut log, &payload(number, 500));
        assert!(write(&mut log, &mut writer));
    }
    let file = disk.files_ending(".seg").remove(0);
    disk.flip_bit(&file, 3 * 640 + 200, 1);
    let error = reopen(&disk).unwrap_err();
    assert_eq!(
        error,
        OpenError::Corrupt { shard: 0, position: 3 * 640, index: 4, durable_index: 9 }
    );
    disk.flip_bit(&file, 3 * 640 + 200, 1);
    assert_eq!(reopen(&disk).unwrap().2.len(), 10);
}

#[test]
fn a_missing_segment_is_reported() {
    let disk = SimulatedDisk::default();
    let (mut log, mut writer, _) = reopen(&disk).unwrap();
    for number in 0..30 {
        append(&mut log, &payload(number, 8_000));
    }
    assert!(write(&mut log, &mut writer));
    disk.remove(&disk.files_ending(".seg")[1]).unwrap();
    let error = reopen(&disk).unwrap_err();
    assert_eq!(error, OpenError::MissingSegment { shard: 0, position: SEGMENT_BYTES });
}

#[test]
fn a_later_format_version_is_no_damage_and_nothing_is_touched() {
    let disk = SimulatedDisk::default();
    let (mut log, mut writer, _) = reopen(&disk).unwrap();
    append(&mut log, b"ours");
    assert!(write(&mut log, &mut writer));
    let file = disk.files_ending(".seg").remove(0);
    let mut bytes = vec![0; usize::try_from(SEGMENT_BYTES).unwrap()];
    disk.open(&file).unwrap().read_at(0, &mut bytes).unwrap();
    // The first frame again, as the next version would write it behind ours.
    let at = usize::try_from(log.end().position).unwrap();
    bytes.copy_within(0..at, at);
    let header = &mut bytes[at..at + FRAME_HEADER_BYTES];
    header[4] = FORMAT_VERSION + 1;
    header[40..48].copy_from_slice(&(at as u64).to_le_bytes());
    let checksum = crc32c::crc32c(&header[..76]);
    header[76..].copy_from_slice(&checksum.to_le_bytes());
    disk.create_filled(&file, &bytes).unwrap();
    disk.create_filled(Path::new("shard-0/spare.tmp"), b"unfinished").unwrap();
    let error = reopen(&disk).unwrap_err();
    assert!(!error.is_damage());
    let text = error.to_string();
    for part in
        [format!("storage format {}", FORMAT_VERSION + 1), format!("up to {FORMAT_VERSION}")]
    {
        assert!(text.contains(&part), "{text}");
    }
    assert_eq!(disk.files_ending("").len(), 2, "not even what was unfinished is removed");
}

#[test]
fn frames_of_a_recycled_segment_are_never_taken_for_new_ones() {
    let disk = SimulatedDisk::default();
    let directory = Path::new("shard-0");
    let (mut log, mut writer, _) = reopen(&disk).unwrap();
    let mut start = LogEnd::default();
    while log.end().position < 2 * SEGMENT_BYTES {
        if log.active_base() == 0 {
            start = LogEnd { position: SEGMENT_BYTES, ..log.end() };
        }
        append(&mut log, &payload(1, 7_000));
    }
    assert!(write(&mut log, &mut writer));
    recycle(&disk, directory, &log.segments()[0], SEGMENT_BYTES).unwrap();
    // The old first segment, full of frames, becomes the fourth.
    while log.end().position < 3 * SEGMENT_BYTES {
        append(&mut log, &payload(2, 7_000));
    }
    assert!(write(&mut log, &mut writer));
    let end = log.end();
    assert!(matches!(reopen(&disk), Err(OpenError::MissingSegment { position: 0, .. })));
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let (reopened, _) = open(&shared, &options(), start, &mut |_| Ok(())).unwrap();
    assert_eq!(reopened.end(), end, "a snapshot stands for what was before");
}

#[test]
fn a_failed_write_is_final() {
    let disk = SimulatedDisk::default();
    let (mut log, mut writer, _) = reopen(&disk).unwrap();
    append(&mut log, b"first");
    disk.tear_after(0, 1);
    let first = log.take_write().unwrap();
    let error = writer.write(&first).unwrap_err();
    disk.restart();
    assert_eq!(
        writer.write(&first).unwrap_err(),
        error,
        "the disk works again, the writer must not"
    );
}

#[test]
fn no_frame_needs_a_segment_of_its_own_size_and_every_reader_takes_it() {
    let mut segment_bytes = SEGMENT_BYTES_MIN;
    while segment_bytes <= 1 << 32 {
        let largest = frame_payload_bytes_max(segment_bytes);
        assert!(frame_bytes(largest) <= segment_bytes && largest <= FRAME_PAYLOAD_BYTES_MAX);
        segment_bytes *= 2;
    }
    assert_eq!(frame_payload_bytes_max(SEGMENT_BYTES_USUAL), FRAME_PAYLOAD_BYTES_MAX);
}

#[test]
fn a_frame_that_the_segments_do_not_take_is_refused_before_anything_is_written() {
    for segment_bytes in [SEGMENT_BYTES_MIN, SEGMENT_BYTES_USUAL] {
        let disk = SimulatedDisk::default();
        let (mut log, mut writer, _) = reopen_with(&disk, segment_bytes).unwrap();
        append(&mut log, b"before");
        let (kind, index) = (FrameKind::Entry, log.end().index + 1);
        let (end, bytes_max) = (log.end(), frame_payload_bytes_max(segment_bytes));
        let payload = Bytes::from(vec![0; bytes_max + 1]);
        let new = NewFrame { kind, term: 1, index, time_ms: 7, records: 1, payload };
        let payload_bytes = bytes_max + 1;
        let refused = Err(FrameTooLarge { payload_bytes, bytes_max });
        assert_eq!((log.append(new), log.end()), (refused, end));
        append(&mut log, b"behind");
        assert!(write(&mut log, &mut writer));
        assert_eq!(reopen(&disk).unwrap().2, [&b"before"[..], b"behind"]);
    }
}

#[test]
fn a_segment_that_an_earlier_start_made_in_another_size_is_made_anew() {
    for [made_bytes, wanted_bytes] in [[1, 4], [4, 1]].map(|sizes| sizes.map(|n| n * SEGMENT_BYTES))
    {
        // The one in use has room left, or is full to its last byte.
        for is_full in [false, true] {
            let disk = SimulatedDisk::default();
            let (mut log, mut writer, _) = reopen_with(&disk, made_bytes).unwrap();
            let first_bytes = usize::try_from(made_bytes).unwrap() - if is_full { 80 } else { 200 };
            let mut expected = vec![Bytes::from(payload(1, first_bytes))];
            append(&mut log, &expected[0]);
            assert!(write(&mut log, &mut writer));
            let directory = Path::new("shard-0");
            segments::open_or_create(&disk, directory, made_bytes, made_bytes).unwrap();
            for number in 0..4 {
                let (mut log, mut writer, found) = reopen_with(&disk, wanted_bytes).unwrap();
                assert!(found == expected, "{made_bytes} {is_full} {number}");
                // No other fits in the file that is there.
                let bytes = payload(2, (SEGMENT_BYTES + 1_000) as usize);
                append(&mut log, &bytes);
                expected.push(bytes.into());
                assert!(write(&mut log, &mut writer));
                let file_bytes = log.segments().iter().map(Segment::file_bytes).sum::<u64>();
                assert!(log.bytes() <= file_bytes, "{} of {file_bytes}", log.bytes());
            }
            assert!(reopen_with(&disk, made_bytes).unwrap().2 == expected);
        }
    }
}

#[test]
fn what_was_made_ready_in_another_size_gives_its_space_back() {
    let disk = SimulatedDisk::default();
    let directory = Path::new("shard-0");
    let (mut log, mut writer, _) = reopen_with(&disk, 4 * SEGMENT_BYTES).unwrap();
    while log.segments().len() < 3 {
        append(&mut log, &payload(1, 60_000));
        assert!(write(&mut log, &mut writer));
    }
    segments::prepare_spare(&disk, directory, 4 * SEGMENT_BYTES).unwrap();
    segments::take_reserve(&disk, directory, 4 * SEGMENT_BYTES).unwrap();
    let ready = |length| segments::ReadySegments::look(&disk, directory, length).unwrap().count();
    assert_eq!(ready(4 * SEGMENT_BYTES), 2);
    let (log, _, _) = reopen(&disk).unwrap();
    assert_eq!((ready(SEGMENT_BYTES), ready(4 * SEGMENT_BYTES)), (0, 0));
    let used_bytes = disk.used_bytes();
    segments::give_back(&disk, directory, &log.segments()[0], SEGMENT_BYTES).unwrap();
    assert_eq!(disk.used_bytes(), used_bytes - 4 * SEGMENT_BYTES, "it is no spare for anybody");
}

/// Lengths of payloads around every limit that there is.
fn lengths(bytes_max: usize) -> impl Strategy<Value = usize> {
    let near = |limit: usize| limit - 200..limit + 200;
    prop_oneof![
        4 => 0usize..5_000,
        1 => near(FRAME_BYTES_TARGET),
        1 => near(SEGMENT_BYTES as usize),
        2 => bytes_max - 200..=bytes_max,
        1 => bytes_max + 1..bytes_max + 200,
    ]
}

/// A size of segments, and lengths around the limits that it has.
fn segments_and_lengths() -> impl Strategy<Value = (u64, Vec<usize>)> {
    let sizes = [SEGMENT_BYTES, SEGMENT_BYTES_MIN, 2 * SEGMENT_BYTES_MIN, SEGMENT_BYTES_USUAL];
    prop::sample::select(sizes.to_vec()).prop_flat_map(|segment_bytes| {
        let lengths = lengths(frame_payload_bytes_max(segment_bytes));
        (Just(segment_bytes), proptest::collection::vec(lengths, 1..5))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_is_appended_is_recovered((segment_bytes, lengths) in segments_and_lengths()) {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
        let options = LogOptions { segment_bytes, ..options() };
        let (mut log, mut writer) = open(&disk, &options, LogEnd::default(), &mut |_| Ok(())).unwrap();
        let mut expected = Vec::new();
        for (number, length) in lengths.into_iter().enumerate() {
            let payload = Bytes::from(vec![number as u8 + 1; length]);
            let (kind, index) = (FrameKind::Entry, log.end().index + 1);
            let new = NewFrame { kind, term: 1, index, time_ms: 7, records: 1, payload: payload.clone() };
            let appended = log.append(new);
            prop_assert_eq!(appended.is_ok(), length <= frame_payload_bytes_max(segment_bytes));
            expected.extend(appended.map(|_| payload));
        }
        prop_assert!(write(&mut log, &mut writer));
        let mut found = Vec::new();
        open(&disk, &options, LogEnd::default(), &mut |frame| {
            found.push(frame.payload);
            Ok(())
        }).unwrap();
        prop_assert!(found == expected, "{} of {} frames", found.len(), expected.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Random batches, a torn write somewhere, several lives.
    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_is_invented(
        lives in proptest::collection::vec(
            (proptest::collection::vec((1usize..4_000, any::<bool>()), 1..30), 0u64..12, any::<u64>()),
            1..6,
        ),
    ) {
        let disk = SimulatedDisk::default();
        let mut acknowledged: Vec<Bytes> = Vec::new();
        let mut appended: Vec<Bytes> = Vec::new();
        for (number, (frames, tear, seed)) in lives.into_iter().enumerate() {
            let (mut log, mut writer, found) = reopen(&disk).expect("a torn tail is no corruption");
            prop_assert!(found.len() >= acknowledged.len(), "lost an acknowledged frame");
            prop_assert!(found.len() <= appended.len(), "invented a frame");
            prop_assert_eq!(&found[..], &appended[..found.len()]);
            appended.clone_from(&found);
            acknowledged = found;
            disk.tear_after(tear, seed);
            for (i, (length, syncs)) in frames.into_iter().enumerate() {
                let bytes = payload(number * 1_000 + i, length);
                // Every start begins a term. With the same one, and the same time, halves of two frames of two lives could
                // be the whole of one that was cut.
                append_in(&mut log, &bytes, number as u64 + 1);
                appended.push(Bytes::from(bytes));
                if syncs && !write(&mut log, &mut writer) {
                    break;
                }
                let durable = usize::try_from(log.durable_index()).unwrap();
                acknowledged = appended[..durable].to_vec();
            }
            disk.restart();
        }
    }

    /// A flipped bit anywhere in durable frames is either noticed as corruption or hits the unmarked tail.
    #[test]
    fn a_rotten_bit_never_changes_what_is_read(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let disk = SimulatedDisk::default();
        let (mut log, mut writer, _) = reopen(&disk).unwrap();
        let mut expected = Vec::new();
        for number in 0..20 {
            let bytes = payload(number, 300);
            append(&mut log, &bytes);
            expected.push(Bytes::from(bytes));
            prop_assert!(write(&mut log, &mut writer));
        }
        let length = usize::try_from(log.end().position).unwrap();
        disk.flip_bit(&disk.files_ending(".seg")[0], at.index(length), bit);
        match reopen(&disk) {
            // Padding, or the very last frame, which no later frame vouches for.
            Ok((_, _, found)) => prop_assert!(found.len() >= 19 && found[..] == expected[..found.len()]),
            Err(error) => {
                let is_corrupt = matches!(error, OpenError::Corrupt { .. });
                prop_assert!(is_corrupt, "{error}");
            }
        }
    }
}
