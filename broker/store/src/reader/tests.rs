//! Stretches of the log on the simulated disk: whatever is asked for comes back whole and in order, damage is named.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::disk::Disk;
use crate::frame::FrameKind;
use crate::log::{Log, LogEnd, LogOptions, NewFrame};
use crate::recovery::open;
use crate::simulated_disk::SimulatedDisk;
use crate::writer::Writer;

pub(super) const SHARD: u32 = 3;
pub(super) const DIRECTORY: &str = "shard-3";
pub(super) const SEGMENT_BYTES: u64 = 64 * 1024;

struct Written {
    disk: SimulatedDisk,
    log: Log,
    writer: Writer,
}

impl Written {
    fn new() -> Self {
        let disk = SimulatedDisk::default();
        let (log, writer) = opened(&disk);
        Self { disk, log, writer }
    }

    /// The process ends and another one begins.
    fn reopen(&mut self) {
        (self.log, self.writer) = opened(&self.disk);
    }

    /// A frame with one client record per name.
    fn frame(&mut self, time_ms: u64, names: &[String]) {
        let mut payload = BytesMut::new();
        for (number, id) in (1..).zip(names) {
            Record::Client { number, id: id.clone() }.encode(&mut payload);
        }
        let new = NewFrame {
            kind: FrameKind::Entry,
            term: 1,
            index: self.log.end().index + 1,
            time_ms,
            records: u32::try_from(names.len()).unwrap(),
            payload: payload.freeze(),
        };
        self.log.append(new).unwrap();
    }

    fn mark(&mut self, time_ms: u64) {
        let index = self.log.end().index;
        let (kind, payload) = (FrameKind::HardState, Bytes::from_static(b"no record"));
        self.log.append(NewFrame { kind, term: 1, index, time_ms, records: 0, payload }).unwrap();
    }

    fn sync(&mut self) {
        while let Some(write) = self.log.take_write() {
            let written = self.writer.write(&write).unwrap();
            self.log.written(written);
        }
    }

    /// Frames of a thousand bytes and more, over several segments, a second apart.
    fn long(frames: u64) -> Self {
        let mut written = Self::new();
        for number in 0..frames {
            written.frame(number * 1_000, &[name(number)]);
        }
        written.sync();
        written
    }
}

pub(super) fn opened(disk: &SimulatedDisk) -> (Log, Writer) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options =
        LogOptions { shard: SHARD, directory: DIRECTORY.into(), segment_bytes: SEGMENT_BYTES };
    open(&shared, &options, LogEnd::default(), &mut |_| Ok(())).unwrap()
}

fn name(number: u64) -> String {
    format!("{number:-<1200}")
}

fn ids(records: Records<'_>) -> Result<Vec<(u64, String)>, ReadError> {
    records
        .map(|record| {
            let LoggedRecord { time_ms, record, .. } = record?;
            let Record::Client { id, .. } = record else { panic!("{record:?}") };
            Ok((time_ms, id))
        })
        .collect()
}

#[test]
fn all_records_come_back_with_their_places_over_several_segments() {
    let mut written = Written::new();
    let mut expected = Vec::new();
    for number in 0..300 {
        let names: Vec<_> = (0..number % 4).map(|part| format!("{}{part}", name(number))).collect();
        written.frame(number, &names);
        expected.extend(names.into_iter().map(|id| (number, id)));
        if number % 7 == 0 {
            written.mark(number);
        }
    }
    written.sync();
    assert!(written.disk.files_ending(".seg").len() > 4);
    let (reader, end) = (written.log.reader(), written.log.durable_position());
    assert_eq!(ids(reader.records(reader.begin(), end)).unwrap(), expected);
    for found in reader.records(0, end).map(Result::unwrap) {
        assert_eq!(reader.record(found.position, found.length_bytes).unwrap(), found.record);
        // The place of a longer record, where this one was found.
        let longer = reader.record(found.position, found.length_bytes + 1);
        let another = Err(ReadError::Another(found.position));
        let is_last = found.position + u64::from(found.length_bytes) == end;
        assert!(longer == another || is_last && longer.is_err(), "{longer:?}");
    }
}

#[test]
fn a_segment_that_a_crash_left_empty_is_read_once() {
    let mut written = Written::new();
    written.frame(0, &[name(0)]);
    written.sync();
    let next = format!("shard-3/{SEGMENT_BYTES:020}.seg");
    written.disk.create_zeroed(next.as_ref(), SEGMENT_BYTES).unwrap();
    written.reopen();
    for number in 1..120 {
        written.frame(number, &[name(number)]);
    }
    written.sync();
    assert!(written.disk.files_ending(".seg").len() > 2);
    let (reader, end) = (written.log.reader(), written.log.durable_position());
    let expected: Vec<_> = (0..120).map(|number| (number, name(number))).collect();
    assert_eq!(ids(reader.records(0, end)).unwrap(), expected);
    let bases = [0, SEGMENT_BYTES];
    assert_eq!(written.log.forget(&bases).len(), 2);
    assert_eq!(written.log.bytes(), end - 2 * SEGMENT_BYTES);
}

