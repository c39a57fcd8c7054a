//! The words of the RocketMQ domain model as plain types: names, limits, filters, policies, handles.
//! No I/O, no clock, no wire format; whoever holds one of these types holds a value that was checked.

pub mod consumer_group;
pub mod filter;
pub mod limits;
pub mod message_type;
pub mod name;
pub mod owner;
pub mod receipt_handle;
pub mod retry_policy;
pub mod shard;
pub mod topic;

pub use consumer_group::{ConsumerGroup, Model, Order, Subscription};
pub use filter::{EvaluationError, Filter, FilterError, SqlFilter, Truth, tag_hash};
pub use message_type::MessageType;
pub use name::{GroupName, NameError, TopicName};
pub use owner::Owner;
pub use receipt_handle::{HandleError, ReceiptHandle};
pub use retry_policy::{Backoff, RetryPolicy};
pub use shard::{ShardId, shard_name};
pub use topic::{QueuePlacement, Topic, TopicError};
