//! What `pinnace inspect` prints: one value per segment, frame, gap or record, and its line in a table.

use broker_store::record::RecordError;
use broker_store::walk::{Found, FoundCondensed, Gap, GapMeaning, SegmentExtent};
use broker_store::{FrameHeader, FrameKind, LoggedRecord, Record};
use serde::Serialize;
use serde_json::{Map, Value};

use super::fields;
use crate::cli::message::rfc3339;
use crate::cli::output::bytes;

pub(super) const SEGMENTS_HEADER: &str = "BASE                 LENGTH      FRAMES    FIRST INDEX  LAST INDEX   FIRST TIME                LAST TIME                 KEPT                     DAMAGE";
pub(super) const FRAMES_HEADER: &str = "POSITION             KIND        INDEX        TERM   RECORDS  PAYLOAD   DURABLE      TIME                      CHECKS";
pub(super) const RECORDS_HEADER: &str =
    "POSITION             LENGTH    INDEX        RECORD             FIELDS";

/// The log positions that something covers.
pub(super) fn range(found: &Found) -> (u64, u64) {
    match found {
        Found::Frame(frame) => {
            let header = &frame.header;
            (header.position, header.position + header.frame_bytes())
        }
        Found::Condensed(condensed) => (condensed.from, condensed.to),
        Found::Gap(gap) => (gap.from, gap.to),
    }
}

/// A segment file and what is in it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SegmentView {
    base: u64,
    length_bytes: u64,
    frames: u64,
    first_index: Option<u64>,
    last_index: Option<u64>,
    first_time: Option<String>,
    last_time: Option<String>,
    used_bytes: u64,
    /// Records that are kept of a condensed segment; it has no frames.
    kept_records: Option<u64>,
    file_bytes: u64,
    damage: Vec<String>,
}

/// All segments; a few numbers for each.
#[derive(Debug)]
pub(super) struct Segments {
    views: Vec<SegmentView>,
}

impl Segments {
    pub(super) fn new(extents: &[SegmentExtent]) -> Self {
        let view = |extent: &SegmentExtent| SegmentView {
            base: extent.base,
            length_bytes: extent.length_bytes,
            frames: 0,
            first_index: None,
            last_index: None,
            first_time: None,
            last_time: None,
            used_bytes: 0,
            kept_records: None,
            file_bytes: extent.file_bytes,
            damage: Vec::new(),
        };
        Self { views: extents.iter().map(view).collect() }
    }

    /// Adds what a walk found to the segment that it begins in.
    pub(super) fn take(&mut self, found: &Found) {
        let (from, to) = range(found);
        let after = self.views.partition_point(|view| view.base <= from);
        let Some(view) = after.checked_sub(1).and_then(|at| self.views.get_mut(at)) else { return };
        match found {
            Found::Frame(frame) => {
                let header = &frame.header;
                view.frames += 1;
                view.first_index.get_or_insert(header.index);
                view.last_index = Some(header.index);
                let time = rfc3339(header.time_ms);
                view.first_time.get_or_insert_with(|| time.clone());
                view.last_time = Some(time);
                view.used_bytes = to - view.base;
                if frame.payload.is_none() {
                    view.damage.push(format!("payload of the frame at {from} does not hold"));
                }
            }
            Found::Condensed(condensed) => {
                view.kept_records = Some(condensed.records);
                view.first_time = condensed.times.map(|(first_ms, _)| rfc3339(first_ms));
                view.last_time = condensed.times.map(|(_, last_ms)| rfc3339(last_ms));
                view.damage.extend(condensed.damage.iter().map(ToString::to_string));
            }
            Found::Gap(gap) if gap.meaning == GapMeaning::Hole || gap.unreadable.is_some() => {
                view.damage.push(gap_text(gap));
            }
            Found::Gap(_) => {}
        }
    }

