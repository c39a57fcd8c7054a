//! The table of codes, row by row.

use broker_model::{GroupName, Owner, TopicName};

use super::*;

fn status(code: Code) -> wire::Status {
    Failure::new(code, "x").into_status()
}

#[test]
fn every_refusal_has_the_code_of_the_protocol() {
    let topic = TopicName::parse("orders").unwrap();
    let group = GroupName::parse("billing").unwrap();
    let rows = [
        (Refusal::TopicNotFound(topic.clone()), Code::TopicNotFound, Code::InvalidReceiptHandle),
        (Refusal::GroupNotFound(group), Code::ConsumerGroupNotFound, Code::InvalidReceiptHandle),
        (Refusal::NotWritable(topic.clone()), Code::Forbidden, Code::Forbidden),
        (Refusal::NotReadable(topic.clone()), Code::Forbidden, Code::Forbidden),
        (Refusal::QueueNotFound { topic, queue: 9 }, Code::BadRequest, Code::BadRequest),
        (Refusal::OffsetOutOfRange { offset: 2, end: 1 }, Code::IllegalOffset, Code::IllegalOffset),
        (Refusal::NotTimed, Code::BadRequest, Code::BadRequest),
        (Refusal::TransactionNotFound, Code::NotFound, Code::NotFound),
        (
            Refusal::TransactionEnded { is_commit: true },
            Code::PreconditionFailed,
            Code::PreconditionFailed,
        ),
        (Refusal::TooManyLiteTopics, Code::LiteTopicQuotaExceeded, Code::LiteTopicQuotaExceeded),
        (Refusal::InvalidHandle, Code::InvalidReceiptHandle, Code::InvalidReceiptHandle),
        (Refusal::TooMany("x".into()), Code::TooManyRequests, Code::TooManyRequests),
        (
            Refusal::SendTooLarge { bytes: 2, bytes_max: 1 },
            Code::PayloadTooLarge,
            Code::PayloadTooLarge,
        ),
        (Refusal::DiskFull, Code::TooManyRequests, Code::TooManyRequests),
        (Refusal::NoRoom, Code::TooManyRequests, Code::TooManyRequests),
        (Refusal::LogFailed("x".into()), Code::InternalServerError, Code::InternalServerError),
        (
            Refusal::ReadOnly("x".into()),
            Code::MasterPersistenceTimeout,
            Code::MasterPersistenceTimeout,
        ),
        (Refusal::Unavailable, Code::HaNotAvailable, Code::HaNotAvailable),
    ];
    for (refusal, code, when_settling) in rows {
        assert_eq!(Failure::from(refusal.clone()).code, code, "{refusal:?}");
        assert_eq!(Failure::settling(refusal.clone()).code, when_settling, "{refusal:?}");
    }
}

#[test]
fn the_summary_is_the_common_code_or_multiple_results() {
    let (good, bad) = (status(Code::Ok), status(Code::InvalidReceiptHandle));
    let of = |entries: &[&wire::Status]| summary(entries.iter().map(|s| Some(*s))).code;
    assert_eq!(of(&[&good, &good]), i32::from(Code::Ok));
    assert_eq!(of(&[&bad]), i32::from(Code::InvalidReceiptHandle));
    assert_eq!(of(&[&good, &bad]), i32::from(Code::MultipleResults));
    assert_eq!(of(&[]), i32::from(Code::InternalServerError));
}

#[test]
fn every_catalog_error_has_its_grpc_code() {
    use tonic::Code as Grpc;
    let rows = [
        (CatalogError::Illegal("x".into()), Grpc::InvalidArgument),
        (CatalogError::Differs("x".into()), Grpc::AlreadyExists),
        (CatalogError::OwnedByAnother(Owner::default()), Grpc::FailedPrecondition),
        (CatalogError::WrongVersion { have: 2, wanted: 1 }, Grpc::FailedPrecondition),
        (CatalogError::Limit("x".into()), Grpc::ResourceExhausted),
        (CatalogError::Shard(Refusal::Unavailable), Grpc::Unavailable),
    ];
    for (error, code) in rows {
        let text = format!("{error:?}");
        assert_eq!(admin_failure(error).code(), code, "{text}");
    }
}
