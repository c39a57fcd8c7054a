//! Every limit of the message model, with its unit in the name. Sources are the sections of the protocol description:
//! 5.6 for names, bodies and properties, 3.6 for polling and invisibility.

/// Largest body as sent on the wire.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most user properties of one message.
pub const USER_PROPERTIES_MAX: usize = 128;
/// Sum of the UTF-8 bytes of user property names and values, tag and keys of one message.
pub const PROPERTIES_BYTES_MAX: usize = 16 * 1024;
/// Longest topic name.
pub const TOPIC_NAME_BYTES_MAX: usize = 127;
/// Longest name of a retry or dead-letter topic, which carry a group name.
pub const SYSTEM_TOPIC_NAME_BYTES_MAX: usize = 255;
/// Longest consumer group name.
pub const GROUP_NAME_BYTES_MAX: usize = 120;
/// A message group must be shorter than this.
pub const MESSAGE_GROUP_BYTES_LIMIT: usize = 64;
/// Most messages in one send request.
pub const SEND_BATCH_MESSAGES_MAX: usize = 1024;
/// Most messages in the answer to one receive.
pub const RECEIVE_BATCH_MESSAGES_MAX: u32 = 32;
/// Most body bytes in the answer to one receive; at least one message is always given.
pub const RECEIVE_BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Shortest invisible duration of a receive.
pub const INVISIBLE_DURATION_MS_MIN: u64 = 10_000;
/// Longest invisible duration.
pub const INVISIBLE_DURATION_MS_MAX: u64 = 12 * 3_600_000;
/// The slice used when the server renews by itself.
pub const AUTO_RENEW_SLICE_MS: u64 = 60_000;
/// How long an automatically renewed message may stay with one consumer, in slices: 3 hours.
pub const AUTO_RENEW_SLICES_MAX: u64 = 180;
/// Shortest long poll; a shorter wish is raised to it.
pub const POLLING_MS_MIN: u64 = 5_000;
/// Longest long poll; a longer wish is cut to it.
pub const POLLING_MS_MAX: u64 = 20_000;
/// A poll is answered this long before the caller's deadline.
pub const POLLING_RESERVE_MS: u64 = 100;
/// Parked polls of one (group, topic) on one shard.
pub const WAITERS_PER_GROUP_TOPIC_MAX: usize = 1024;
/// Parked polls on one shard.
pub const WAITERS_PER_SHARD_MAX: usize = 100_000;
/// Messages of one (group, queue) in flight.
pub const INFLIGHT_PER_GROUP_QUEUE_MAX: usize = 200_000;
/// Deliveries of a message to a group before it goes to the dead-letter topic, unless the group says otherwise.
pub const ATTEMPTS_DEFAULT: u32 = 17;
/// Most attempts a group can ask for.
pub const ATTEMPTS_MAX: u32 = 1000;
/// Most queues of one topic over all shards.
pub const QUEUES_PER_TOPIC_MAX: u32 = 1024;
/// Queues of a topic that names none.
pub const QUEUES_DEFAULT: u32 = 8;
/// Topics of one broker.
pub const TOPICS_MAX: usize = 100_000;
/// Names of deleted topics and groups that a shard remembers.
pub const DELETED_NAMES_MAX: usize = 10_000;
/// Consumer groups of one broker.
pub const GROUPS_MAX: usize = 100_000;
/// With so many, no more groups are made by first use: the rest of the places is for those that are declared.
pub const GROUPS_BY_FIRST_USE_MAX: usize = 80_000;
/// A group by first use that has nothing to lose is forgotten after so many hours of service without use.
pub const GROUP_UNUSED_HOURS_MAX: u64 = 24;
/// Hours of service without use after which the progress of a group by first use is forgotten: longer than a quarter of a year,
/// because there are jobs that run so seldom.
pub const GROUP_PROGRESS_UNUSED_HOURS_MAX: u64 = 100 * 24;
/// The same while more than [`GROUPS_BY_FIRST_USE_CROWDED`] groups are there: longer than a week.
pub const GROUP_PROGRESS_UNUSED_HOURS_CROWDED: u64 = 8 * 24;
/// With more groups by first use, those that are used seldom make room earlier.
pub const GROUPS_BY_FIRST_USE_CROWDED: usize = GROUPS_BY_FIRST_USE_MAX / 2;
/// A group by first use that is in use is noted in the log once in so many hours of service.
pub const GROUP_USE_NOTED_HOURS: u64 = 4;
/// How often it is looked which groups were used, and which are to be forgotten.
pub const GROUP_USE_ROUND_MS: u64 = 600_000;
/// Groups that one such round looks at for whether they were used for long.
pub const GROUPS_PER_USE_ROUND_MAX: usize = 1_024;
/// Groups by first use of which a shard is told, or asked, at one time.
pub const GROUPS_TOLD_AT_ONCE_MAX: usize = 64;
/// Longest filter expression, of tags or SQL.
pub const FILTER_EXPRESSION_BYTES_MAX: usize = 4096;
/// Tags in one filter expression.
pub const FILTER_TAGS_MAX: usize = 256;
/// How many levels of parentheses, signs, NOT and operators an SQL filter may nest. Parsing, evaluating and dropping
/// recurse this deep at most.
pub const FILTER_SQL_LEVELS_MAX: usize = 64;
/// Operators in one SQL filter: AND, OR, NOT, signs, comparisons and tests, with each string of an IN list counted as
/// none. It bounds what one evaluation costs.
pub const FILTER_SQL_OPERATORS_MAX: usize = 512;
/// Silence after which a client counts as gone.
pub const CLIENT_EXPIRY_MS: u64 = 120_000;
/// Clients known to one broker.
pub const CLIENTS_MAX: usize = 100_000;
/// Shards of one broker process.
pub const SHARDS_PER_BROKER_MAX: u32 = 64;
/// Most bytes of heads and bodies in one send request: it has to fit in one frame of the log. Less on small volumes.
pub const SEND_REQUEST_BYTES_MAX: usize = 28 * 1024 * 1024;
/// Percent of the memory that the process may have, that what clients hand over and do not take away may have together.
pub const MEMORY_BUDGET_PERCENT: u64 = 50;
/// The least such budget, however small the process: a full message passes.
pub const MEMORY_BUDGET_BYTES_MIN: u64 = 48 * 1024 * 1024;
/// Bytes of the sends of one shard that wait or are not durable yet; beyond it a send is refused.
pub const SEND_BYTES_PER_SHARD_MAX: usize = 64 * 1024 * 1024;
/// Bytes of the receives and pulls of one shard that wait: filters, names of lite topics; beyond it a poll is refused.
pub const POLL_BYTES_PER_SHARD_MAX: usize = 128 * 1024 * 1024;
/// Bytes of all other commands of one shard that wait or are not durable yet; beyond it a command is refused.
pub const SMALL_COMMAND_BYTES_PER_SHARD_MAX: usize = 32 * 1024 * 1024;
/// Entries of the index in memory of one shard: messages that stand in no index file yet, hidden ones, and one for each
/// queue and sealed segment that holds messages of it; beyond it sends are refused.
pub const INDEX_ENTRIES_PER_SHARD_MAX: u64 = 32 * 1024 * 1024;
/// Entries of the index in memory that one reading of all lags looks at for what passes declared filters; longer backlogs
/// are estimated.
pub const LAG_ENTRIES_PER_READ_MAX: u64 = 128 * 1024;
/// Blocks of index files, of 64 messages each, that it reads for the same.
pub const LAG_SEALED_BLOCKS_PER_READ_MAX: u64 = 256;
/// Messages that one poll looks at in one step of a shard; it goes on in the next one.
pub const LOOKED_AT_PER_TURN_MAX: u32 = 4 * 1024;
/// Messages that all polls look at in one step of a shard.
pub const LOOKED_AT_PER_STEP_MAX: u32 = 32 * 1024;
/// What one step of a shard does by itself, in records and the like: deliveries that end, messages that are due, resets and
/// redrives. What is left is done in the next steps.
pub const WORK_PER_STEP_MAX: u32 = 16 * 1024;
/// The same while the log has more to write than it writes at once: what is asked for goes first.
pub const WORK_PER_BUSY_STEP_MAX: u32 = 256;
/// Queues of a reset by a number of messages: it is carried out as a whole, because a part of it cannot be repeated.
pub const SHIFTED_QUEUES_MAX: usize = 256 * 1024;
/// How often messages beyond their topic's retention are looked for.
pub const RETENTION_CHECK_MS: u64 = 10_000;
/// Retention by age believes at once a step forward of the wall clock of so much ...
pub const CLOCK_STEP_MS_BELIEVED: u64 = 60_000;
/// ... and a larger one when it has lasted so long.
pub const CLOCK_STEP_MS_LASTING: u64 = 3_600_000;
/// How soon after the last time, when segments were sealed or the disk is nearly full.
pub const RETENTION_CHECK_MS_MIN: u64 = 1_000;
/// Messages that may wait for their turn behind others of their message groups, per (group, queue).
pub const LOOK_AHEAD_MESSAGES_MAX: usize = 200_000;
/// Longest name of a receive.
pub const ATTEMPT_ID_BYTES_MAX: usize = 255;
/// Named receives that a group in order remembers, per topic and shard.
pub const ATTEMPT_IDS_MAX: usize = 1024;
/// The same of all groups and topics of a shard.
pub const ATTEMPT_IDS_PER_SHARD_MAX: usize = 32 * 1024;
/// Bytes of these on one shard, what they were given included.
pub const ATTEMPT_BYTES_PER_SHARD_MAX: usize = 8 * 1024 * 1024;
/// Queues of which a shard keeps the progress of a group, each group counted; a new group gets no more of them.
pub const GROUP_QUEUES_PER_SHARD_MAX: usize = 2 * 1024 * 1024;
/// With so many, groups that nobody declared begin with no other topic.
pub const GROUP_QUEUES_BY_FIRST_USE_MAX: usize = GROUP_QUEUES_PER_SHARD_MAX / 2;
/// A producer is asked about an open transaction after this time, unless the message says otherwise.
pub const TRANSACTION_CHECK_AFTER_MS: u64 = 6_000;
/// And again after this time.
pub const TRANSACTION_CHECK_INTERVAL_MS: u64 = 30_000;
/// A transaction is rolled back after this many questions without an answer.
pub const TRANSACTION_CHECKS_MAX: u32 = 15;
/// A transaction is rolled back at this age, asked or not.
pub const TRANSACTION_AGE_MS_MAX: u64 = 72 * 3_600_000;
/// Lite topics of one topic on one shard.
pub const LITE_TOPICS_PER_TOPIC_MAX: usize = 100_000;
/// A lite topic that nobody sends to or receives from is deleted after this time, unless its topic says otherwise.
pub const LITE_EXPIRY_MS_DEFAULT: u64 = 24 * 3_600_000;
/// How often lite topics are looked through.
pub const LITE_EXPIRY_CHECK_MS: u64 = 10_000;
/// Shortest retention time of a topic.
pub const RETENTION_MS_MIN: u64 = 60_000;
/// Longest retention time of a topic: ten years. For longer, leave it out.
pub const RETENTION_MS_MAX: u64 = 87_600 * 3_600_000;
/// Shortest time without use after which a lite topic goes.
pub const LITE_EXPIRY_MS_MIN: u64 = 1_000;
/// Longest time without use after which a lite topic goes: one year.
pub const LITE_EXPIRY_MS_MAX: u64 = 8_760 * 3_600_000;
/// Longest pause between two deliveries of a message to a group: one week.
pub const RETRY_PAUSE_MS_MAX: u64 = 168 * 3_600_000;
/// Most entries of a list of pauses.
pub const RETRY_PAUSES_MAX: usize = 32;
/// Most growth of a pause from one delivery to the next.
pub const RETRY_MULTIPLIER_MAX: f64 = 100.0;
/// Most declared subscriptions of a group.
pub const SUBSCRIPTIONS_MAX: usize = 100;
/// Longest filter expression of a declared subscription.
pub const SUBSCRIPTION_EXPRESSION_BYTES_MAX: usize = 1024;
/// Longest id of a reset of progress.
pub const OFFSET_RESET_ID_BYTES_MAX: usize = 128;
/// Resets of progress that are remembered for one group; it gets no more with an id of their own.
pub const OFFSET_RESETS_REMEMBERED_MAX: usize = 64;
/// Bytes of ids and targets of all resets that one shard remembers.
pub const OFFSET_RESETS_PER_SHARD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most topics that one reset of progress names.
pub const OFFSET_RESET_TOPICS_MAX: usize = 100;
/// Longest part of an owner: its instance, its namespace, its name, its uid.
pub const OWNER_PART_BYTES_MAX: usize = 253;
/// Largest number of a shard.
pub const SHARD_NUMBER_MAX: u32 = 16_383;
