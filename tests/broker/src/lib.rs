//! Starts the real `pinnace` binary on free ports and a fresh folder, runs its verbs and speaks gRPC to it.
//! Only what several test modules share lives here; the tests are in `tests/`.

mod binary;
pub mod broker;
pub mod client;
pub mod http;
mod process;
pub mod raw;
pub mod server;
pub mod volume;

pub use binary::binary;
pub use broker::{Broker, Options, Place};
pub use client::Client;
pub use http::get;
pub use server::Server;
pub use volume::Volume;
