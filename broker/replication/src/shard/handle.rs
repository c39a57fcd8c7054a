//! Talking to a shard: its queue of commands, and the bytes of messages that are not in memory any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker_engine::{
    Command, CommandKind, Delivery, Outcome, Pull, Pulled, Receive, Refusal, Reply, Source,
};
use broker_model::{ReceiptHandle, ShardId};
use broker_store::{Damage, LogReader, MessageIdentity, ReadError};
use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::memory::Share;

use super::{
    DeliveredMessage, Input, PulledMessages, QUEUED_COMMANDS_MAX, ShardHandle, ShardStatus, Slot,
    answers, lock,
};
use crate::shard_poll::Claim;

impl ShardHandle {
    /// Which shard.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.shared.id
    }

    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The shard's steady time ([`broker_model::Now`]), in which the ends of polls and deliveries are told.
    #[must_use]
    pub fn steady_ms(&self) -> u64 {
        self.shared.clock.now().steady_ms
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn submit(&self, command: Command) -> Reply {
        let (sender, answer) = oneshot::channel();
        self.hand_over(command, Some(sender), None).await?;
        // The command was taken in; whether it was carried out is not known any more.
        answer
            .await
            .map_err(|_| Refusal::LogFailed("the shard ended before it answered".to_owned()))?
    }

    /// Carries out a command whose answer nobody needs; it is in the log some time later, unless the process ends before.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] when the shard has ended, [`Refusal::TooMany`] when too much waits for it.
    pub async fn tell(&self, command: Command) -> Result<(), Refusal> {
        self.hand_over(command, None, None).await
    }

    /// Puts a command into the queue with its share of the memory. Only what is small waits for a place.
    async fn hand_over(
        &self,
        command: Command,
        sender: Option<oneshot::Sender<Reply>>,
        claim: Option<Claim>,
    ) -> Result<(), Refusal> {
        let kind = command.kind();
        let input = self.input(command, sender, claim)?;
        if kind == CommandKind::Small {
            return self.inputs.send(input).await.map_err(|_| Refusal::Unavailable);
        }
        self.inputs.try_send(input).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::TooMany(format!(
                "{QUEUED_COMMANDS_MAX} requests wait for this shard; try again later"
            )),
            TrySendError::Closed(_) => Refusal::Unavailable,
        })
    }

    /// A command with its share of the memory.
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub(super) fn input(
        &self,
        command: Command,
        sender: Option<oneshot::Sender<Reply>>,
        claim: Option<Claim>,
    ) -> Result<Input, Refusal> {
        let share = self.shared.budgets.take(&command)?;
        let home = sender.as_ref().and_then(|_| answers::home());
        let claim = claim.map(|claim| (claim, self.id()));
        Ok(Input::Command(command, Slot { sender, home, claim, _share: Some(share) }))
    }

    /// Makes deliveries visible again that reached nobody: they do not count. Those that are settled are left alone.
    pub fn give_back(&self, handles: Vec<ReceiptHandle>) {
        if !handles.is_empty() {
            lock(&self.shared.given_back).extend(handles);
            // With a full queue the shard is awake, and sees them all the same.
            let _full = self.inputs.try_send(Input::GivenBack);
        }
    }

    /// Receives messages, waiting for them until the polling time ends. Dropping the future ends the wait; messages that
    /// were picked for it meanwhile become visible again at once. A poll that waits on several shards comes with the claim
    /// that it shares among them; the answer is empty when another shard takes it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn receive(
        &self,
        receive: Receive,
        claim: Option<Claim>,
    ) -> Result<Vec<DeliveredMessage>, Refusal> {
        let (sender, answer) = oneshot::channel();
        self.hand_over(Command::Receive(receive), Some(sender), claim).await?;
        let mut poll = WaitingPoll { shard: self, answer, taken: Vec::new() };
        let reply = (&mut poll.answer).await.map_err(|_| Refusal::Unavailable)?;
        let Outcome::Received(deliveries) = reply? else { return Ok(Vec::new()) };
        poll.taken = deliveries.iter().map(|delivery| delivery.handle).collect();
        let messages = self.read_cold(deliveries).await;
        // What there is no memory for now is for others, or for later.
        if !matches!(messages, Err(Refusal::TooMany(_))) {
            poll.taken.clear();
        }
        messages
    }

    /// Reads messages of one queue without delivering them, waiting for them until the polling time ends.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn pull(&self, pull: Pull) -> Result<PulledMessages, Refusal> {
        let Outcome::Pulled(Pulled { messages, next_offset, is_out_of_range }) =
            self.submit(Command::Pull(pull)).await?
        else {
            return Err(Refusal::Unavailable);
        };
        let messages = self.read_cold(messages).await?;
        Ok(PulledMessages { messages, next_offset, is_out_of_range })
    }

    /// Head and body of a message.
    ///
    /// # Errors
    /// [`Refusal::LogFailed`] when it cannot be read.
    pub async fn read_message(&self, source: Source) -> Result<(Bytes, Bytes), Refusal> {
        let (position, length_bytes, identity) = match source {
            Source::Memory { head, body } => return Ok((head, body)),
            Source::Log { position, length_bytes, identity } => (position, length_bytes, identity),
        };
        let reader = lock(&self.shared.reader).clone();
        let read = tokio::task::spawn_blocking(move || {
            read_one(Some(&reader), position, length_bytes, &identity)
        });
        let message = read.await.map_err(|_| Refusal::Unavailable)??;
        message.ok_or_else(|| Refusal::LogFailed(format!("log position {position} is not kept")))
    }

    /// Reads what is not in memory any more.
    async fn read_cold(&self, deliveries: Vec<Delivery>) -> Result<Vec<DeliveredMessage>, Refusal> {
        let share = self.share_of(&deliveries)?;
        let is_cold = |delivery: &Delivery| matches!(delivery.source, Source::Log { .. });
        let mut messages = if deliveries.iter().any(is_cold) {
            let reader = lock(&self.shared.reader).clone();
            let read =
                tokio::task::spawn_blocking(move || read_all(Some(&reader), deliveries.into()));
            read.await.map_err(|_| Refusal::Unavailable)??
        } else {
            read_all(None, deliveries.into())?
        };
        for message in &mut messages {
            message.share = Some(Arc::clone(&share));
        }
        Ok(messages)
    }

    /// The memory that an answer with these messages takes.
    fn share_of(&self, deliveries: &[Delivery]) -> Result<Arc<Share>, Refusal> {
        let bytes = deliveries.iter().map(|delivery| match &delivery.source {
            Source::Memory { head, body } => head.len() + body.len(),
            Source::Log { length_bytes, .. } => *length_bytes as usize,
        });
        let answers = &self.shared.budgets.process().answers;
        answers.take(bytes.sum()).map(Arc::new).ok_or_else(|| {
            Refusal::TooMany(format!(
                "{} MiB of answers were not read yet by those who asked; try again later",
                answers.max() / (1024 * 1024)
            ))
        })
    }

    /// What of the log is damaged, if anything is; the shard is read-only then.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.shared.damage.as_ref()
    }

    /// Numbers of the shard.
    #[must_use]
    pub fn status(&self) -> ShardStatus {
        let failure = lock(&self.shared.failure).clone();
        let is_leader = self.shared.is_leader.load(Ordering::Relaxed);
        let damage = self.shared.damage.clone();
        let role = match (&failure, &damage) {
            (None, Some(_)) => "read-only",
            (None, None) if is_leader => "leader",
            _ => "failed",
        };
        ShardStatus {
            role,
            log_bytes: self.shared.log_bytes.load(Ordering::Relaxed),
            durable_index: self.shared.durable_index.load(Ordering::Relaxed),
            refuses_sends: self.shared.refuses_sends.load(Ordering::Relaxed),
            append_times: self.shared.append_times.seen(),
            sealed_segments: self.shared.sealed_segments.load(Ordering::Relaxed),
            sealing_failures: self.shared.sealing_failures.load(Ordering::Relaxed),
            failure,
            damage,
            oldest_ms: Some(self.shared.oldest_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0),
        }
    }

    /// Takes note of when the oldest message kept was stored.
    pub(crate) fn note_oldest(&self, oldest_ms: Option<u64>) {
        self.shared.oldest_ms.store(oldest_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// Answers waiting polls, makes everything durable that was taken in, and ends the shard.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.inputs.send(Input::Stop(done)).await.is_ok() {
            // A closed channel means that it is gone already.
            let _gone = stopped.await;
        }
    }
}

