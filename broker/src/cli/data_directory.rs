//! The data directory that `inspect` and `repair` work on: which shard's log is meant, and who holds it.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::PathBuf;

use broker_model::{ShardId, shard_name};
use broker_store::log::LogOptions;
use broker_store::reader::log_directory;
use clap::Args;

use super::failure::Failure;
use crate::serve::format;

/// The arguments that name a log.
#[derive(Debug, Args)]
pub(crate) struct DataArguments {
    /// Data directory of a broker, or a copy of one.
    #[arg(long, value_name = "DIR", env = "PINNACE_DATA", default_value = "./pinnace-data")]
    pub(crate) data: PathBuf,
    /// Number of the shard; may be left out when the directory holds one.
    #[arg(long, value_name = "N")]
    pub(crate) shard: Option<u32>,
}

impl DataArguments {
    /// The log that is meant. Its segment size says nothing: nothing is created.
    ///
    /// # Errors
    /// Wrong input when there is no such log, or a failure when a later version wrote it.
    pub(crate) fn log(&self) -> Result<LogOptions, Failure> {
        let stored = self.stored_shards()?;
        let data = self.data.display();
        let names: Vec<String> = stored.iter().map(|id| shard_name(ShardId(*id))).collect();
        let shard = match (self.shard, stored.len()) {
            (Some(shard), _) if stored.contains(&shard) => shard,
            (Some(shard), 1..) => {
                let names = names.join(", ");
                return Err(Failure::input(format!("{data} holds no shard {shard}, only {names}")));
            }
            (_, 0) => {
                return Err(Failure::input(format!(
                    "{data} holds no shard; name the data directory of a broker with --data"
                )));
            }
            (None, 1) => stored.first().copied().unwrap_or_default(),
            (None, _) => {
                let names = names.join(", ");
                return Err(Failure::input(format!("{data} holds {names}; name one with --shard")));
            }
        };
        format::check(&self.data).map_err(|error| Failure::runtime(error.to_string()))?;
        let directory = self.data.join(log_directory(ShardId(shard)));
        Ok(LogOptions { shard, directory, segment_bytes: 0 })
    }

    fn stored_shards(&self) -> Result<BTreeSet<u32>, Failure> {
        let failed = |error: std::io::Error| {
            Failure::input(format!(
                "cannot read the data directory {}: {error}",
                self.data.display()
            ))
        };
        let mut stored = BTreeSet::new();
        for entry in std::fs::read_dir(&self.data).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let id =
                name.to_str().and_then(|name| name.strip_prefix("shard-")?.parse::<u32>().ok());
            stored.extend(id.filter(|_| entry.path().join("log").is_dir()));
        }
        Ok(stored)
    }

    /// Whether a running broker holds the directory. Changes nothing.
    pub(crate) fn is_held(&self) -> bool {
        let Ok(lock) = File::open(self.data.join("lock")) else { return false };
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}
