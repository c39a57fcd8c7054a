//! Why a cluster's reconcile goes no further: something to tell of, or something to try again. Nothing is written here.

use std::time::Duration;

use crate::error::Error;
use crate::verdict::Verdict;

/// Reason: Kubernetes takes an object from nobody now, for example because a quota is used up.
const FORBIDDEN: &str = "ForbiddenByKubernetes";
/// When what was forbidden is tried again: nothing tells that a quota has grown or an admission changed.
const FORBIDDEN_AGAIN: Duration = Duration::from_secs(15);

/// Why.
#[derive(Debug)]
pub enum Halt {
    /// What its conditions are to say.
    Told(Verdict),
    /// What another attempt may mend.
    Failed(Error),
}

impl From<Verdict> for Halt {
    fn from(verdict: Verdict) -> Self {
        Self::Told(verdict)
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Halt {
    /// What its conditions are to say; for an object that Kubernetes does not take, its words.
    ///
    /// # Errors
    /// What another attempt may mend.
    pub fn verdict(self) -> Result<Verdict, Error> {
        match self {
            Self::Told(verdict) => Ok(verdict),
            Self::Failed(error) => refused(error, "the BrokerCluster", "RefusedByKubernetes"),
        }
    }
}

/// What is to be said of an object that Kubernetes does not take as `who` says; with this reason, when it will never.
///
/// # Errors
/// Everything else.
pub(super) fn refused(error: Error, who: &str, word: &'static str) -> Result<Verdict, Error> {
    let Error::Apply { what, source } = error else { return Err(error) };
    match *source {
        kube::Error::Api(error) if is_for_good(&error) => {
            let message =
                format!("Kubernetes does not take {what} as {who} says: {}", error.message);
            Ok(Verdict::stalled(word, message))
        }
        kube::Error::Api(error) if error.code == 403 => {
            let message = format!(
                "Kubernetes forbids {what}, and is asked again every {} s: {}",
                FORBIDDEN_AGAIN.as_secs(),
                error.message
            );
            Ok(Verdict::waiting(FORBIDDEN, message))
        }
        source => Err(Error::Apply { what, source: Box::new(source) }),
    }
}

/// Whether another attempt would be answered in the same way. Two entries of one key in a list that is applied are answered
/// as an error of the API server's own.
fn is_for_good(error: &kube::core::Status) -> bool {
    matches!(error.code, 400 | 422)
        || error.message.starts_with("failed to create typed patch object")
}

/// When to look again after this was said; none when whatever mends it is heard of.
#[must_use]
pub(super) fn again_after(verdict: &Verdict) -> Option<Duration> {
    (verdict.reason().word == FORBIDDEN).then_some(FORBIDDEN_AGAIN)
}
