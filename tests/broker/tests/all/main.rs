//! Tests of the real binary: one process under test per test, its own folder and ports each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod clocks;
mod cluster;
mod command_line;
mod crash;
mod crash_types;
mod damaged_log;
mod dead_letters;
mod failing_disk;
mod full_disk;
mod growing;
mod key_tables;
mod lag;
mod left_out;
mod long_poll;
mod lookup;
mod manifests;
mod power_cut;
mod process;
mod push_consumers;
mod rolling_restart;
mod rpcs;
mod several_shards;
mod shards_agree;
mod small_volume;
mod stop_delay;
mod strangers;
mod surroundings;
mod transport;
