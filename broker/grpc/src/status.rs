//! One table: what went wrong inside -> the code that clients get (protocol section 2). Business failures ride in
//! answers whose gRPC status is OK; only the admin service answers with gRPC codes.

use std::borrow::Cow;

use broker_engine::Refusal;
use broker_model::{FilterError, NameError};
use broker_proto::rocketmq::{self as wire, Code};
use broker_replication::CatalogError;

/// Why a request is not carried out: a code for the client, a sentence for its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: Cow<'static, str>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// For what is legal, but not built.
    pub(crate) fn not_served(what: &str) -> Self {
        Self::new(Code::NotImplemented, format!("{what} is not served yet"))
    }

    /// An illegal topic name.
    pub(crate) fn topic_name(error: &NameError) -> Self {
        Self::new(Code::IllegalTopic, error.to_string())
    }

    /// An illegal consumer group name.
    pub(crate) fn group_name(error: &NameError) -> Self {
        Self::new(Code::IllegalConsumerGroup, error.to_string())
    }

    pub(crate) fn topic_not_found(name: &str) -> Self {
        Self::new(Code::TopicNotFound, format!("topic {name} does not exist; create it first"))
    }

    /// The answer to ack, change and forward: a delivery whose topic or group is gone can never be settled, and clients
    /// stop repeating on this one code only (protocol section 2.3).
    pub(crate) fn settling(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TopicNotFound(_) | Refusal::GroupNotFound(_) => Refusal::InvalidHandle.into(),
            other => other.into(),
        }
    }

    pub(crate) fn into_status(self) -> wire::Status {
        wire::Status { code: self.code.into(), message: self.message.into_owned() }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::TopicNotFound(_) => Code::TopicNotFound,
            Refusal::GroupNotFound(_) => Code::ConsumerGroupNotFound,
            Refusal::NotWritable(_) | Refusal::NotReadable(_) | Refusal::GroupInUse(_) => {
                Code::Forbidden
            }
            Refusal::InvalidHandle | Refusal::ForeignHandle => Code::InvalidReceiptHandle,
            // The one code after which producers pause before they try again.
            Refusal::LayoutChanges(_)
            | Refusal::TooMany(_)
            | Refusal::TooManyResets { .. }
            | Refusal::DiskFull
            | Refusal::NoRoom => Code::TooManyRequests,
            Refusal::SendTooLarge { .. } => Code::PayloadTooLarge,
            Refusal::TooManyLiteTopics => Code::LiteTopicQuotaExceeded,
            // Not MESSAGE_NOT_FOUND: some clients take that for success (protocol section 7.3).
            Refusal::QueueNotFound { .. } | Refusal::NotTimed | Refusal::ResetDiffers { .. } => {
                Code::BadRequest
            }
            Refusal::OffsetOutOfRange { .. } => Code::IllegalOffset,
            Refusal::TransactionNotFound => Code::NotFound,
            Refusal::TransactionEnded { .. } => Code::PreconditionFailed,
            Refusal::LogFailed(_) => Code::InternalServerError,
            // The one code of its own: nothing else answers with it, and clients try another queue.
            Refusal::ReadOnly(_) => Code::MasterPersistenceTimeout,
            Refusal::Unavailable => Code::HaNotAvailable,
        };
        Self::new(code, refusal.to_string())
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        let code = match error {
            CatalogError::Shard(refusal) => return refusal.into(),
            CatalogError::Illegal(_) => Code::BadRequest,
            CatalogError::Deleted(_) => Code::ConsumerGroupNotFound,
            CatalogError::Limit(_) => Code::TooManyRequests,
            CatalogError::Differs(_)
            | CatalogError::OwnedByAnother(_)
            | CatalogError::WrongVersion { .. } => Code::PreconditionFailed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        Self::new(Code::IllegalFilterExpression, error.to_string())
    }
}

/// The status of success.
pub(crate) fn ok() -> wire::Status {
    wire::Status { code: Code::Ok.into(), message: "OK".to_owned() }
}

/// The summary over the entries of a send or an acknowledge: one code for all -> that status; several ->
/// MULTIPLE_RESULTS; none -> an error, because some clients index the first entry (protocol section 2.1).
pub(crate) fn summary<'a>(
    mut entries: impl Iterator<Item = Option<&'a wire::Status>>,
) -> wire::Status {
    let Some(first) = entries.next().flatten() else {
        return Failure::new(Code::InternalServerError, "the request has no entries").into_status();
    };
    if entries.all(|entry| entry.is_some_and(|status| status.code == first.code)) {
        return first.clone();
    }
    Failure::new(Code::MultipleResults, "the entries have different results; see each one")
        .into_status()
}

/// A gRPC status for the admin service, whose failures are gRPC codes (admin.proto).
pub(crate) fn admin_failure(error: CatalogError) -> tonic::Status {
    let message = error.to_string();
    match error {
        CatalogError::Illegal(_) => tonic::Status::invalid_argument(message),
        CatalogError::Deleted(_) => tonic::Status::not_found(message),
        CatalogError::Differs(_) => tonic::Status::already_exists(message),
        CatalogError::OwnedByAnother(_) | CatalogError::WrongVersion { .. } => {
            tonic::Status::failed_precondition(message)
        }
        CatalogError::Limit(_) => tonic::Status::resource_exhausted(message),
        CatalogError::Shard(refusal) => admin_refusal(&refusal),
    }
}

/// As [`admin_failure`], for what a shard said.
pub(crate) fn admin_refusal(refusal: &Refusal) -> tonic::Status {
    let message = refusal.to_string();
    match refusal {
        Refusal::TopicNotFound(_) | Refusal::GroupNotFound(_) => tonic::Status::not_found(message),
        Refusal::NotWritable(_)
        | Refusal::NotReadable(_)
        | Refusal::GroupInUse(_)
        | Refusal::InvalidHandle
        | Refusal::ForeignHandle => tonic::Status::failed_precondition(message),
        Refusal::QueueNotFound { .. }
        | Refusal::OffsetOutOfRange { .. }
        | Refusal::NotTimed
        | Refusal::ResetDiffers { .. }
        | Refusal::TransactionNotFound
        | Refusal::TransactionEnded { .. } => tonic::Status::failed_precondition(message),
        Refusal::TooMany(_)
        | Refusal::TooManyResets { .. }
        | Refusal::TooManyLiteTopics
        | Refusal::DiskFull
        | Refusal::NoRoom => tonic::Status::resource_exhausted(message),
        Refusal::SendTooLarge { .. } => tonic::Status::invalid_argument(message),
        Refusal::LogFailed(_) => tonic::Status::internal(message),
        Refusal::ReadOnly(_) => tonic::Status::failed_precondition(message),
        Refusal::LayoutChanges(_) | Refusal::Unavailable => tonic::Status::unavailable(message),
    }
}

#[cfg(test)]
mod tests;
