//! Whether the process lives, and whether it serves. Ready means: every shard leads or is read-only because its log is
//! damaged, and the manifests were applied once. The reason for anything else is a text for people.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use broker_grpc::BrokerContext;
use broker_replication::{ShardHandle, ShardStatus};

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// Logs are being opened, and manifests applied.
    #[default]
    Starting,
    /// Everything is served.
    Serving,
    /// On the way down.
    Stopping,
}

/// Shared by everyone who asks or tells.
#[derive(Debug, Default)]
pub(crate) struct Health {
    phase: Mutex<Phase>,
    context: OnceLock<Arc<BrokerContext>>,
}

impl Health {
    /// Tells what the process is doing from now on.
    pub(crate) fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Tells that the shards are open; only the first time counts.
    pub(crate) fn opened(&self, context: Arc<BrokerContext>) {
        // There is one context in a process.
        let _ = self.context.set(context);
    }

    /// What is served, once the shards are open.
    pub(crate) fn context(&self) -> Option<&BrokerContext> {
        self.context.get().map(Arc::as_ref)
    }

    /// What is damaged, one line for each read-only shard.
    pub(crate) fn damages(&self) -> Vec<String> {
        let shards = self.context().map(|context| context.catalog.shards()).unwrap_or_default();
        let damage = |shard: &ShardHandle| {
            let damage = shard.status().damage?;
            Some(format!("{} is read-only: {damage}", shard.name()))
        };
        shards.iter().filter_map(damage).collect()
    }

    /// What people should know of a broker that is ready, one line each: damage, and manifests that are not in force.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = self.damages();
        let manifests = self.context().and_then(BrokerContext::manifests);
        if let Some(manifests) = manifests.filter(|manifests| !manifests.in_force) {
            let (total, told) = (manifests.problems_total, manifests.problems.len());
            remarks.push(format!(
                "manifests are not in force: {total} problems in {}",
                manifests.directory
            ));
            remarks.extend(manifests.problems);
            if total as usize > told {
                remarks.push("and more; see the log".to_owned());
            }
        }
        remarks
    }

    /// # Errors
    /// Why requests should not be sent here now.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if phase == Phase::Stopping {
            return Err("stopping".to_owned());
        }
        let Some(context) = self.context() else {
            return Err("opening the logs".to_owned());
        };
        for shard in context.catalog.shards() {
            judge(shard.name(), &shard.status())?;
        }
        match phase {
            Phase::Serving => Ok(()),
            Phase::Starting | Phase::Stopping => Err("applying the manifests".to_owned()),
        }
    }
}

fn judge(name: &str, status: &ShardStatus) -> Result<(), String> {
    match &status.failure {
        Some(failure) => Err(format!("{name} has failed: {failure}")),
        None if status.role == "leader" || status.damage.is_some() => Ok(()),
        None => Err(format!("{name} does not lead yet, it is {}", status.role)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_failed_or_does_not_lead_is_named() {
        let status = |role, failure: Option<&str>| ShardStatus {
            refuses_sends: false,
            append_times: broker_replication::AppendTimesSeen::default(),
            sealed_segments: 0,
            sealing_failures: 0,
            role,
            log_bytes: 0,
            durable_index: 0,
            failure: failure.map(str::to_owned),
            damage: None,
            oldest_ms: None,
        };
        assert_eq!(judge("shard-1", &status("leader", None)), Ok(()));
        let failed =
            judge("shard-1", &status("failed", Some("sync a.seg: I/O error"))).unwrap_err();
        assert!(failed.contains("shard-1") && failed.contains("I/O error"), "{failed}");
        assert!(judge("shard-1", &status("candidate", None)).unwrap_err().contains("candidate"));
    }

    #[test]
    fn a_process_that_opens_its_logs_is_not_ready() {
        let health = Health::default();
        assert_eq!(health.readiness(), Err("opening the logs".to_owned()));
        health.enter(Phase::Stopping);
        assert_eq!(health.readiness(), Err("stopping".to_owned()));
    }
}
