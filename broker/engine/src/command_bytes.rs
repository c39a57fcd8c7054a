//! What a command takes in memory while it waits: the measure that the budgets of a shard's queue are kept in. It counts
//! what grows with the request, and a fixed share for the rest; it is an estimate and never less than the payload.

use broker_model::Filter;

use crate::command::{Command, NewMessage, Receive, Send};

/// Share of a command for its fixed parts: the command itself, names, its place in queues, where its answer goes.
const COMMAND_BYTES: usize = 512;
/// A message of a send without head and body.
const MESSAGE_BYTES: usize = 128;
/// A handle of an acknowledgement with its result.
const HANDLE_BYTES: usize = 96;
/// One name in a set or list, without its text.
const NAME_BYTES: usize = 64;
/// A compiled condition, by each byte of its text.
const SQL_BYTES_PER_TEXT_BYTE: usize = 16;

/// Commands that share a budget, so that one kind cannot take the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandKind {
    /// Brings messages, which may be large.
    Send,
    /// May wait for messages.
    Poll,
    /// Acknowledgements and all that is small.
    Small,
}

impl Command {
    /// Which budget it is counted in.
    #[must_use]
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::Send(_) => CommandKind::Send,
            Self::Receive(_) | Self::Pull(_) => CommandKind::Poll,
            _ => CommandKind::Small,
        }
    }

    /// Bytes that it takes while it waits.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let of_verb = match self {
            Self::Send(send) => send_bytes(send),
            Self::Receive(receive) => receive_bytes(receive),
            Self::Pull(pull) => filter_bytes(&pull.filter),
            Self::Acknowledge(acknowledge) => {
                acknowledge.handles.len().saturating_mul(HANDLE_BYTES)
            }
            Self::Prolong(prolong) => prolong.handles.len().saturating_mul(HANDLE_BYTES),
            Self::Release(handles) => handles.len().saturating_mul(HANDLE_BYTES),
            Self::ResetOffsets(reset) => {
                reset.id.len().saturating_add(reset.topics.len().saturating_mul(NAME_BYTES * 4))
            }
            Self::SetLiteOffsets(set) => names_bytes(set.lite_topics.iter()),
            Self::Join(join) => join.topics.len().saturating_mul(NAME_BYTES * 4),
            Self::NoteGroupUse { groups, .. } | Self::ReadUnusedGroups(groups) => {
                groups.len().saturating_mul(NAME_BYTES * 4)
            }
            _ => 0,
        };
        of_verb.saturating_add(COMMAND_BYTES)
    }
}

fn send_bytes(send: &Send) -> usize {
    let bytes = |message: &NewMessage| message.head.len().saturating_add(message.body.len());
    let held = send.messages.iter().map(|message| bytes(message).saturating_add(MESSAGE_BYTES));
    held.fold(0, usize::saturating_add)
}

fn receive_bytes(receive: &Receive) -> usize {
    let lite_topics = receive.lite_topics.iter().flat_map(|names| names.iter());
    let filter_bytes = filter_bytes(&receive.filter);
    filter_bytes.saturating_add(receive.attempt_id.len()).saturating_add(names_bytes(lite_topics))
}

fn names_bytes<'a>(names: impl Iterator<Item = &'a String>) -> usize {
    names.fold(0, |bytes, name| bytes.saturating_add(NAME_BYTES).saturating_add(name.len()))
}

fn filter_bytes(filter: &Filter) -> usize {
    match filter {
        Filter::All => 0,
        Filter::Tags(hashes) => hashes.len().saturating_mul(size_of::<u64>()),
        Filter::Sql(filter) => filter.text().len().saturating_mul(SQL_BYTES_PER_TEXT_BYTE),
    }
}