#[test]
fn what_is_not_durable_is_not_read() {
    let mut written = Written::long(5);
    let end = written.log.durable_position();
    written.frame(9_000, &[name(9)]);
    assert_eq!(ids(written.log.reader().records(0, end)).unwrap().len(), 5);
    assert_eq!(ids(Written::new().log.reader().records(0, 0)).unwrap(), []);
}

#[test]
fn a_search_by_time_reads_the_segments_of_its_range_only() {
    let written = Written::long(400);
    let (reader, end) = (written.log.reader(), written.log.durable_position());
    let of = |times| ids(reader.records_of_times(times, end).unwrap()).unwrap();
    let seconds: Vec<_> = of(150_000..=152_999).into_iter().map(|(ms, _)| ms / 1_000).collect();
    assert_eq!(seconds, [150, 151, 152]);
    assert_eq!(of(0..=u64::MAX).len(), 400);
    assert_eq!(of(400_000..=500_000), []);
    let late = reader.records_of_times(390_000..=u64::MAX, end).unwrap();
    assert!(late.position() > 4 * SEGMENT_BYTES, "older segments are not read");
    let mut early = reader.records_of_times(0..=0, end).unwrap();
    assert_eq!(early.by_ref().count(), 1);
    // Damage behind the range is none of its business.
    written.disk.flip_bit(&written.disk.files_ending(".seg")[5], 40, 1);
    assert_eq!(of(0..=10_000).len(), 11);
}

#[test]
fn a_clock_that_stepped_back_hides_nothing() {
    let mut written = Written::new();
    for number in 0..200_u64 {
        let ms = 1_000_000 + number * 1_000;
        written.frame(if number % 2 == 0 { ms } else { ms - 50_000 }, &[name(number)]);
    }
    written.sync();
    let reader = written.log.reader();
    let found = reader.records_of_times(1_070_000..=1_079_999, written.log.durable_position());
    assert_eq!(ids(found.unwrap()).unwrap().len(), 10);
}

#[test]
fn damage_in_the_middle_is_named_and_ends_the_reading() {
    let written = Written::long(200);
    let (reader, end) = (written.log.reader(), written.log.durable_position());
    let hurt = reader.records(0, end).nth(70).unwrap().unwrap().position;
    let file = usize::try_from(hurt / SEGMENT_BYTES).unwrap();
    let at = usize::try_from(hurt % SEGMENT_BYTES).unwrap() + 100;
    written.disk.flip_bit(&written.disk.files_ending(".seg")[file], at, 3);
    let mut records = reader.records(0, end);
    assert_eq!(records.by_ref().take_while(Result::is_ok).count(), 70);
    assert!(records.next().is_none(), "nothing comes after an error");
    let error = ids(reader.records(0, end)).unwrap_err();
    assert_eq!(error, ReadError::DamagedFrame(hurt - FRAME_HEADER_BYTES as u64));
    assert!(error.to_string().contains(&format!("log position {}", hurt - 80)));
}

#[test]
fn a_position_without_a_frame_is_refused() {
    let written = Written::long(3);
    let (reader, end) = (written.log.reader(), written.log.durable_position());
    assert_eq!(ids(reader.records(64, end)).unwrap_err(), ReadError::DamagedFrame(64));
    let nothing = LogReader::new(3, Arc::new(Vec::new()));
    assert_eq!(ids(nothing.records(0, 64)).unwrap_err(), ReadError::Gone(0));
    assert_eq!(
        ids(LogReader { shard: 4, ..reader }.records(0, end)).unwrap_err(),
        ReadError::DamagedFrame(0)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A flipped bit anywhere either is in bytes that say nothing or is noticed; nothing wrong is ever returned.
    #[test]
    fn a_rotten_bit_never_changes_what_is_read(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let written = Written::long(150);
        let (reader, end) = (written.log.reader(), written.log.durable_position());
        let expected = ids(reader.records(0, end)).unwrap();
        let files = written.disk.files_ending(".seg");
        let place = at.index(usize::try_from(end).unwrap());
        let segment = usize::try_from(SEGMENT_BYTES).unwrap();
        written.disk.flip_bit(&files[place / segment], place % segment, bit);
        let read: Vec<_> = reader.records(0, end).take_while(Result::is_ok).flatten().collect();
        prop_assert!(read.len() == expected.len() || ids(reader.records(0, end)).is_err());
        for (found, (_, id)) in read.iter().zip(&expected) {
            let is_same = matches!(&found.record, Record::Client { id: found, .. } if found == id);
            prop_assert!(is_same);
        }
    }
}
