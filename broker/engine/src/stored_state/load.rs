//! Taking the stored state in again, item by item. Nothing that the bytes say is believed before it was looked at.

use broker_model::limits::QUEUES_PER_TOPIC_MAX;

use super::*;
use crate::layouts::Layout;

impl<R: ReplyTo> Engine<R> {
    /// Takes in one part; all of them, in order, into an engine without state.
    ///
    /// # Errors
    /// [`StoredStateError`].
    pub fn load_state(&mut self, mut part: Bytes) -> Result<(), StoredStateError> {
        while !part.is_empty() {
            let (kind, item) = split_item(&mut part).ok_or(StoredStateError("length"))?;
            self.load_item(kind, item)?;
        }
        Ok(())
    }

    /// As [`Engine::load_state`], and leaves timed messages where they are: in `file`, which holds this part. They are
    /// read when they are asked for; that they cannot be is an [`Engine::index_failure`].
    ///
    /// # Errors
    /// [`StoredStateError`].
    pub fn load_state_in_place(
        &mut self,
        part: &Bytes,
        file: &Arc<PartFile>,
    ) -> Result<(), StoredStateError> {
        let mut rest = part.clone();
        while !rest.is_empty() {
            let start = part.len().saturating_sub(rest.len());
            let (kind, mut item) = split_item(&mut rest).ok_or(StoredStateError("length"))?;
            if kind != ITEM_TIMED {
                self.load_item(kind, item)?;
                continue;
            }
            let bucket = item.try_get_u64_le().map_err(|_| StoredStateError("length"))?;
            let place = (file, start as u64, &part[start..part.len().saturating_sub(rest.len())]);
            let inserted = self.state.timed.insert_stored(bucket, item, place);
            self.state.index_entries = self
                .state
                .index_entries
                .saturating_add(inserted.ok_or(StoredStateError("timed message"))?);
        }
        Ok(())
    }

    fn load_item(&mut self, kind: u8, mut item: Bytes) -> Result<(), StoredStateError> {
        let state = &mut self.state;
        let is_whole = match kind {
            ITEM_RECORD => {
                return self.load_record(&mut item);
            }
            ITEM_NUMBERS => load_numbers(&mut item).map(|(topic, group, client, timed, half)| {
                let (timed, half) = (timed.min(NUMBERS_END), half.min(NUMBERS_END));
                // Never behind what was loaded before: a number is given once.
                state.next_topic_number = state.next_topic_number.max(topic);
                state.next_group_number = state.next_group_number.max(group);
                state.clients.set_last_number(client);
                state.timed.set_last_number(timed);
                state.transactions.set_last_number(half);
            }),
            ITEM_TOPIC_NAME => return self.load_topic_name(&mut item),
            ITEM_KNOWN_NAME => return self.load_known_name(&mut item),
            ITEM_QUEUE => return self.load_queue(&mut item),
            ITEM_REDRIVEN => load_three(&mut item).map(|(topic, start, end)| {
                state.topics.get_mut(&topic).map(|topic| topic.redriven.insert(start, end));
            }),
            ITEM_PROGRESS => return self.load_progress(&mut item),
            ITEM_DEAD => return self.load_dead(&mut item),
            ITEM_LAYOUT => return self.load_layout(&mut item),
            ITEM_PASSED_LAYOUT => return self.load_passed_layout(&mut item),
            ITEM_TIMED => {
                let bucket = item.try_get_u64_le().map_err(|_| StoredStateError("length"))?;
                let inserted = state.timed.insert_packed(bucket, item);
                state.index_entries = state
                    .index_entries
                    .saturating_add(inserted.ok_or(StoredStateError("timed message"))?);
                Ok(())
            }
            ITEM_HALF => load_half(&mut item).map(|(number, half)| {
                state.transactions.insert(number.min(NUMBERS_END), half);
                state.index_entries = state.index_entries.saturating_add(1);
            }),
            ITEM_ENDED => item.try_get_u64_le().and_then(|number| {
                let is_commit = item.try_get_u8()? != 0;
                state.transactions.remember_end(number, is_commit);
                Ok(())
            }),
            _ => return Err(StoredStateError("kind of item")),
        };
        is_whole.map_err(|_| StoredStateError("length"))
    }

