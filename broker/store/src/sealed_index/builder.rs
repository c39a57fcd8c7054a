//! Making the index of a segment: from what the state machine says came to stand where, or from the segment alone.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crc32c::crc32c;

use super::directory::{self, ELSEWHERE_BYTES, HEADER_BYTES, LINE_BYTES, Line, encode_header};
use super::{
    BLOCK_ENTRIES, Columns, Elsewhere, IndexEntry, IndexError, IndexFailure, SealedIndex,
    SealedRun, index_path,
};
use crate::disk::Disk;
use crate::read_back::{create_compared, differs};
use crate::reader::{LoggedRecord, ReadError, Records};
use crate::record::{Place, Record, Reference};
use crate::segments::{Segment, UNFINISHED_INDEX};

/// The runs of a sealed segment, and whether its index was built just now from the segment, because there was none that
/// could be used. What is built from a damaged segment ends where the damage begins: see to it that nothing misses.
///
/// # Errors
/// [`BuildError`] when the segment does not tell its index either.
pub fn open_or_build(
    disk: &dyn Disk,
    directory: &Path,
    shard: u32,
    segment: &Segment,
    failure: &IndexFailure,
    segment_of: &dyn Fn(u64) -> u64,
) -> Result<(Vec<SealedRun>, bool), BuildError> {
    match SealedIndex::open(disk, directory, shard, segment.base, failure) {
        Ok(runs) => return Ok((runs, false)),
        Err(IndexError::Disk(error)) if !error.is_missing => {
            return Err(IndexError::Disk(error).into());
        }
        Err(_) => {}
    }
    let builder = IndexBuilder::of_segment(shard, segment)?;
    builder.write(disk, directory, segment_of)?;
    Ok((SealedIndex::open(disk, directory, shard, segment.base, failure)?, true))
}

/// Messages of one queue whose offsets follow each other.
#[derive(Debug)]
struct Run {
    topic: u32,
    queue: u32,
    first: u64,
    entries: Vec<IndexEntry>,
    message_groups: Vec<u64>,
    origins: Vec<Place>,
}

/// The index of one segment while it is being made.
#[derive(Debug)]
pub struct IndexBuilder {
    shard: u32,
    base: u64,
    runs: Vec<Run>,
    /// The run of each queue that goes on.
    open: HashMap<(u32, u32), usize>,
}

