//! Leader election by a Lease: one operator works, the others stand by. Times are measured here, by this process's own
//! clock, from the moment a change of the lease was seen; clocks of other machines are never compared. The rules of who
//! may take the lease are pure; the rest reads and writes the one object.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Without a sign of life for this long, the lease is free.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// The holder gives up when it could not renew for this long; before the lease is free for others.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two signs of life, and between two attempts to take the lease.
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// Time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// Who wants the lease.
#[derive(Clone)]
pub struct Election {
    /// Client of the API server.
    pub client: Client,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Name of this process, unlike any other's.
    pub identity: String,
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Election({}/{} as {})", self.namespace, self.name, self.identity)
    }
}

/// What was seen of the lease, and when by our own clock.
#[derive(Debug, Clone)]
struct Seen {
    record: (Option<String>, Option<MicroTime>),
    at: Instant,
}

/// What may be done with the lease now.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Create,
    Take,
    Wait,
}

/// Decides from the lease as it is and as it was seen before.
fn turn(lease: Option<&Lease>, identity: &str, seen: &mut Option<Seen>, now: Instant) -> Turn {
    let Some(lease) = lease else { return Turn::Create };
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.clone().unwrap_or_default();
    if holder.is_empty() || holder == identity {
        return Turn::Take;
    }
    let record = (spec.holder_identity, spec.renew_time);
    match seen {
        Some(before) if before.record == record => {
            let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default());
            let duration = Duration::from_secs(seconds.unwrap_or_default()).max(LEASE_DURATION);
            if now.duration_since(before.at) >= duration { Turn::Take } else { Turn::Wait }
        }
        _ => {
            *seen = Some(Seen { record, at: now });
            Turn::Wait
        }
    }
}

