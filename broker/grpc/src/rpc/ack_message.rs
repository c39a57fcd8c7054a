//! AckMessage: deliveries were processed (protocol section 3.7). One result per entry, in their order; an ack that was
//! answered is durable. Entries of shards that other brokers lead are passed on to those.

use std::collections::BTreeMap;

use broker_engine::{Acknowledge, Command, Outcome, Refusal};
use broker_model::{GroupName, ReceiptHandle, ShardId, TopicName};
use broker_proto::rocketmq::{
    self as wire, AckMessageEntry, AckMessageRequest, AckMessageResponse, AckMessageResultEntry,
    Code,
};
use futures::future::{join, join_all};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::limits::ACK_ENTRIES_MAX;
use crate::peers;
use crate::status::{self, Failure};

pub(crate) async fn ack_message(
    context: &BrokerContext,
    request: Request<AckMessageRequest>,
) -> Result<AckMessageResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    let group = context.group_name(request.group.as_ref())?;
    let topic = context.topic_name(request.topic.as_ref())?;
    if request.entries.len() > ACK_ENTRIES_MAX {
        let text = format!(
            "the request has {} entries; at most {ACK_ENTRIES_MAX} are allowed",
            request.entries.len()
        );
        return Err(Failure::new(Code::PayloadTooLarge, text));
    }
    let passed_on = pass_on(context, &caller, &request);
    let (results, theirs) =
        join(acknowledge(context, &group, &topic, &request.entries), passed_on).await;
    let mut entries: Vec<_> =
        request.entries.into_iter().zip(results).map(|(e, result)| answer(e, result)).collect();
    for (at, status) in theirs {
        entries[at].status = Some(status);
    }
    let summary = status::summary(entries.iter().map(|e| e.status.as_ref()));
    Ok(AckMessageResponse { status: Some(summary), entries })
}

/// The entries grouped by shard, each shard asked once, all shards at the same time.
async fn acknowledge(
    context: &BrokerContext,
    group: &GroupName,
    topic: &TopicName,
    entries: &[AckMessageEntry],
) -> Vec<Result<(), Failure>> {
    let mut results: Vec<Result<(), Failure>> = Vec::with_capacity(entries.len());
    let mut settling: Vec<(usize, ReceiptHandle)> = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        match ReceiptHandle::decode(&entry.receipt_handle) {
            Ok(handle) => {
                settling.push((at, handle));
                results.push(Ok(()));
            }
            Err(error) => {
                results.push(Err(Failure::new(Code::InvalidReceiptHandle, error.to_string())));
            }
        }
    }
    // Stable, so that entries of one shard stay in their order.
    settling.sort_by_key(|(_, handle)| handle.shard);
    let mut by_shard = Vec::new();
    while let Some(shard) = settling.first().map(|(_, handle)| handle.shard) {
        let rest = settling.partition_point(|(_, handle)| handle.shard <= shard);
        let others = settling.split_off(rest);
        by_shard.push(std::mem::replace(&mut settling, others));
    }
    let asked = by_shard.into_iter().map(|part| acknowledge_on_shard(context, group, topic, part));
    for (at, result) in join_all(asked).await.into_iter().flatten() {
        results[at] = result;
    }
    results
}

/// Entries of shards that other brokers lead: each of those shards is asked once, all at the same time. Gives the places of
/// these entries and how they went.
async fn pass_on(
    context: &BrokerContext,
    caller: &Caller<'_>,
    request: &AckMessageRequest,
) -> Vec<(usize, wire::Status)> {
    let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
    for (at, entry) in request.entries.iter().enumerate() {
        if let Ok(handle) = ReceiptHandle::decode(&entry.receipt_handle)
            && peers::is_elsewhere(context, handle.shard, caller)
        {
            by_shard.entry(handle.shard).or_default().push(at);
        }
    }
    let asked = by_shard.into_iter().map(async |(shard, places)| {
        let entries = places.iter().map(|at| request.entries[*at].clone()).collect();
        let (group, topic) = (request.group.clone(), request.topic.clone());
        let part = AckMessageRequest { group, topic, entries };
        let statuses = acknowledge_elsewhere(context, caller, shard, part).await;
        places.into_iter().zip(statuses).collect::<Vec<_>>()
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// How each entry went at the broker that leads the shard.
async fn acknowledge_elsewhere(
    context: &BrokerContext,
    caller: &Caller<'_>,
    shard: ShardId,
    part: AckMessageRequest,
) -> Vec<wire::Status> {
    let count = part.entries.len();
    let answer = async {
        let (mut peer, request) = peers::pass_on(context, shard, caller, part)?;
        peers::answer_of(peer.ack_message(request).await)
    };
    match answer.await {
        Ok(answer) if answer.entries.len() == count => {
            answer.entries.into_iter().map(|entry| entry.status.unwrap_or_default()).collect()
        }
        Ok(answer) => vec![answer.status.unwrap_or_default(); count],
        Err(failure) => vec![failure.into_status(); count],
    }
}

/// Never empty; all of one shard.
async fn acknowledge_on_shard(
    context: &BrokerContext,
    group: &GroupName,
    topic: &TopicName,
    settling: Vec<(usize, ReceiptHandle)>,
) -> Vec<(usize, Result<(), Failure>)> {
    let handles: Vec<_> = settling.iter().map(|(_, handle)| *handle).collect();
    let shard = handles.first().and_then(|handle| context.catalog.shard(handle.shard));
    let command = Acknowledge { group: group.clone(), topic: topic.clone(), handles };
    let outcome = match shard {
        Some(shard) => shard.submit(Command::Acknowledge(command)).await,
        None => Err(Refusal::InvalidHandle),
    };
    let results = match outcome {
        Ok(Outcome::Acknowledged(results)) => results,
        Ok(_) => vec![Ok(()); settling.len()],
        Err(refusal) => vec![Err(refusal); settling.len()],
    };
    let settled = settling.into_iter().zip(results);
    settled.map(|((at, handle), result)| (at, settle(context, &handle, result))).collect()
}

/// A delivery that is over is no longer prolonged; one whose ack failed for another reason is, as the client repeats.
fn settle(
    context: &BrokerContext,
    handle: &ReceiptHandle,
    result: Result<(), Refusal>,
) -> Result<(), Failure> {
    // Whoever makes handles up says nothing about the delivery that they look like.
    let is_foreign = result == Err(Refusal::ForeignHandle);
    let result = result.map_err(Failure::settling);
    if !is_foreign
        && result.as_ref().map_or_else(|f| f.code == Code::InvalidReceiptHandle, |()| true)
    {
        context.renewals.settled(handle);
    }
    result
}

fn answer(entry: AckMessageEntry, result: Result<(), Failure>) -> AckMessageResultEntry {
    let status: wire::Status = result.map_or_else(Failure::into_status, |()| status::ok());
    AckMessageResultEntry {
        message_id: entry.message_id,
        receipt_handle: entry.receipt_handle,
        status: Some(status),
    }
}
