//! Every record kind as a name and its fields in words. A new kind gets its line here.

use broker_store::record::{Place, Reference};
use broker_store::{Lease, MessageRecord, Record};
use serde_json::{Map, Value, json};

/// A single field.
pub(super) fn one(name: &str, value: impl Into<String>) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), Value::String(value.into()))])
}

/// Name and fields of a record.
pub(super) fn of(record: Record, bodies: bool) -> (String, Map<String, Value>) {
    let (name, fields) = match record {
        Record::Message(message) => ("message", of_message(&message, true, bodies)),
        Record::Timed { number, due_ms, message } => (
            "timed",
            joined(json!({"number": number, "dueMs": due_ms}), of_message(&message, false, bodies)),
        ),
        Record::Half { number, check_after_ms, message } => (
            "half",
            joined(
                json!({"number": number, "checkAfterMs": check_after_ms}),
                of_message(&message, false, bodies),
            ),
        ),
        Record::Lease(lease) => ("lease", of_lease(&lease)),
        Record::Acknowledge(place) => ("acknowledge", of_place(&place)),
        Record::ChangeInvisible { place, nonce, new_nonce, attempt, deadline_ms } => {
            let change = json!({
                "nonce": nonce, "newNonce": new_nonce, "attempt": attempt, "deadlineMs": deadline_ms
            });
            ("change invisible", joined(of_place(&place), change))
        }
        Record::Release { place, nonce } => {
            ("release", joined(of_place(&place), json!({"nonce": nonce})))
        }
        Record::Prolong { first, nonce, deadline_ms } => {
            let prolonged = json!({"nonce": nonce, "deadlineMs": deadline_ms});
            ("prolong", joined(of_place(&first), prolonged))
        }
        Record::DeadLetter { place, stands } => {
            let stands = stands.map(|to| {
                let death = to.death.map(|death| {
                    json!({"attempts": death.attempts, "cause": format!("{:?}", death.cause)})
                });
                let more = json!({"originTopic": to.origin_topic, "death": death});
                joined(of_reference(&to.reference), more)
            });
            ("dead letter", joined(of_place(&place), json!({"stands": stands})))
        }
        Record::Cursor(place) => ("cursor", of_place(&place)),
        Record::Due { number, due_ms, stands } => {
            let stands = stands.as_ref().map(of_reference);
            ("due", json!({"number": number, "dueMs": due_ms, "stands": stands}))
        }
        Record::Recall { number, due_ms } => ("recall", json!({"number": number, "dueMs": due_ms})),
        Record::EndTransaction { number, is_commit, stands } => {
            let stands = stands.as_ref().map(of_reference);
            ("end transaction", json!({"number": number, "commit": is_commit, "stands": stands}))
        }
        Record::TransactionCheck { number } => ("transaction check", json!({"number": number})),
        other => return of_catalog(other),
    };
    (name.to_owned(), map(fields))
}

