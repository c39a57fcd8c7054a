//! How dead letters died: what the log says where they became dead letters. The state keeps only where they stand.

use std::collections::{BTreeSet, HashMap};

use broker_engine::Refusal;
use broker_store::record::Death;
use broker_store::{LoggedRecord, Record};

use super::search::Search;

/// By offset in the dead-letter topic, of those that the log knows it of.
pub(super) fn run(
    search: Search<'_>,
    topic: u32,
    mut offsets: BTreeSet<u64>,
) -> Result<HashMap<u64, Death>, Refusal> {
    let mut deaths = HashMap::new();
    for record in search {
        let LoggedRecord { record, .. } = record?;
        let Record::DeadLetter { stands: Some(stands), .. } = record else { continue };
        if stands.reference.topic == topic && offsets.remove(&stands.reference.offset) {
            deaths.extend(stands.death.map(|death| (stands.reference.offset, death)));
            if offsets.is_empty() {
                break;
            }
        }
    }
    Ok(deaths)
}
