//! Limits of the wire layer, each with its unit. The limits of the message model are in `broker_model::limits`.
//! Nothing in this crate grows without one of them.

/// Largest request taken, a send: above [`broker_model::limits::SEND_REQUEST_BYTES_MAX`], so that a batch that is too large
/// gets an answer that says so, and far below a batch of 1024 bodies of full size.
pub const REQUEST_BYTES_MAX: usize = 40 * 1024 * 1024;
/// Largest request of an RPC that brings lists: acknowledgements, lite topics, settings, answers of clients to questions.
pub const MEDIUM_REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Largest request of any other RPC.
pub const SMALL_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Largest request of the admin services: a cluster map, names to list, a message to send.
pub const ADMIN_REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Requests above this size leave one part in eight of the memory for requests to smaller ones.
pub const REQUEST_BYTES_PREFERRED: usize = 64 * 1024;
/// A request has this long to arrive, if its caller does not give less.
pub const REQUEST_MS_MAX: u64 = 60_000;
/// An answer is given this long before the caller gives up, or a fortieth of its time if that is less.
pub const DEADLINE_RESERVE_MS: u64 = 50;
/// An answer to a client begins within this time, if its caller does not give less.
pub const CALL_MS_MAX: u64 = 60_000;
/// The same of the admin services, which may read much.
pub const ADMIN_CALL_MS_MAX: u64 = 600_000;
/// Addresses of an access point that are decoded.
pub const ACCESS_POINT_ADDRESSES_SENT_MAX: usize = 256;
/// Pauses in a list of pauses that are decoded.
pub const BACKOFF_PAUSES_SENT_MAX: usize = 4_096;
/// Properties of a client that are decoded.
pub const CLIENT_PROPERTIES_MAX: usize = 128;
/// Keys of one message that are decoded, on average over its request.
pub const MESSAGE_KEYS_SENT_MAX: usize = 64;
/// Lite topics in one request.
pub const LITE_NAMES_SENT_MAX: usize = 4_096;
/// Topics that a client names in its settings.
pub const SETTINGS_TOPICS_MAX: usize = 1_024;
/// Subscriptions of one declared group.
pub const SUBSCRIPTIONS_SENT_MAX: usize = 4_096;
/// Everything of one message that is not its body, encoded.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest client id.
pub const CLIENT_ID_BYTES_MAX: usize = 255;
/// Settings of one client, encoded.
pub const SETTINGS_BYTES_MAX: usize = 64 * 1024;
/// What a client without settings takes in memory, its id not counted.
pub const SESSION_BYTES: usize = 1024;
/// Commands to one client that wait for its telemetry stream.
pub const TELEMETRY_COMMANDS_MAX: usize = 64;
/// Questions to clients that wait for an answer.
pub const QUESTIONS_MAX: usize = 256;
/// How long a client has to answer a question (protocol section 3.2).
pub const QUESTION_MS_MAX: u64 = 5_000;
/// Entries of one acknowledge request.
pub const ACK_ENTRIES_MAX: usize = 1024;
/// Deliveries that this broker prolongs for push consumers at one time; further ones get a single slice.
pub const RENEWALS_MAX: usize = 200_000;
/// A delivery whose prolonging failed so often is let go.
pub const RENEWAL_FAILURES_MAX: u32 = 3;
/// Deliveries that are prolonged, or given back, at one time; the others wait for their turn.
pub const RENEWALS_AT_ONCE: usize = 256;
/// Deliveries of a client that is gone come back after this time.
pub const RELEASE_INVISIBLE_MS: u64 = 1_000;
/// How often the shards are asked about FIFO topics that grow.
pub const LAYOUT_ROUND_MS: u64 = 500;
/// A send to a topic that grows waits so long for its new layout.
pub const LAYOUT_WAIT_MS_MAX: u64 = 2_000;
/// How often it tries again when nothing is told of the topic.
pub const LAYOUT_TRY_MS: u64 = 100;
/// How often silent clients are looked for.
pub const EXPIRY_ROUND_MS: u64 = 10_000;
/// Longest delay of a delayed message.
pub const DELIVERY_DELAY_MS_MAX: u64 = 24 * 3_600_000;
/// Longest wait for the end of a transaction that a message can ask for.
pub const TRANSACTION_RECOVERY_MS_MAX: u64 = 3_600_000;
/// Topics of one producer that are remembered from its sends.
pub const PRODUCED_TOPICS_MAX: usize = 256;
/// Longest lite topic name.
pub const LITE_TOPIC_BYTES_MAX: usize = 64;
/// Addresses of an access point that are echoed.
pub const ACCESS_POINT_ADDRESSES_MAX: usize = 16;
/// Pauses in a list of pauses sent to a client.
pub const BACKOFF_PAUSES_MAX: usize = 64;
/// Brokers in a cluster map.
pub const MAP_BROKERS_MAX: usize = 1_024;
/// Largest version of a cluster map: there is always a next one.
pub const MAP_VERSION_MAX: u64 = 1 << 48;
/// How far the version of a cluster map may be ahead of the one held.
pub const MAP_VERSION_STEP_MAX: u64 = 1 << 20;
/// Longest host of a broker in a cluster map.
pub const MAP_HOST_BYTES_MAX: usize = 253;
/// Most names in the client hosts of a cluster map.
pub const MAP_CLIENT_HOSTS_MAX: usize = 64;
/// Shards in a cluster map.
pub const MAP_SHARDS_MAX: usize = 16_384;
/// Topics, and pairs of topic and group, whose messages are counted one by one.
pub const TRAFFIC_COUNTS_MAX: usize = 100_000;
/// Dead letters put back by one call.
pub const REDRIVE_MESSAGES_MAX: u32 = 10_000;
/// Dead letters that one call looks at, whether they are wanted or not.
pub const DEAD_LETTERS_LOOKED_AT_MAX: u32 = 4_096;
/// Of these, so many in one step of a shard.
pub const DEAD_LETTERS_PER_STEP: u32 = 256;
/// Longest wait for another broker to which a call was passed on.
pub const PASSED_ON_MS_MAX: u64 = 3_000;
/// Questions about transactions that other brokers are asked to put at one time; what is beyond is asked again later.
pub const ASKED_ELSEWHERE_MAX: usize = 32;
/// When no other broker had a producer of a topic, they are asked again after this, milliseconds.
pub const ASKED_ELSEWHERE_AGAIN_MS: u64 = 10_000;
/// Longest wait for a connection to another broker.
pub const PEER_CONNECT_MS_MAX: u64 = 1_000;
/// A poll that found nothing for so long is told of messages at other brokers.
pub const WATCH_AFTER_MS: u64 = 20;
/// Watches at other brokers, each an open request there. A poll beyond it waits at its own broker alone.
pub const WATCHES_MAX: usize = 2_048;
/// A watch asks anew after this time.
pub const WATCH_ASK_MS_MAX: u64 = 20_000;
/// A watch that told of messages which others took pauses for so long, twice as long each time ...
pub const WATCH_PAUSE_MS_MIN: u64 = 10;
/// ... and so long at most.
pub const WATCH_PAUSE_MS_MAX: u64 = 500;
/// A watch at a broker that does not answer is tried again after this time.
pub const WATCH_RETRY_MS: u64 = 1_000;
/// Longest time for giving back what another broker handed out and no client took.
pub const GIVE_BACK_MS_MAX: u64 = 10_000;
/// Messages that one search returns.
pub const FIND_MESSAGES_MAX: u32 = 1_000;
/// Messages that one search returns when it does not say how many.
pub const FIND_MESSAGES_DEFAULT: u32 = 32;
/// A message was stored within this time of the second in its id, before or after: the clocks of client and broker
/// differ, and a send may be repeated. When nothing is found there, everything is searched.
pub const MESSAGE_ID_AGE_MS_MAX: u64 = 3_600_000;
/// Subscriptions in one answer of the RocketMQ admin service.
pub const LISTED_SUBSCRIPTIONS_MAX: usize = 100_000;
/// Topics that one question of the RocketMQ admin service names.
pub const ADMIN_TOPICS_MAX: usize = 64;
/// How long messages are counted to tell how many there are in a second.
pub const RATE_SAMPLE_MS: u64 = 1_000;
/// Longest wait for the catalog to hear of a group's new dead-letter topic.
pub const TOPIC_KNOWN_MS_MAX: u64 = 200;
/// Open state streams.
pub const WATCHERS_MAX: usize = 64;
/// The least change of a waiting message's age that a state stream tells, milliseconds.
pub const LAG_STEP_MS_MIN: u64 = 1_000;
/// The time of the oldest message kept that moved by less is not told again to readers of the state stream.
pub const OLDEST_STEP_MS_MIN: u64 = 60_000;
/// Events that wait for a slow reader of the state stream.
pub const WATCH_EVENTS_MAX: usize = 256;
/// How often numbers are compared and sent on the state stream.
pub const WATCH_ROUND_MS: u64 = 1_000;
/// Lite subscriptions told to lite consumers.
pub const LITE_SUBSCRIPTIONS_MAX: i32 = 2_000;
