//! The words of the RocketMQ domain model as plain types: names, limits, filters, policies, handles.
//! No I/O, no clock, no wire format; whoever holds one of these types holds a value that was checked.
// Its numbers come from clients, files and manifests.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod consumer_group;
pub mod filter;
mod handle_key;
mod handle_text;
pub mod limits;
pub mod message_group;
pub mod message_key;
pub mod message_type;
pub mod name;
pub mod now;
pub mod owner;
pub mod recall_handle;
pub mod receipt_handle;
pub mod retry_policy;
pub mod shard;
pub mod topic;
pub mod transaction_id;

pub use consumer_group::{
    ConsumerGroup, ConsumerGroupChangeError, ConsumerGroupError, DeadLetterPolicy, Model, Order,
    StartFrom, Subscription,
};
pub use filter::{EvaluationError, Filter, FilterError, SqlFilter, Truth, tag_hash};
pub use handle_key::{HANDLE_KEY_BYTES, HandleKey, is_code};
pub use handle_text::HandleError;
pub use message_group::message_group_hash;
pub use message_key::key_hash;
pub use message_type::MessageType;
pub use name::{DEAD_LETTER_PREFIX, GroupName, NameError, TopicName};
pub use now::Now;
pub use owner::{Owner, OwnerError};
pub use recall_handle::RecallHandle;
pub use receipt_handle::ReceiptHandle;
pub use retry_policy::{Backoff, RetryError, RetryPolicy};
pub use shard::{ShardId, shard_name, shard_of_name};
pub use topic::{QueuePlacement, Topic, TopicChangeError, TopicError};
pub use transaction_id::TransactionId;
