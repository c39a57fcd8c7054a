//! Searches at the end of a history: by key, with whatever key tables came of it, they find what a plain reading finds.

use std::collections::BTreeMap;

use broker_model::key_hash;
use broker_store::reader::KeyTables;
use broker_store::{LogReader, TopicKey};
use bytes::Bytes;

use crate::world::World;

/// Keys that are looked for, spread over all that were stored.
const SEARCHES_MAX: usize = 24;

/// Compares searches by key with a reading of the log.
///
/// # Errors
/// The first that differs.
pub fn check_searches(world: &World) -> Result<(), String> {
    let Some(process) = &world.process else { return Ok(()) };
    let (reader, log) = (process.replica.reader(), process.replica.log());
    let end = log.durable_position();
    // The whole head is the key.
    let mut stored: BTreeMap<(u32, Bytes), Vec<u64>> = BTreeMap::new();
    for record in reader.records(reader.begin(), end) {
        let record = record.map_err(|error| format!("a search reads the log: {error}"))?;
        if let Some(message) = record.record.into_message() {
            let head = Bytes::copy_from_slice(&message.head);
            stored.entry((message.topic, head)).or_default().push(record.position);
        }
    }
    let directory = &world.options.directory;
    let tables = KeyTables { disk: &world.disk, directory };
    let step = stored.len() / SEARCHES_MAX + 1;
    for ((topic, head), places) in stored.iter().step_by(step) {
        let found = search(&reader, tables, (*topic, head), end)?;
        if found != *places {
            let head = String::from_utf8_lossy(head);
            return Err(format!("a search for {head:?} finds {found:?} and not {places:?}"));
        }
    }
    Ok(())
}

fn search(
    reader: &LogReader,
    tables: KeyTables<'_>,
    (topic, head): (u32, &Bytes),
    end: u64,
) -> Result<Vec<u64>, String> {
    let key = TopicKey { topic, hash: key_hash(head) };
    let failed = |error| format!("a search by key reads the log: {error}");
    let mut records = reader.records_of_key(tables, key, 0..=u64::MAX, end).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(step) = records.step() {
        let Some(record) = step.map_err(failed)? else { continue };
        let message = record.record.into_message();
        if message.is_some_and(|message| message.topic == topic && message.head == *head) {
            found.push(record.position);
        }
    }
    Ok(found)
}
