//! QueryMessage: stored messages by id, key or lite topic, or all of a time, oldest first. A search that a limit ended
//! goes on with the scroll id of its answer, which is a cursor.

use broker_proto::rocketmq::list_message_request::SearchKey;
use broker_proto::rocketmq::{
    self as wire, Code, ListMessageRequest, ListMessageResponse, Resource,
};
use broker_replication::shard::lookup::FoundMessage;

use super::signed;
use crate::context::BrokerContext;
use crate::convert::message::to_shown;
use crate::convert::time::{timestamp, timestamp_ms};
use crate::limits::{FIND_MESSAGES_DEFAULT, FIND_MESSAGES_MAX};
use crate::lookup::{self, By, Cursor, Find, Located};
use crate::status::{self, Failure};

pub(super) async fn query_message(
    context: &BrokerContext,
    request: ListMessageRequest,
) -> Result<ListMessageResponse, Failure> {
    let entry = context.topic(request.topic.as_ref())?;
    if entry.topic.name.is_dead_letter() {
        let text = "dead letters are references; search the topic that they were sent to";
        return Err(Failure::new(Code::BadRequest, text));
    }
    let page = Page::of(&request)?;
    let begin_ms = request.begin_timestamp.as_ref().map_or(0, timestamp_ms);
    let cursor = request.scroll_id.as_deref().filter(|id| !id.is_empty()).map(|id| {
        let text = "the scroll id is none of this broker; take it from the answer before";
        Cursor::parse(id).ok_or_else(|| Failure::new(Code::BadRequest, text))
    });
    // Consoles send an empty timestamp for none.
    let end = request.end_timestamp.as_ref().map(timestamp_ms).filter(|ms| *ms > 0);
    let has_place = request.broker_name.is_some() || request.queue_id.is_some();
    let find = Find {
        topic: entry.topic.name.clone(),
        times: begin_ms..=end.unwrap_or(u64::MAX),
        by: by(request.search_key)?,
        messages_max: if has_place { FIND_MESSAGES_MAX as usize } else { page.end },
        cursor: cursor.transpose()?,
    };
    let mut answer = lookup::find(context, &find).await?;
    let is_asked = |located: &Located<'_, FoundMessage>| {
        let of_broker =
            request.broker_name.as_ref().is_none_or(|name| name == located.shard.name());
        let queue = i64::from(located.found.queue);
        of_broker && request.queue_id.is_none_or(|id| i64::from(id) == queue)
    };
    // It goes on with the first that is asked for and not shown.
    let mut asked = answer.all.iter().enumerate().filter(|(_, located)| is_asked(located));
    if let Some((hidden, _)) = asked.nth(page.end) {
        answer.cut_off(hidden);
    }
    answer.all.retain(is_asked);
    let scroll_id = (!answer.is_complete).then(|| answer.next.to_string());
    let resource = request.topic.clone().unwrap_or_default();
    let shown = answer.all.into_iter().take(page.end).skip(page.begin);
    Ok(ListMessageResponse {
        status: Some(status::ok()),
        messages: shown.filter_map(|located| message(context, located, &resource)).collect(),
        scroll_id: scroll_id.unwrap_or_default(),
    })
}

/// The part of what is found that is shown.
struct Page {
    begin: usize,
    end: usize,
}

impl Page {
    fn of(request: &ListMessageRequest) -> Result<Self, Failure> {
        let asked = |number: i32| usize::try_from(number).ok().filter(|number| *number > 0);
        let default = FIND_MESSAGES_DEFAULT as usize;
        let max = FIND_MESSAGES_MAX as usize;
        let size = request.page_size.and_then(asked).unwrap_or(default);
        let page = match request.page_num.and_then(asked) {
            Some(number) => {
                Self { begin: (number - 1).saturating_mul(size), end: number.saturating_mul(size) }
            }
            None => {
                let end = asked(request.max_message_nums).unwrap_or(size).min(max);
                Self { begin: 0, end }
            }
        };
        if page.end > max {
            let text = format!("only the first {max} messages are paged through; narrow the time");
            return Err(Failure::new(Code::BadRequest, text));
        }
        Ok(page)
    }
}

fn by(asked: Option<SearchKey>) -> Result<By, Failure> {
    match asked {
        None => Ok(By::All),
        Some(SearchKey::MessageId(id)) => Ok(By::Id(id)),
        Some(SearchKey::MessageKey(key)) => Ok(By::Key(key)),
        Some(SearchKey::LiteTopic(name)) => Ok(By::LiteTopic(name)),
        Some(SearchKey::Subscription(_)) => Err(Failure::not_served("a search by subscription")),
    }
}

/// As [`to_shown`], with its place.
pub(super) fn message(
    context: &BrokerContext,
    located: Located<'_, FoundMessage>,
    topic: &Resource,
) -> Option<wire::Message> {
    let FoundMessage { stored_ms, queue, offset, head, body, .. } = located.found;
    let mut message = to_shown(head, body, stored_ms, topic, &context.advertised)?;
    let properties = message.system_properties.as_mut()?;
    properties.queue_id = i32::try_from(queue).unwrap_or(i32::MAX);
    properties.queue_offset = offset.map(signed);
    properties.store_timestamp = Some(timestamp(stored_ms));
    Some(message)
}
