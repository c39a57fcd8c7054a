//! RocketMQ v2 and Pinnace's admin API on the wire. A request is decoded, checked, turned into words of the model, asked
//! of a shard or of the catalog, and answered. Nothing here stores, decides who gets a message, or opens a file or port.

// Where the numbers of clients come in, none is added to another unchecked.
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod admin;
pub mod admission;
mod broadcasting;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
mod caller;
pub mod clock;
mod connection;
pub mod context;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
mod convert;
pub mod endpoints;
pub mod housekeeping;
mod layouts;
pub mod limits;
mod lookup;
mod message_keys;
pub mod messaging_service;
mod peers;
mod renewal;
pub mod rocketmq_admin;
mod rpc;
pub mod session;
mod sql_filter;
mod status;
pub mod traffic;
mod transaction_checks;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
mod validate;
mod watches;

pub use admin::admin_service;
pub use connection::{Connection, OpenConnection};
pub use context::{BrokerContext, BrokerOptions, DiskSpace};
pub use endpoints::Advertised;
pub use housekeeping::housekeeping;
pub use message_keys::keys_of_head;
pub use messaging_service::messaging_service;
pub use renewal::RenewalTiming;
pub use rocketmq_admin::rocketmq_admin_service;
