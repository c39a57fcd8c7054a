//! The binary `pinnace`: a broker, and the tools to work with one. Only the list of parts and the exit code live here.

// Printing panics where the output is full or gone: `cli::output` does it instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod cli;
mod demo;
#[cfg(debug_assertions)]
mod failing_disk;
mod health;
mod listener;
mod manifests;
mod memory_limit;
mod metrics;
mod own_thread;
#[cfg(debug_assertions)]
mod power_cut;
mod read_only_disk;
mod real_disk;
mod serve;
mod shutdown;
mod volume;
mod web;
mod wiring;

use std::process::ExitCode;

/// Small allocations of many threads are what a broker does all day (measured in docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