/// Gives back what a poll was answered with when it is dropped before anybody took it.
struct WaitingPoll<'a> {
    shard: &'a ShardHandle,
    answer: oneshot::Receiver<Reply>,
    taken: Vec<ReceiptHandle>,
}

impl Drop for WaitingPoll<'_> {
    fn drop(&mut self) {
        // An answer that comes from now on finds nobody, which the shard notices itself.
        self.answer.close();
        if let Ok(Ok(Outcome::Received(deliveries))) = self.answer.try_recv() {
            self.taken.extend(deliveries.into_iter().map(|delivery| delivery.handle));
        }
        self.shard.give_back(std::mem::take(&mut self.taken));
    }
}

fn read_all(
    reader: Option<&LogReader>,
    deliveries: VecDeque<Delivery>,
) -> Result<Vec<DeliveredMessage>, Refusal> {
    let mut messages = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let read = match delivery.source {
            Source::Memory { head, body } => Some((head, body)),
            Source::Log { position, length_bytes, identity } => {
                read_one(reader, position, length_bytes, &identity)?
            }
        };
        // Retention took it after it was picked.
        let Some((head, body)) = read else { continue };
        messages.push(DeliveredMessage {
            handle: delivery.handle,
            stored_ms: delivery.stored_ms,
            invisible_until_ms: delivery.invisible_until_ms,
            origin_topic: delivery.origin_topic,
            head,
            body,
            share: None,
        });
    }
    Ok(messages)
}

/// Head and body; none when the message is not kept any more.
fn read_one(
    reader: Option<&LogReader>,
    position: u64,
    length_bytes: u32,
    identity: &MessageIdentity,
) -> Result<Option<(Bytes, Bytes)>, Refusal> {
    let reader = reader.ok_or(Refusal::Unavailable)?;
    match reader.message(position, length_bytes, identity) {
        Ok(message) => Ok(Some((message.head, message.body))),
        Err(ReadError::Gone(_)) => Ok(None),
        Err(error) => {
            tracing::error!(%error, "a stored message cannot be read");
            Err(Refusal::LogFailed(error.to_string()))
        }
    }
}
