//! ListDeadLetters: dead letters of a group with their messages and how they died, shard after shard. A call looks at so
//! many and no more; its cursor says where the next one goes on.

use std::collections::{BTreeSet, HashMap};

use broker_engine::{Command, DeadLetter, DeadLetters, ListDeadLetters, Outcome, Refusal};
use broker_model::{GroupName, TopicName};
use broker_proto::admin::dead_letter::Cause;
use broker_proto::admin::{self, DeadLetterPlace, ListDeadLettersRequest, ListDeadLettersResponse};
use broker_replication::ShardHandle;
use broker_replication::shard::lookup::{
    Appearance, Death, DeathCause, FOUND_BYTES_MAX, FoundMessage,
};
use tonic::Status;

use crate::context::BrokerContext;
use crate::convert::stored_message::stored_message;
use crate::limits::{
    DEAD_LETTERS_LOOKED_AT_MAX, DEAD_LETTERS_PER_STEP, FIND_MESSAGES_DEFAULT, FIND_MESSAGES_MAX,
};
use crate::status::admin_refusal;

/// Which dead letters are wanted.
struct Wanted {
    group: GroupName,
    topic: Option<TopicName>,
    message_id: String,
}

pub(super) async fn list_dead_letters(
    context: &BrokerContext,
    request: ListDeadLettersRequest,
) -> Result<ListDeadLettersResponse, Status> {
    let illegal = |error: broker_model::NameError| Status::invalid_argument(error.to_string());
    let topic = Some(request.topic.as_str()).filter(|name| !name.is_empty());
    let wanted = Wanted {
        group: GroupName::parse(&request.group).map_err(illegal)?,
        topic: topic.map(TopicName::parse).transpose().map_err(illegal)?,
        message_id: request.message_id,
    };
    let messages_max = match request.messages_max {
        0 => FIND_MESSAGES_DEFAULT,
        asked => asked.min(FIND_MESSAGES_MAX),
    } as usize;
    let (first, mut from) = place_of(context, &request.cursor)?;
    let mut room = DEAD_LETTERS_LOOKED_AT_MAX;
    let mut room_bytes = FOUND_BYTES_MAX;
    let mut response = ListDeadLettersResponse::default();
    for (number, shard) in context.catalog.shards().iter().enumerate().skip(first) {
        let mut next = Some(from);
        while let Some(begin) = next {
            if room == 0 || room_bytes == 0 || response.dead_letters.len() >= messages_max {
                response.cursor = format!("{number}:{begin}");
                return Ok(response);
            }
            let missing = messages_max.saturating_sub(response.dead_letters.len());
            let step = room.min(DEAD_LETTERS_PER_STEP);
            let step = step.min(u32::try_from(missing).unwrap_or(step));
            room = room.saturating_sub(step);
            let page = page(shard, &wanted, begin, step, &mut room_bytes).await;
            let (found, end) = page.map_err(|refusal| admin_refusal(&refusal))?;
            response.dead_letters.extend(found);
            next = end;
        }
        from = 0;
    }
    Ok(response)
}

/// The number of the shard and the offset that a cursor names.
fn place_of(context: &BrokerContext, cursor: &str) -> Result<(usize, u64), Status> {
    if cursor.is_empty() {
        return Ok((0, 0));
    }
    let parts = cursor.split_once(':');
    let place = parts.and_then(|(shard, offset)| Some((shard.parse().ok()?, offset.parse().ok()?)));
    let place = place.filter(|(shard, _)| *shard < context.catalog.shards().len());
    place.ok_or_else(|| Status::invalid_argument(format!("{cursor:?} is no cursor of this list")))
}

/// What is wanted among the next dead letters of a shard, and where it goes on.
async fn page(
    shard: &ShardHandle,
    wanted: &Wanted,
    from: u64,
    looked_at_max: u32,
    room_bytes: &mut usize,
) -> Result<(Vec<admin::DeadLetter>, Option<u64>), Refusal> {
    let list = ListDeadLetters { group: wanted.group.clone(), from, looked_at_max };
    let Outcome::DeadLetters(DeadLetters { letters, mut next }) =
        shard.submit(Command::ListDeadLetters(list)).await?
    else {
        return Err(Refusal::Unavailable);
    };
    let mut found = Vec::new();
    for letter in letters {
        if wanted.topic.is_some() && wanted.topic != letter.origin_topic {
            continue;
        }
        if *room_bytes == 0 {
            next = Some(letter.offset);
            break;
        }
        if let Some(letter) = read(shard, wanted, letter).await? {
            let bytes = letter.message.as_ref().map_or(0, |message| message.body.len());
            *room_bytes = room_bytes.saturating_sub(bytes);
            found.push(letter);
        }
    }
    let deaths = deaths(shard, wanted, &found).await?;
    for letter in &mut found {
        let offset = letter.place.as_ref().map_or(0, |place| place.offset);
        if let Some(death) = deaths.get(&offset) {
            letter.attempts = death.attempts;
            letter.set_cause(match death.cause {
                DeathCause::AttemptsUsedUp => Cause::AttemptsUsedUp,
                DeathCause::GivenUp => Cause::GivenUp,
            });
        }
    }
    Ok((found, next))
}

/// The dead letter with its message, when it has the id that is wanted.
async fn read(
    shard: &ShardHandle,
    wanted: &Wanted,
    letter: DeadLetter,
) -> Result<Option<admin::DeadLetter>, Refusal> {
    let DeadLetter { offset, died_ms, origin_topic, place, stored_ms, source } = letter;
    let (head, body) = shard.read_message(source).await?;
    let found = FoundMessage {
        position: 0,
        stored_ms: stored_ms.unwrap_or(0),
        queue: place.queue,
        offset: Some(place.offset),
        appearance: Appearance::AtOnce,
        head,
        body,
    };
    let topic = origin_topic.unwrap_or_else(|| TopicName::dead_letter_of(&wanted.group));
    let message = stored_message(found, &topic, shard.name());
    if !wanted.message_id.is_empty() && message.message_id != wanted.message_id {
        return Ok(None);
    }
    Ok(Some(admin::DeadLetter {
        place: Some(DeadLetterPlace { shard: shard.name().to_owned(), offset }),
        message: Some(message),
        died_ms,
        attempts: 0,
        cause: Cause::Unspecified.into(),
    }))
}

async fn deaths(
    shard: &ShardHandle,
    wanted: &Wanted,
    found: &[admin::DeadLetter],
) -> Result<HashMap<u64, Death>, Refusal> {
    let times = || found.iter().map(|letter| letter.died_ms);
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return Ok(HashMap::new());
    };
    let places = found.iter().filter_map(|letter| letter.place.as_ref());
    let offsets: BTreeSet<u64> = places.map(|place| place.offset).collect();
    shard.deaths(&TopicName::dead_letter_of(&wanted.group), first..=last, offsets).await
}
