//! On what the process died: a panic in a shard's thread leaves a small file in the directory of its log, and a start that
//! would die on the same thing once more says so instead. A broker that has served for a while, or ended as it should,
//! takes the file away.

use std::io;
use std::panic::{self, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker_model::{ShardId, shard_name};
use broker_replication::{AtHand, at_hand};
use broker_store::left_out::DIED_FILE;
use broker_store::reader::log_directory;

use super::whole_file;
use crate::cli::failure::Failure;

/// Starts that die on the same thing before the next one refuses.
const DEATHS_MAX: u32 = 3;
/// A broker that has served for so long did not die of its start.
const SERVED: Duration = Duration::from_secs(60);

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Death {
    /// Log position of the record; none in upkeep.
    position: Option<u64>,
    deaths: u32,
    /// Place and words of the panic, in one line.
    what: String,
}

/// Notes the death of this process from now on, beside what is told of it anyway.
pub(crate) fn note_from_now_on(data: &Path) {
    let data = data.to_owned();
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        tell(info);
        if let Some(work) = at_hand() {
            // There is nobody left to hear of an error.
            let _ = note(&data, work, &words(info));
        }
    }));
}

fn words(info: &PanicHookInfo<'_>) -> String {
    let place =
        info.location().map_or_else(String::new, |at| format!("{}:{}: ", at.file(), at.line()));
    let text = info.payload_as_str().unwrap_or("a panic");
    format!("{place}{text}").replace('\n', " ")
}

fn note(data: &Path, work: AtHand, what: &str) -> io::Result<()> {
    let (shard, position) = match work {
        AtHand::Record { shard, position } => (shard, Some(position)),
        AtHand::Upkeep { shard } => (shard, None),
    };
    let directory = data.join(log_directory(ShardId(shard)));
    let before = read(&directory)?.filter(|before| before.position == position);
    let deaths = before.map_or(0, |before| before.deaths).saturating_add(1);
    let position = position.map_or_else(|| "-".to_owned(), |position| position.to_string());
    let text = format!("position: {position}\ndeaths: {deaths}\nwhat: {what}\n");
    whole_file::replace(&directory, DIED_FILE, text.as_bytes())
}

fn read(directory: &Path) -> io::Result<Option<Death>> {
    let Some(bytes) = whole_file::read(directory, DIED_FILE)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    Ok(value("deaths: ").and_then(|deaths| deaths.parse().ok()).map(|deaths| Death {
        position: value("position: ").and_then(|position| position.parse().ok()),
        deaths,
        what: value("what: ").unwrap_or_default().to_owned(),
    }))
}

/// # Errors
/// When the last starts died on the same thing in this shard; the text says what can be done.
pub(crate) fn check(data: &Path, shard: ShardId) -> Result<(), Failure> {
    let directory = data.join(log_directory(shard));
    let death = read(&directory).map_err(|error| {
        Failure::runtime(format!("cannot read {}: {error}", directory.display()))
    })?;
    let Some(Death { position, deaths, what }) = death.filter(|death| death.deaths >= DEATHS_MAX)
    else {
        return Ok(());
    };
    let (name, data) = (shard_name(shard), data.display());
    let repair = format!("pinnace repair --data {data} --shard {} --leave-out", shard.0);
    let file = directory.join(DIED_FILE);
    let file = file.display();
    Err(Failure::runtime(match position {
        Some(position) => format!(
            "the last {deaths} starts died on the record at log position {position} of {name} ({what}); '{repair} {position} \
             --dry-run' says what becomes of it when it is left out. To try once more, remove {file}"
        ),
        None => format!(
            "the last {deaths} starts of {name} died soon, in the work that time causes ({what}); which record is behind it is \
             not known: 'pinnace inspect records' shows the put-topic and put-group records with their settings, and \
             '{repair} POSITION --dry-run' says what becomes of one when it is left out. To try once more, remove {file}"
        ),
    }))
}

/// Takes the files away once the broker has served for a while.
pub(crate) async fn forget_later(data: PathBuf) {
    tokio::time::sleep(SERVED).await;
    forget(&data);
}

/// Takes the files away.
pub(crate) fn forget(data: &Path) {
    for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
        let file = entry.path().join("log").join(DIED_FILE);
        match std::fs::remove_file(&file) {
            Err(error)
                if error.kind() != io::ErrorKind::NotFound
                    && error.kind() != io::ErrorKind::NotADirectory =>
            {
                tracing::warn!("{} cannot be removed: {error}", file.display());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_deaths_on_one_record_are_refused_and_others_are_not() {
        let data = tempfile::tempdir().unwrap();
        let (shard, other) = (ShardId(4), ShardId(5));
        for id in [shard, other] {
            std::fs::create_dir_all(data.path().join(log_directory(id))).unwrap();
        }
        let die = |work| note(data.path(), work, "lite_topic.rs:122: overflow").unwrap();
        let record = |position| AtHand::Record { shard: 4, position };
        for work in
            [record(7), record(7), record(9), AtHand::Upkeep { shard: 4 }, record(9), record(9)]
        {
            die(work);
            assert!(check(data.path(), shard).is_ok(), "{work:?}");
        }
        die(record(9));
        let text = check(data.path(), shard).unwrap_err().to_string();
        for part in ["log position 9 of shard-4", "lite_topic.rs:122", "--shard 4 --leave-out 9"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(check(data.path(), other).is_ok());
        forget(data.path());
        assert!(check(data.path(), shard).is_ok());
        for _ in 0..3 {
            die(AtHand::Upkeep { shard: 5 });
        }
        let text = check(data.path(), other).unwrap_err().to_string();
        assert!(text.contains("in the work that time causes"), "{text}");
    }
}
