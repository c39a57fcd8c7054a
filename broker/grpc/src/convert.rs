//! Wire <-> model, both ways. The only place of this crate that does it; nothing here decides anything.
//! The stored form of a message head is decided in `convert/message.rs`.

pub(crate) mod admin;
pub(crate) mod message;
pub(crate) mod message_id;
pub(crate) mod policy;
pub(crate) mod route;
pub(crate) mod stored_message;
pub(crate) mod time;