/// Why a segment alone does not tell its index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The index file cannot be read or written.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl IndexBuilder {
    /// An empty index for the segment at `base`.
    #[must_use]
    pub fn new(shard: u32, base: u64) -> Self {
        Self { shard, base, runs: Vec::new(), open: HashMap::new() }
    }

    /// Reads a segment and takes in every message that came to stand in a queue there. References of format 1 do not say
    /// where; what is left out shows as a gap in its queue.
    ///
    /// # Errors
    /// [`BuildError`].
    pub(crate) fn of_segment(shard: u32, segment: &Segment) -> Result<Self, BuildError> {
        let mut builder = Self::new(shard, segment.base);
        if let Some(records) = segment.condensed_records(shard) {
            for logged in records {
                match logged {
                    Ok(logged) => builder.take(&logged),
                    // What it placed is missing, which is noticed when a queue has a gap.
                    Err(ReadError::Damaged { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok(builder);
        }
        let one = std::slice::from_ref(segment);
        for logged in Records::new(shard, one, segment.base, segment.end()) {
            match logged {
                Ok(logged) => builder.take(&logged),
                // The unused rest. Damage ends the index early too, which is noticed when a queue has a gap.
                Err(ReadError::DamagedFrame(_)) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(builder)
    }

    fn take(&mut self, logged: &LoggedRecord) {
        let stored_ms = logged.time_ms;
        let entry = |reference: &Reference, origin| IndexEntry {
            position: reference.position,
            tag_hash: reference.tag_hash,
            stored_ms,
            length_bytes: reference.length_bytes,
            origin,
        };
        match &logged.record {
            Record::Message(message) => {
                let entry = IndexEntry {
                    position: logged.position,
                    tag_hash: message.tag_hash,
                    stored_ms,
                    length_bytes: logged.length_bytes,
                    origin: 0,
                };
                let place = (message.topic, message.queue, message.offset);
                self.push(place, entry, message.message_group_hash, None);
            }
            Record::Due { stands: Some(to), .. }
            | Record::EndTransaction { stands: Some(to), .. } => {
                self.push((to.topic, to.queue, to.offset), entry(to, 0), 0, None);
            }
            Record::DeadLetter { place, stands: Some(stands) } => {
                let to = &stands.reference;
                let entry = entry(to, stands.origin_topic);
                self.push((to.topic, to.queue, to.offset), entry, 0, Some(*place));
            }
            _ => {}
        }
    }

    /// Takes in a message that stands at (topic, queue, offset).
    pub fn push(
        &mut self,
        (topic, queue, offset): (u32, u32, u64),
        entry: IndexEntry,
        message_group_hash: u64,
        origin: Option<Place>,
    ) {
        let known = self.open.get(&(topic, queue)).copied();
        let goes_on = known.filter(|run| self.runs[*run].end() == offset);
        let number = goes_on.unwrap_or(self.runs.len());
        if goes_on.is_none() {
            self.open.insert((topic, queue), number);
            self.runs.push(Run {
                topic,
                queue,
                first: offset,
                entries: Vec::new(),
                message_groups: Vec::new(),
                origins: Vec::new(),
            });
        }
        let run = &mut self.runs[number];
        run.entries.push(entry);
        run.message_groups.push(message_group_hash);
        run.origins.extend(origin);
    }

    /// Writes the file durably and reads it back, entry by entry; then it replaces one of the same name.
    ///
    /// # Errors
    /// [`IndexError`], also when what was written says something else.
    pub fn write(
        mut self,
        disk: &dyn Disk,
        directory: &Path,
        segment_of: &dyn Fn(u64) -> u64,
    ) -> Result<(), IndexError> {
        let path = index_path(directory, self.base);
        let unfinished = directory.join(UNFINISHED_INDEX);
        let (bytes, lines) = self.encode(segment_of);
        create_compared(disk, &unfinished, &bytes)?;
        drop(bytes);
        self.compare(disk, &unfinished, &lines)?;
        Ok(disk.rename(&unfinished, &path)?)
    }

    /// Whether the file at a path says what was put in here.
    fn compare(&self, disk: &dyn Disk, path: &Path, lines: &[Line]) -> Result<(), IndexError> {
        let differs = || IndexError::Disk(differs(path));
        let file = disk.open(path)?;
        if directory::read(&*file, path, self.shard, self.base)? != lines {
            return Err(differs());
        }
        let index = SealedIndex::of(path.to_owned(), file, self.base, &IndexFailure::default());
        for (run, line) in self.runs.iter().zip(lines) {
            let (mut place, mut at) = (line.at, 0);
            while at < run.entries.len() {
                let count = (run.entries.len() - at).min(BLOCK_ENTRIES as usize);
                let entries = u32::try_from(count).expect("no more than a block");
                let shape = line.columns.block(entries);
                let block = index.read_block(place, shape)?;
                let range = at..at + count;
                let is_same = block.entries == run.entries[range.clone()]
                    && (!line.columns.has_message_groups
                        || block.message_groups == run.message_groups[range.clone()])
                    && (!line.columns.has_origins || block.origins == run.origins[range]);
                if !is_same {
                    return Err(differs());
                }
                place += shape.bytes() as u64;
                at += count;
            }
        }
        Ok(())
    }

    /// The bytes of the file, and its directory. `segment_of` tells which segment a log position is in.
    fn encode(&mut self, segment_of: &dyn Fn(u64) -> u64) -> (Vec<u8>, Vec<Line>) {
        self.runs.sort_by_key(|run| (run.topic, run.queue, run.first));
        let mut lines: Vec<Line> = Vec::with_capacity(self.runs.len());
        // Where the blocks begin.
        let mut at = HEADER_BYTES;
        for run in &self.runs {
            let line = run.line(self.base, segment_of);
            at += LINE_BYTES + ELSEWHERE_BYTES * line.refers_to.len();
            lines.push(line);
        }
        let blocks_bytes: usize = lines.iter().map(Line::blocks_bytes).sum();
        // One piece of the size that it gets: with many small messages it is megabytes.
        let mut file = Vec::with_capacity(at + blocks_bytes);
        file.resize(at, 0);
        let mut directory = Vec::with_capacity(at - HEADER_BYTES);
        for (run, line) in self.runs.iter().zip(&mut lines) {
            line.at = file.len() as u64;
            run.encode_blocks(line, &mut file);
            line.encode(&mut directory);
        }
        debug_assert_eq!(file.len(), at + blocks_bytes);
        let count = u32::try_from(lines.len()).expect("a segment holds fewer messages");
        let header = encode_header(self.shard, self.base, &directory, count, file.len() as u64);
        file[..HEADER_BYTES].copy_from_slice(&header);
        file[HEADER_BYTES..at].copy_from_slice(&directory);
        (file, lines)
    }
}

impl Run {
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn line(&self, base: u64, segment_of: &dyn Fn(u64) -> u64) -> Line {
        let mut others: BTreeMap<u64, u64> = BTreeMap::new();
        for entry in &self.entries {
            let segment = segment_of(entry.position);
            if segment != base {
                *others.entry(segment).or_default() += u64::from(entry.length_bytes);
            }
        }
        Line {
            topic: self.topic,
            queue: self.queue,
            first: self.first,
            count: u32::try_from(self.entries.len()).expect("a segment holds fewer messages"),
            columns: Columns {
                has_message_groups: self.message_groups.iter().any(|hash| *hash != 0),
                has_origins: self.origins.len() == self.entries.len(),
            },
            last_ms: self.entries.iter().map(|entry| entry.stored_ms).max().unwrap_or(0),
            bytes: self.entries.iter().map(|entry| u64::from(entry.length_bytes)).sum(),
            at: 0,
            refers_to: others.into_iter().map(|(base, bytes)| Elsewhere { base, bytes }).collect(),
        }
    }

    fn encode_blocks(&self, line: &Line, bytes: &mut Vec<u8>) {
        let chunk = BLOCK_ENTRIES as usize;
        for (number, entries) in self.entries.chunks(chunk).enumerate() {
            let start = bytes.len();
            let range = number * chunk..number * chunk + entries.len();
            for entry in entries {
                for field in [entry.position, entry.tag_hash, entry.stored_ms] {
                    bytes.extend_from_slice(&field.to_le_bytes());
                }
                bytes.extend_from_slice(&entry.length_bytes.to_le_bytes());
                bytes.extend_from_slice(&entry.origin.to_le_bytes());
            }
            if line.columns.has_message_groups {
                let hashes = &self.message_groups[range.clone()];
                hashes.iter().for_each(|hash| bytes.extend_from_slice(&hash.to_le_bytes()));
            }
            if line.columns.has_origins {
                for place in &self.origins[range] {
                    for field in [place.group, place.topic, place.queue] {
                        bytes.extend_from_slice(&field.to_le_bytes());
                    }
                    bytes.extend_from_slice(&place.offset.to_le_bytes());
                }
            }
            let checksum = crc32c(&bytes[start..]);
            bytes.extend_from_slice(&checksum.to_le_bytes());
            debug_assert_eq!(
                bytes.len() - start,
                line.columns.block(u32::try_from(entries.len()).unwrap_or(0)).bytes()
            );
        }
    }
}