/// The lease as this process writes it.
fn renewed(lease: Option<Lease>, election: &Election, now: Timestamp) -> Lease {
    let mut lease = lease.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(election.name.clone()),
            namespace: Some(election.namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    let identity = Some(election.identity.clone());
    if spec.holder_identity != identity {
        spec.holder_identity = identity;
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
    }
    spec.lease_duration_seconds = i32::try_from(LEASE_DURATION.as_secs()).ok();
    spec.renew_time = Some(MicroTime(now));
    lease
}

impl Election {
    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until this process holds the lease; none when `stop` came first.
    pub async fn acquire(&self, stop: &CancellationToken) -> Option<Held> {
        info!(lease = %self.name, identity = %self.identity, "waits for the lease");
        let mut seen = None;
        loop {
            match self.attempt(&mut seen).await {
                Ok(Some(lease)) => {
                    info!(lease = %self.name, "holds the lease");
                    return Some(Held { election: self.clone(), lease });
                }
                Ok(None) => {}
                Err(error) => warn!(%error, lease = %self.name, "cannot take the lease yet"),
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = sleep(RETRY_PERIOD) => {}
            }
        }
    }

    async fn attempt(&self, seen: &mut Option<Seen>) -> Result<Option<Lease>, LeaseError> {
        let lease = within(self.api().get_opt(&self.name)).await?;
        let next = turn(lease.as_ref(), &self.identity, seen, Instant::now());
        let wanted = renewed(lease, self, Timestamp::now());
        // Creating fails when it exists, replacing when it changed since it was read: one of several wins.
        let written = match next {
            Turn::Wait => return Ok(None),
            Turn::Create => within(self.api().create(&PostParams::default(), &wanted)).await,
            Turn::Take => {
                let params = PostParams::default();
                within(self.api().replace(&self.name, &params, &wanted)).await
            }
        };
        match written {
            Ok(lease) => Ok(Some(lease)),
            Err(LeaseError::Kube(error)) if is_conflict(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Why the lease could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The API server's or the client's words.
    #[error("{0}")]
    Kube(Box<kube::Error>),
    /// No answer in time.
    #[error("no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    TimedOut,
    /// Somebody else has it.
    #[error("the lease was taken by another process")]
    Lost,
    /// No renewal for too long.
    #[error("the lease could not be renewed for {} s: {last}", RENEW_DEADLINE.as_secs())]
    Expired {
        /// What the last attempt said.
        last: String,
    },
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, LeaseError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| LeaseError::Kube(Box::new(error))),
        Err(_) => Err(LeaseError::TimedOut),
    }
}

/// The lease in the hands of this process.
#[derive(Debug)]
pub struct Held {
    election: Election,
    lease: Lease,
}

impl Held {
    /// Renews until `stop`, then gives the lease back so that the next one need not wait.
    ///
    /// # Errors
    /// When the lease is lost; the process must do nothing more.
    pub async fn keep(mut self, stop: &CancellationToken) -> Result<(), LeaseError> {
        let mut last_renewal = Instant::now();
        let mut ticks = interval(RETRY_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            match self.renew().await {
                Ok(()) => last_renewal = Instant::now(),
                Err(LeaseError::Lost) => return Err(LeaseError::Lost),
                Err(error) if last_renewal.elapsed() >= RENEW_DEADLINE => {
                    return Err(LeaseError::Expired { last: error.to_string() });
                }
                Err(error) => warn!(%error, "cannot renew the lease yet"),
            }
        }
        self.release().await;
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), LeaseError> {
        let wanted = renewed(Some(self.lease.clone()), &self.election, Timestamp::now());
        let api = self.election.api();
        let params = PostParams::default();
        match within(api.replace(&self.election.name, &params, &wanted)).await {
            Ok(lease) => self.lease = lease,
            // Somebody wrote it: still ours when only its labels changed, or when our own write timed out.
            Err(LeaseError::Kube(error)) if is_conflict(&error) => {
                let lease = within(api.get(&self.election.name)).await?;
                let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
                if holder != Some(&self.election.identity) {
                    return Err(LeaseError::Lost);
                }
                self.lease = lease;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn release(mut self) {
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = None;
        }
        let api = self.election.api();
        let params = PostParams::default();
        match within(api.replace(&self.election.name, &params, &self.lease)).await {
            Ok(_) => info!(lease = %self.election.name, "gave the lease back"),
            Err(error) => warn!(%error, "could not give the lease back; it runs out by itself"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed_s: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed_s).unwrap())),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn a_free_lease_and_our_own_are_taken_at_once() {
        let now = Instant::now();
        assert_eq!(turn(None, "a", &mut None, now), Turn::Create);
        assert_eq!(turn(Some(&lease("", 1)), "a", &mut None, now), Turn::Take);
        assert_eq!(turn(Some(&lease("a", 1)), "a", &mut None, now), Turn::Take);
        assert_eq!(turn(Some(&Lease::default()), "a", &mut None, now), Turn::Take);
    }

    #[test]
    fn a_silent_holder_loses_the_lease_after_its_duration_by_our_own_clock() {
        let start = Instant::now();
        let mut seen = None;
        assert_eq!(turn(Some(&lease("b", 1)), "a", &mut seen, start), Turn::Wait);
        let later = start + Duration::from_secs(14);
        assert_eq!(turn(Some(&lease("b", 1)), "a", &mut seen, later), Turn::Wait);
        let later = start + Duration::from_secs(15);
        assert_eq!(turn(Some(&lease("b", 1)), "a", &mut seen, later), Turn::Take);
    }

    #[test]
    fn a_sign_of_life_starts_the_time_again() {
        let start = Instant::now();
        let mut seen = None;
        turn(Some(&lease("b", 1)), "a", &mut seen, start);
        let later = start + Duration::from_secs(14);
        assert_eq!(turn(Some(&lease("b", 2)), "a", &mut seen, later), Turn::Wait);
        let later = start + Duration::from_secs(28);
        assert_eq!(turn(Some(&lease("b", 2)), "a", &mut seen, later), Turn::Wait);
        let later = start + Duration::from_secs(29);
        assert_eq!(turn(Some(&lease("b", 2)), "a", &mut seen, later), Turn::Take);
    }
}
