//! Every limit of the custom resources, with its unit in the name. The message model's own limits (protocol section
//! 5.6) are repeated here because this crate depends on none of the broker's.

/// Longest topic name.
pub const TOPIC_NAME_BYTES_MAX: usize = 127;
/// Longest consumer group name.
pub const GROUP_NAME_BYTES_MAX: usize = 120;
/// Most queues of one topic over all shards.
pub const QUEUES_PER_TOPIC_MAX: u32 = 1024;
/// Queues of a new topic that names none.
pub const QUEUES_DEFAULT: u32 = 8;
/// Largest message body.
pub const MESSAGE_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Most deliveries of one message to one group.
pub const ATTEMPTS_MAX: u32 = 1000;
/// Most entries of a list of pauses.
pub const BACKOFF_ENTRIES_MAX: usize = 32;
/// Most declared subscriptions of a group.
pub const SUBSCRIPTIONS_MAX: usize = 100;
/// Longest filter expression of a declared subscription.
pub const FILTER_EXPRESSION_BYTES_MAX: usize = 1024;
/// Longest id of a reset of progress.
pub const OFFSET_RESET_ID_BYTES_MAX: usize = 128;
/// Resets of progress that a group's status remembers, as many as brokers do.
pub const OFFSET_RESETS_REMEMBERED_MAX: usize = broker_model::limits::OFFSET_RESETS_REMEMBERED_MAX;
/// Longest name of a topic that a reset names, dead-letter topics included.
pub const SYSTEM_TOPIC_NAME_BYTES_MAX: usize = 255;
/// Shortest time without use after which a lite topic goes.
pub const LITE_EXPIRY_MS_MIN: u64 = 1_000;
/// Longest time without use after which a lite topic goes: one year.
pub const LITE_EXPIRY_MS_MAX: u64 = 8_760 * 3_600_000;
/// Shortest retention time.
pub const RETENTION_MS_MIN: u64 = 60_000;
/// Longest retention time: ten years.
pub const RETENTION_MS_MAX: u64 = 87_600 * 3_600_000;
/// Longest pause between two deliveries: one week.
pub const RETRY_PAUSE_MS_MAX: u64 = 168 * 3_600_000;
/// Most brokers of a cluster.
pub const BROKERS_MAX: u32 = 64;
/// Brokers of a new cluster that names none.
pub const BROKERS_DEFAULT: u32 = 1;
/// To how many brokers a cluster grows that names no most.
pub const SCALE_BROKERS_MAX_DEFAULT: u32 = 3;
/// Volume of each broker of a new cluster that names none.
pub const STORAGE_SIZE_DEFAULT: &str = "10Gi";
/// Smallest volume of a broker: this, and as much again as [`VOLUME_BYTES_PER_SHARD_MIN`] for each shard.
pub const VOLUME_BYTES_MIN: u64 = 24 << 20;
/// Room that a broker's volume needs for each shard.
pub const VOLUME_BYTES_PER_SHARD_MIN: u64 = 48 << 20;
/// Most shards of one broker.
pub const SHARDS_PER_BROKER_MAX: u32 = 64;
/// Most shards of a cluster.
pub const SHARDS_MAX: u32 = 1024;
/// Most copies of a shard that can ever be asked for.
pub const REPLICATION_MAX: u32 = 5;
/// Longest name of a cluster: the names of its pods and their labels must still fit into 63 characters.
pub const CLUSTER_NAME_BYTES_MAX: usize = 40;
/// Most listeners of a cluster.
pub const LISTENERS_MAX: usize = 8;
/// Longest name of a listener.
pub const LISTENER_NAME_BYTES_MAX: usize = 20;
/// Most names and addresses of a listener.
pub const LISTENER_HOSTS_MAX: usize = 16;
/// Most networks of a listener's load balancer.
pub const LISTENER_SOURCE_RANGES_MAX: usize = 32;
/// Most addresses of one load balancer that are told of.
pub const LISTENER_INGRESS_MAX: usize = 15;
/// Longest name of any Kubernetes object.
pub const OBJECT_NAME_BYTES_MAX: usize = 253;
/// Longest name of a namespace.
pub const NAMESPACE_BYTES_MAX: usize = 63;
/// Most entries of a map of labels, annotations or resources.
pub const MAP_ENTRIES_MAX: usize = 64;
/// Longest value in such a map.
pub const MAP_VALUE_BYTES_MAX: usize = 4096;
/// Most tolerations of a pod.
pub const TOLERATIONS_MAX: usize = 32;
/// Most entries of a list of names in a status.
pub const STATUS_NAMES_MAX: usize = 64;
/// Most members of a group shown in its status; the count is always complete.
pub const STATUS_MEMBERS_MAX: usize = 64;
/// Most assignments of a group shown in its status.
pub const STATUS_ASSIGNMENTS_MAX: usize = 256;
/// Most topics of a group shown in its status.
pub const STATUS_TOPICS_MAX: usize = 100;
/// Most conditions of an object.
pub const CONDITIONS_MAX: usize = 16;
/// Longest message of a condition.
pub const CONDITION_MESSAGE_BYTES_MAX: usize = 32_768;
/// How long an object in a namespace that is being deleted waits for brokers that it cannot be deleted from.
pub const NAMESPACE_DELETION_WAIT_SECONDS_DEFAULT: u64 = 60;
/// Largest manifest file.
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most documents of one manifest file.
pub const MANIFEST_DOCUMENTS_MAX: usize = 10_000;
