//! The state of a shard as bytes: what is stored comes back.