/// The kinds about what exists.
fn of_catalog(record: Record) -> (String, Map<String, Value>) {
    let (name, fields) = match record {
        Record::PutTopic { number, topic } => {
            let placement: Vec<_> = topic
                .placement
                .iter()
                .map(|p| json!({"shard": p.shard.0, "queues": p.queues}))
                .collect();
            let settings = json!({
                "number": number, "name": topic.name.to_string(),
                "type": topic.message_type.to_string(), "queues": topic.queues,
                "placement": placement, "readable": topic.readable, "writable": topic.writable,
                "retentionMs": topic.retention_ms, "retentionBytes": topic.retention_bytes,
                "maxMessageBytes": topic.max_message_bytes, "liteExpiryMs": topic.lite_expiry_ms,
                "owner": topic.owner.map(|owner| format!("{owner:?}")),
            });
            ("put topic", settings)
        }
        Record::DeleteName { kind, name } => {
            ("delete name", json!({"kind": format!("{kind:?}"), "name": name}))
        }
        Record::PutGroup { number, group } => {
            let settings = json!({
                "number": number, "name": group.name.to_string(),
                "model": format!("{:?}", group.model), "order": format!("{:?}", group.order),
                "attempts": group.retry.max_attempts,
                "backoff": format!("{:?}", group.retry.backoff),
                "subscriptions": group.subscriptions.len(),
                "deadLetter": format!("{:?}", group.dead_letter), "consuming": group.is_consuming,
                "liteTopic": group.lite_topic.map(|topic| topic.to_string()),
                "owner": group.owner.map(|owner| format!("{owner:?}")),
            });
            ("put group", settings)
        }
        Record::DeleteTopic { number } => ("delete topic", json!({"number": number})),
        Record::DeleteGroup { number } => ("delete group", json!({"number": number})),
        Record::DeleteMember { number } => ("delete member", json!({"number": number})),
        Record::PutMember { number, group, client_id } => {
            ("put member", json!({"number": number, "group": group, "client": client_id}))
        }
        Record::PutLiteTopic { topic, queue, name } => {
            ("put lite topic", json!({"topic": topic, "queue": queue, "name": name}))
        }
        Record::DeleteLiteTopic { topic, queue } => {
            ("delete lite topic", json!({"topic": topic, "queue": queue}))
        }
        Record::Reset { group, id } => ("reset", json!({"group": group, "id": id})),
        Record::Redrive { topic, offset, back_to } => {
            let back_to = back_to.map(|origin| of_place(&origin.place));
            ("redrive", json!({"topic": topic, "offset": offset, "backTo": back_to}))
        }
        Record::Trim { topic, queue, offset } => {
            ("trim", json!({"topic": topic, "queue": queue, "offset": offset}))
        }
        Record::Skip { first, end } => (
            "skip",
            joined(
                of_place(&first),
                json!({"end": end, "messages": end.saturating_sub(first.offset)}),
            ),
        ),
        Record::Client { number, id } => ("client", json!({"number": number, "id": id})),
        Record::GroupUse { group, hour } => ("group use", json!({"group": group, "hour": hour})),
        Record::ServedHours { hours } => ("served hours", json!({"hours": hours})),
        // Whoever knows the key can make handles.
        Record::HandleKey(_) => ("handle key", json!({})),
        other => ("other", json!({"text": format!("{other:?}")})),
    };
    (name.to_owned(), map(fields))
}

fn of_reference(reference: &Reference) -> Value {
    let Reference { topic, queue, offset, position, length_bytes, tag_hash } = reference;
    json!({
        "topic": topic, "queue": queue, "offset": offset, "position": position,
        "lengthBytes": length_bytes, "tagHash": tag_hash
    })
}

fn of_message(message: &MessageRecord, has_offset: bool, bodies: bool) -> Value {
    let mut fields = json!({
        "topic": message.topic, "queue": message.queue,
        "tagHash": format!("{:016x}", message.tag_hash),
        "messageGroupHash": format!("{:016x}", message.message_group_hash),
        "headBytes": message.head.len(), "bodyBytes": message.body.len(),
    });
    if has_offset {
        fields["offset"] = json!(message.offset);
    }
    if bodies {
        fields["body"] = json!(String::from_utf8_lossy(&message.body));
    }
    fields
}

fn of_place(place: &Place) -> Value {
    let Place { group, topic, queue, offset } = place;
    json!({"group": group, "topic": topic, "queue": queue, "offset": offset})
}

fn of_lease(lease: &Lease) -> Value {
    let delivery = json!({
        "span": lease.span, "mask": format!("{:x}", lease.mask), "messages": lease.mask.count_ones(),
        "attempt": lease.attempt, "nonce": lease.nonce, "deadlineMs": lease.deadline_ms,
        "client": lease.client,
    });
    joined(of_place(&lease.first), delivery)
}

fn joined(first: Value, second: Value) -> Value {
    let mut fields = map(first);
    fields.extend(map(second));
    Value::Object(fields)
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use broker_model::{HANDLE_KEY_BYTES, HandleKey};

    use super::*;

    #[test]
    fn the_key_of_handles_is_named_and_not_shown() {
        let (name, fields) = of_catalog(Record::HandleKey(HandleKey([7; HANDLE_KEY_BYTES])));
        assert_eq!((name.as_str(), fields.len()), ("handle key", 0));
    }
}