    fn load_topic_name(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let number = item.try_get_u32_le().map_err(|_| StoredStateError("length"))?;
        let name = std::str::from_utf8(item).ok().and_then(|name| TopicName::parse(name).ok());
        let Some(name) = name else { return Ok(()) };
        self.check_topic_name(number, &name)?;
        let next = &mut self.state.next_topic_number;
        *next = (*next).max(number.saturating_add(1));
        self.state.topic_names.insert(number, name);
        Ok(())
    }

    fn load_known_name(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let length = |_| StoredStateError("length");
        let kind = item.try_get_u8().map_err(length)?;
        let is_deleted = item.try_get_u8().map_err(length)? != 0;
        let time_ms = item.try_get_u64_le().map_err(length)?;
        let name = std::str::from_utf8(item).map_err(|_| StoredStateError("name"))?;
        let kind = NameKind::from_number(kind).ok_or(StoredStateError("kind of name"))?;
        let names = &mut self.state.known_names;
        if is_deleted {
            names.delete(kind, name, time_ms);
        } else {
            names.declare(kind, name, time_ms);
        }
        Ok(())
    }

    /// A number stands for one name for ever.
    fn check_topic_name(&self, number: u32, name: &TopicName) -> Result<(), StoredStateError> {
        let known = self.state.topic_names.get(&number);
        if known.is_some_and(|known| known != name) {
            return Err(StoredStateError("topic name"));
        }
        Ok(())
    }

    fn load_record(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let record = Record::decode(item).map_err(|_| StoredStateError("record"))?;
        #[cfg(feature = "simulation")]
        if broker_store::switches::has_bug(broker_store::switches::Bug::ForgottenResets)
            && matches!(record, Record::Reset { .. })
        {
            return Ok(());
        }
        if let Record::PutTopic { number, topic } = &record {
            self.check_topic_name(*number, &topic.name)?;
        }
        match record {
            Record::PutTopic { .. }
            | Record::PutLiteTopic { .. }
            | Record::PutGroup { .. }
            | Record::PutMember { .. }
            | Record::Reset { .. }
            | Record::HandleKey(_)
            | Record::GroupUse { .. }
            | Record::ServedHours { .. }
            | Record::Client { .. } => {
                self.apply_record(record, RecordPlace::default(), &mut Effects::default());
                Ok(())
            }
            // What others change is stored as items of its own.
            _ => Err(StoredStateError("record")),
        }
    }

    fn load_queue(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let length = |_| StoredStateError("length");
        let number = item.try_get_u32_le().map_err(length)?;
        let (queue, base, end) = load_three(item).map_err(length)?;
        if base > end || end >= NUMBERS_END {
            return Err(StoredStateError("offset"));
        }
        let Some(topic) = self.state.topics.get_mut(&number) else { return Ok(()) };
        let is_new = topic.queues.len() <= queue as usize;
        if is_new && topic.topic.message_type == MessageType::Lite {
            // Its lite topic is gone, and its offsets go on.
            let count = (queue as usize).saturating_add(1).min(LITE_TOPICS_PER_TOPIC_MAX);
            topic.queues.resize_with(count, Queue::default);
        }
        if let Some(known) = topic.queues.get_mut(queue as usize) {
            *known = Queue::stored(base, end);
        }
        Ok(())
    }

    fn load_progress(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let mut number = || item.try_get_u32_le().map_err(|_| StoredStateError("length"));
        let (group, topic, queue) = (number()?, number()?, number()?);
        let loaded = GroupQueue::load(item).ok_or(StoredStateError("progress"))?;
        let index = self.state.group_topic_index(group, topic);
        let Some(progress) = self.state.group_topic_mut(index) else { return Ok(()) };
        if queue == 0 {
            progress.is_polled = item.try_get_u8() != Ok(NEVER_POLLED);
        }
        let Some(state) = progress.queues.get_mut(queue as usize) else {
            return Ok(());
        };
        let expiries: Vec<Expiry> = loaded
            .leases()
            .map(|(first, lease)| Expiry {
                deadline_ms: lease.deadline_ms,
                group_topic: index,
                queue,
                first,
                nonce: lease.nonce,
            })
            .collect();
        *state = loaded;
        self.state.expiries.extend(expiries);
        Ok(())
    }

