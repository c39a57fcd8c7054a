//! The services over a real connection, in front of real shards on a simulated disk.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

mod admin;
mod broker;
mod clients;
mod cluster;
mod growing;
mod lookup;
mod message_types;
mod offsets;
mod outside;
mod receiving;
mod rocketmq_admin;
mod sending;