    pub(super) fn views(self, from: u64, to: u64) -> impl Iterator<Item = SegmentView> {
        // Where a condensed one ends is not known while its head is damaged.
        let is_wanted = move |v: &SegmentView| v.base + v.length_bytes.max(1) > from && v.base < to;
        self.views.into_iter().filter(is_wanted)
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

pub(super) fn segment_row(view: &SegmentView) -> String {
    let SegmentView { base, length_bytes, frames, .. } = view;
    let (first, last) = (or_dash(view.first_index), or_dash(view.last_index));
    let (since, until) = (or_dash(view.first_time.as_ref()), or_dash(view.last_time.as_ref()));
    let damage = if view.damage.is_empty() { "-".to_owned() } else { view.damage.join("; ") };
    let kept = match view.kept_records {
        None => "whole".to_owned(),
        Some(records) => format!("{records} records, {}", bytes(view.file_bytes)),
    };
    format!(
        "{base:020} {length_bytes:<11} {frames:<9} {first:<12} {last:<12} {since:<25} {until:<25} {kept:<24} {damage}"
    )
}

fn gap_text(gap: &Gap) -> String {
    let Gap { from, to, .. } = gap;
    match (gap.meaning, &gap.unreadable) {
        (_, Some(error)) => format!("[{from}, {to}) cannot be read: {error}"),
        (GapMeaning::Dropped, None) => format!("[{from}, {to}) is kept no more"),
        (_, None) if gap.is_missing => format!("[{from}, {to}) is in no file"),
        (GapMeaning::Unused, None) => format!("[{from}, {to}) unused"),
        (GapMeaning::Tail, None) => format!("[{from}, {to}) behind the last frame"),
        (GapMeaning::Hole, None) => format!("[{from}, {to}) holds no frame"),
    }
}

/// What is left of a segment that has no frames any more.
fn condensed_text(condensed: &FoundCondensed) -> String {
    let FoundCondensed { from, to, records, .. } = condensed;
    let damage: Vec<String> = condensed.damage.iter().map(ToString::to_string).collect();
    let damaged = if damage.is_empty() { "" } else { "; " };
    let damage = damage.join("; ");
    format!("[{from}, {to}) is condensed: {records} records are kept{damaged}{damage}")
}

/// A frame with every field of its header, or a stretch without frames.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(super) enum FrameLine {
    Frame {
        position: u64,
        bytes: u64,
        kind: &'static str,
        shard: u32,
        records: u32,
        term: u64,
        index: u64,
        first_record: u64,
        durable_index: u64,
        time: String,
        payload_bytes: u32,
        previous_checksum: String,
        payload_checksum: String,
        header_checksum: String,
        header_holds: bool,
        payload_holds: bool,
        follows: bool,
    },
    Gap {
        position: u64,
        bytes: u64,
        kind: &'static str,
        all_zeros: bool,
        text: String,
    },
}

impl From<Found> for FrameLine {
    fn from(found: Found) -> Self {
        let (position, to) = range(&found);
        let bytes = to - position;
        match found {
            Found::Frame(frame) => {
                let header = frame.header;
                let hex = |checksum: u32| format!("{checksum:08x}");
                Self::Frame {
                    position,
                    bytes,
                    kind: match header.kind {
                        FrameKind::Entry => "entry",
                        FrameKind::HardState => "hard state",
                    },
                    shard: header.shard,
                    records: header.records,
                    term: header.term,
                    index: header.index,
                    first_record: header.first_record,
                    durable_index: header.durable_index,
                    time: rfc3339(header.time_ms),
                    payload_bytes: header.payload_bytes,
                    previous_checksum: hex(header.previous_checksum),
                    payload_checksum: hex(header.payload_checksum),
                    header_checksum: hex(frame.checksum),
                    header_holds: true,
                    payload_holds: frame.payload.is_some(),
                    follows: frame.follows,
                }
            }
            Found::Condensed(condensed) => Self::Gap {
                position,
                bytes,
                kind: "condensed",
                all_zeros: false,
                text: condensed_text(&condensed),
            },
            Found::Gap(gap) => Self::Gap {
                position,
                bytes,
                kind: match gap.meaning {
                    GapMeaning::Unused => "unused",
                    GapMeaning::Hole => "hole",
                    GapMeaning::Tail => "tail",
                    GapMeaning::Dropped => "dropped",
                },
                all_zeros: !gap.has_bytes && !gap.is_missing && gap.unreadable.is_none(),
                text: gap_text(&gap),
            },
        }
    }
}

pub(super) fn frame_row(line: &FrameLine) -> String {
    match line {
        FrameLine::Gap { position, kind, text, .. } => format!("{position:020} {kind:<11} {text}"),
        FrameLine::Frame {
            position,
            kind,
            index,
            term,
            records,
            payload_bytes,
            durable_index,
            time,
            payload_holds,
            follows,
            ..
        } => {
            let checks = match (payload_holds, follows) {
                (true, true) => "hold",
                (false, true) => "payload does not hold",
                (true, false) => "does not follow",
                (false, false) => "payload does not hold, does not follow",
            };
            format!(
                "{position:020} {kind:<11} {index:<12} {term:<6} {records:<8} {payload_bytes:<9} {durable_index:<12} {time:<25} {checks}"
            )
        }
    }
}

/// A record, or why there is none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordLine {
    position: u64,
    length_bytes: u64,
    index: Option<u64>,
    record: String,
    fields: Map<String, Value>,
}

impl RecordLine {
    pub(super) fn new(
        position: u64,
        length_bytes: u64,
        header: &FrameHeader,
        record: Result<Record, RecordError>,
        bodies: bool,
    ) -> Self {
        let (name, fields) = match record {
            Ok(record) => fields::of(record, bodies),
            Err(error) => ("unreadable".to_owned(), fields::one("reason", error.to_string())),
        };
        Self { position, length_bytes, index: Some(header.index), record: name, fields }
    }

    /// The records of a frame whose payload does not hold.
    pub(super) fn unreadable(header: &FrameHeader) -> Self {
        Self {
            position: header.position,
            length_bytes: header.frame_bytes(),
            index: Some(header.index),
            record: "unreadable".to_owned(),
            fields: fields::one("reason", "the payload of the frame does not hold"),
        }
    }

    /// A record that is kept of a condensed segment; which entry it was part of is not.
    pub(super) fn kept(logged: LoggedRecord, bodies: bool) -> Self {
        let (record, fields) = fields::of(logged.record, bodies);
        let length_bytes = u64::from(logged.length_bytes);
        Self { position: logged.position, length_bytes, index: None, record, fields }
    }

    /// Only what is live is kept here.
    pub(super) fn condensed(condensed: &FoundCondensed) -> Self {
        Self {
            position: condensed.from,
            length_bytes: condensed.to - condensed.from,
            index: None,
            record: "condensed".to_owned(),
            fields: fields::one("reason", condensed_text(condensed)),
        }
    }

    /// Frames are lost here.
    pub(super) fn hole(gap: &Gap) -> Self {
        let record = "hole".to_owned();
        let fields = fields::one("reason", gap_text(gap));
        Self { position: gap.from, length_bytes: gap.to - gap.from, index: None, record, fields }
    }
}

pub(super) fn record_row(line: &RecordLine) -> String {
    let RecordLine { position, length_bytes, record, .. } = line;
    let index = or_dash(line.index);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fields: Vec<String> =
        line.fields.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
    format!("{position:020} {length_bytes:<9} {index:<12} {record:<18} {}", fields.join(" "))
}
