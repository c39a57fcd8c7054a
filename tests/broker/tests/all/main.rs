//! Tests of the real binary: one process under test per test, its own folder and ports each.

mod bad_input;
mod command_line;
mod crash;
mod long_poll;
mod manifests;
mod process;
mod rpcs;
mod transport;
