//! Who may have how many of the files that the process may open: the log first, connections the rest. A log that cannot open
//! its next segment ends the broker; a connection that finds no place comes again.

use crate::cli::failure::Failure;

/// Standard streams, runtimes, ports, files that are read at the start, and some to spare.
const OWN: u64 = 96;
/// Files of a shard that are there whatever it holds: its segment, the next one, the reserve, what is sealed.
const PER_SHARD: u64 = 16;
/// Files of a full segment: read in two ways, and its index.
const PER_SEGMENT: u64 = 3;
/// The log has at most three parts in four, however large the volume is.
const LOG_PART: (u64, u64) = (3, 4);
/// With fewer there is no use in starting.
const CONNECTIONS_MIN: u64 = 64;
/// The ports for probes and for the admin have one part in eight of the rest each.
const SIDE_PART: u64 = 8;

/// Connections open at one time on the port of the messaging clients, at most.
const MESSAGING_MAX: u64 = 16_384;
/// On the admin port.
const ADMIN_MAX: u64 = 256;
/// On the http port.
const HTTP_MAX: u64 = 256;

/// Connections that each port may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    pub(super) messaging: usize,
    pub(super) admin: usize,
    pub(super) http: usize,
}

/// What connections may have of `limit` open files, with so many shards on a volume that has room for so many segments.
///
/// # Errors
/// Wrong input: the limit is too small.
pub(super) fn connection_limits(
    limit: u64,
    shards: u64,
    segments: u64,
) -> Result<ConnectionLimits, Failure> {
    let least = OWN.saturating_add(PER_SHARD.saturating_mul(shards));
    let log = least.saturating_add(PER_SEGMENT.saturating_mul(segments));
    let log_max = (limit / LOG_PART.1 * LOG_PART.0).min(limit.saturating_sub(CONNECTIONS_MIN));
    let log = log.min(log_max).max(least);
    let left = limit.saturating_sub(log);
    if left < CONNECTIONS_MIN {
        let needed = least.saturating_add(CONNECTIONS_MIN);
        return Err(Failure::input(format!(
            "this process may open {limit} files; {shards} shards and their clients need at least {needed}: \
             raise the limit (ulimit -n, LimitNOFILE)"
        )));
    }
    let (admin, http) = ((left / SIDE_PART).min(ADMIN_MAX), (left / SIDE_PART).min(HTTP_MAX));
    let messaging = (left - admin - http).min(MESSAGING_MAX);
    let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(ConnectionLimits { messaging: count(messaging), admin: count(admin), http: count(http) })
}

/// Raises the limit of open files as far as the system lets us, and tells it. The soft limit is often 1024 while the hard one is
/// large.
pub(super) fn raise_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let in_force = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            limit.current
        }
    };
    in_force.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_what_the_log_does_not_need() {
        let all = |limit, shards, segments| {
            let limits = connection_limits(limit, shards, segments).unwrap();
            [limits.messaging, limits.admin, limits.http]
        };
        assert_eq!(all(u64::MAX, 1, 10_000), [16_384, 256, 256]);
        assert_eq!(all(1 << 20, 3, 1_000), [16_384, 256, 256]);
        assert_eq!(all(4_096, 1, 500), [1_972, 256, 256]);
        for limit in (300..20_000).step_by(100) {
            for segments in [0, 100, 1_000_000, u64::MAX] {
                let connections: usize = all(limit, 2, segments).iter().sum();
                assert!(connections as u64 + OWN + 2 * PER_SHARD <= limit, "{limit}, {segments}");
            }
        }
    }

    #[test]
    fn too_few_files_are_named() {
        let refused = connection_limits(100, 1, 0).unwrap_err().to_string();
        assert!(refused.contains("100 files") && refused.contains("at least 176"), "{refused}");
        assert!(connection_limits(176, 1, u64::MAX).is_ok());
    }
}