    fn load_dead(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let mut number = || item.try_get_u32_le().map_err(|_| StoredStateError("length"));
        let (group, topic, queue) = (number()?, number()?, number()?);
        let Some(&index) = self.state.group_topic_indexes.get(&(group, topic)) else {
            return Err(StoredStateError("dead letter"));
        };
        let progress = self.state.group_topic_mut(index);
        let state = progress.and_then(|progress| progress.queues.get_mut(queue as usize));
        let Some(state) = state else { return Ok(()) };
        state.load_dead(item).ok_or(StoredStateError("dead letter"))
    }

    fn load_layout(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let mut number = || item.try_get_u32_le().map_err(|_| StoredStateError("length"));
        let (topic, queues) = (number()?, number()?);
        let is_closed = item.try_get_u8().map_err(|_| StoredStateError("length"))? != 0;
        let topic = self.state.topics.get_mut(&topic).ok_or(StoredStateError("layout"))?;
        let mut starts = Vec::new();
        while item.has_remaining() {
            let start = item.try_get_u64_le().map_err(|_| StoredStateError("length"))?;
            starts.push(start);
        }
        let is_fifo = topic.topic.message_type == MessageType::Fifo;
        if !is_fifo || starts.len() > QUEUES_PER_TOPIC_MAX as usize {
            return Err(StoredStateError("layout"));
        }
        topic.layouts.load(Layout { queues, starts }, is_closed);
        Ok(())
    }

    fn load_passed_layout(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let mut number = || item.try_get_u32_le().map_err(|_| StoredStateError("length"));
        let (group, topic, queues) = (number()?, number()?, number()?);
        let Some(&index) = self.state.group_topic_indexes.get(&(group, topic)) else {
            return Err(StoredStateError("passed layout"));
        };
        if let Some(progress) = self.state.group_topic_mut(index) {
            progress.passed_layout = queues;
        }
        Ok(())
    }

    /// All parts are taken in.
    pub fn finish_loading(&mut self) {
        let topics = self.state.topics.values_mut();
        for topic in topics.filter(|topic| topic.topic.message_type == MessageType::Lite) {
            let queues = u32::try_from(topic.queues.len()).expect("queues of a topic are limited");
            topic.lite.free_all_but_named(queues);
        }
    }
}

/// The kind and the fields of the next item; none when there is no whole one.
pub(crate) fn split_item(part: &mut Bytes) -> Option<(u8, Bytes)> {
    let length = part.try_get_u32_le().ok()? as usize;
    if length == 0 || part.len() < length {
        return None;
    }
    let mut item = part.split_to(length);
    Some((item.get_u8(), item))
}

fn load_numbers(item: &mut Bytes) -> Result<(u32, u32, u32, u64, u64), bytes::TryGetError> {
    let (topic, group) = (item.try_get_u32_le()?, item.try_get_u32_le()?);
    Ok((topic, group, item.try_get_u32_le()?, item.try_get_u64_le()?, item.try_get_u64_le()?))
}

fn load_three(item: &mut Bytes) -> Result<(u32, u64, u64), bytes::TryGetError> {
    Ok((item.try_get_u32_le()?, item.try_get_u64_le()?, item.try_get_u64_le()?))
}

fn load_half(item: &mut Bytes) -> Result<(u64, HalfMessage), bytes::TryGetError> {
    let (number, stored_ms, check_at_ms) =
        (item.try_get_u64_le()?, item.try_get_u64_le()?, item.try_get_u64_le()?);
    let (position, tag_hash) = (item.try_get_u64_le()?, item.try_get_u64_le()?);
    let (checks, length_bytes) = (item.try_get_u32_le()?, item.try_get_u32_le()?);
    let (topic, queue) = (item.try_get_u32_le()?, item.try_get_u32_le()?);
    let message = HiddenMessage { position, tag_hash, length_bytes, topic, queue };
    let begun_ms = stored_ms;
    Ok((number, HalfMessage { message, stored_ms, begun_ms, checks, check_at_ms }))
}
