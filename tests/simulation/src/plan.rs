//! What a seed decides before a history begins: how long it is, which topics, groups and faults it has, and how often.
//! Each history has another mixture, so that no fault hides behind another.

use broker_engine::{LIMITS, Limits};
use broker_model::{
    ConsumerGroup, DeadLetterPolicy, Filter, GroupName, MessageType, Model, Order, QueuePlacement,
    ShardId, StartFrom, Subscription, Topic, TopicName,
};

use crate::random::Random;

/// How often faults happen in the steps of a history, each out of 1,000.
#[derive(Debug, Clone, Default)]
pub struct FaultRates {
    /// The machine loses its power.
    pub kill: u64,
    /// The process does nothing for a while.
    pub pause: u64,
    /// The broker's clock jumps.
    pub clock_jump: u64,
    /// The newest snapshot is gone before a start.
    pub lose_snapshot: u64,
    /// A packet is lost.
    pub drop: u64,
    /// A packet arrives twice.
    pub duplicate: u64,
    /// Bits flip at rest.
    pub bit_flip: u64,
    /// A range of a file cannot be read any more.
    pub broken_range: u64,
    /// The volume is small for a while.
    pub disk_full: u64,
    /// Others filled the volume before anything happens, but for so many segments, and nearly all the time; none = not so.
    pub segments_left: Option<u64>,
    /// As in `DiskFaults`.
    pub failed_writes: u64,
    /// As in `DiskFaults`.
    pub failed_syncs: u64,
    /// As in `DiskFaults`.
    pub failed_reads: u64,
    /// As in `DiskFaults`.
    pub stale_reads: u64,
    /// As in `DiskFaults`.
    pub misdirected_reads: u64,
    /// As in `DiskFaults`.
    pub slow_operations: u64,
}

impl FaultRates {
    /// What can go wrong with one shard of several while the process lives.
    #[must_use]
    pub fn of_one_shard(&self) -> Self {
        Self {
            kill: 0,
            bit_flip: 0,
            broken_range: 0,
            failed_writes: 0,
            failed_syncs: 0,
            failed_reads: 0,
            stale_reads: 0,
            misdirected_reads: 0,
            ..self.clone()
        }
    }
}

/// A group, and what it reads.
#[derive(Debug, Clone)]
pub struct PlannedGroup {
    /// Its settings.
    pub settings: ConsumerGroup,
    /// Its topics.
    pub topics: Vec<String>,
    /// What it wants of them.
    pub filter: Filter,
    /// It wants only messages of this tag.
    pub tag: Option<&'static str>,
    /// Its clients.
    pub clients: Vec<String>,
    /// May be deleted and made again.
    pub is_volatile: bool,
}

impl PlannedGroup {
    /// Only messages of this tag from now on.
    fn want(&mut self, tag: &'static str) {
        self.tag = Some(tag);
        self.filter = Filter::parse_tags(tag).expect("a legal filter");
    }
}

/// A history before it begins.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where chance begins.
    pub seed: u64,
    /// Steps of the driver.
    pub steps: u64,
    /// Size of segments.
    pub segment_bytes: u64,
    /// Of the newest frames, how much is in memory.
    pub tail_cache_bytes: usize,
    /// Largest body.
    pub body_bytes_max: u64,
    /// Longest way of a packet.
    pub delay_ms_max: u64,
    /// What there is to send to.
    pub topics: Vec<Topic>,
    /// Topics of dead letters that are not kept for ever.
    pub dead_letter_topics: Vec<Topic>,
    /// Of those: may be deleted and made again.
    pub volatile_topics: Vec<String>,
    /// Who receives.
    pub groups: Vec<PlannedGroup>,
    /// Resets of offsets, out of 1,000 client calls.
    pub resets: u64,
    /// Longest invisible duration.
    pub invisible_ms_max: u64,
    /// Longest delay of a message.
    pub message_delay_ms_max: u64,
    /// Consumers and producers that keep up: they remember little and acknowledge more than is sent.
    pub is_steady: bool,
    /// Longest wait of a step.
    pub wait_ms_max: u64,
    /// Questions for the oldest message that is kept, and looks at full segments, out of 1,000 steps each.
    pub retention: u64,
    /// Limits that are reached; none: as they are.
    pub limits: Option<Limits>,
    /// Shards of the process.
    pub shards: u64,
    /// Most messages that a receive asks for.
    pub batch_max: u64,
    /// Searches by time and resets to one, changes of a group's settings, forged handles: out of 1,000 client calls each.
    pub times: u64,
    /// See above.
    pub settings: u64,
    /// See above.
    pub forged: u64,
    /// What goes wrong.
    pub faults: FaultRates,
}

/// Every message type by the topic that carries it.
pub const TOPICS: [(&str, MessageType, u32); 6] = [
    ("normal", MessageType::Normal, 3),
    ("fifo", MessageType::Fifo, 2),
    ("delay", MessageType::Delay, 2),
    ("transaction", MessageType::Transaction, 2),
    ("priority", MessageType::Priority, 3),
    ("lite", MessageType::Lite, 1),
];

/// Segment and largest body: all that queues up during one write must fit in one segment.
const SIZES: [(u64, u64); 9] = [
    (8_192, 40),
    (8_192, 100),
    (12_288, 40),
    (16_384, 100),
    (65_536, 40),
    (65_536, 300),
    (131_072, 300),
    (262_144, 1_500),
    (1_048_576, 6_000),
];

/// Chosen so that the seeds of regressions.txt that failed before there were misdirected reads have none.
const MISDIRECTED_SALT: u64 = 0x000d_15c0_5eed_000d;
const FILLED_SALT: u64 = 0x00f1_11ed_5eed_00f1;

/// Chosen so that the seeds of regressions.txt that failed before there was retention have none.
const RETENTION_SALT: u64 = 0x0000_0071_3000_00b2;

/// Chosen so that the seeds of regressions.txt that failed before there was this variety have none.
const VARIETY_SALT: u64 = 0x7a71_e700_00e6_e830;

/// The topic whose messages go when they are old.
pub const BRIEF: &str = "brief";
/// The topic whose messages go when there are many. In one queue, so that it is plain which ones are behind another.
pub const SCARCE: &str = "scarce";

/// Lite topics of the LITE topic.
pub const LITE_TOPICS: [&str; 3] = ["one", "two", "three"];

/// Queues of a topic, with those that it may get.
#[must_use]
pub fn queues_of(topic: &Topic) -> u32 {
    match topic.message_type {
        MessageType::Lite => LITE_TOPICS.len() as u32,
        _ => topic.queues,
    }
}

/// A topic name that is known to be legal.
#[must_use]
pub fn topic_name(name: &str) -> TopicName {
    TopicName::parse(name).expect("names of the simulation are legal")
}

/// A group name that is known to be legal.
#[must_use]
pub fn group_name(name: &str) -> GroupName {
    GroupName::parse(name).expect("names of the simulation are legal")
}

fn group(random: &mut Random, name: &str, topics: &[&str]) -> PlannedGroup {
    let mut settings = ConsumerGroup::with_defaults(group_name(name));
    settings.retry.max_attempts = u32::try_from(random.between(1, 4)).unwrap_or(1);
    let clients = (0..random.between(1, 3)).map(|n| format!("{name}-{n}")).collect();
    PlannedGroup {
        settings,
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        filter: Filter::All,
        tag: None,
        clients,
        is_volatile: false,
    }
}

fn groups(random: &mut Random) -> Vec<PlannedGroup> {
    let mut groups = vec![
        group(random, "billing", &["normal", "delay", "transaction", "priority"]),
        PlannedGroup {
            tag: Some("a"),
            filter: Filter::parse_tags("a").expect("a legal filter"),
            ..group(random, "tagged", &["normal", "fifo"])
        },
    ];
    let mut ledger = group(random, "ledger", &["fifo", "delay", "lite"]);
    ledger.settings.order = Order::Fifo;
    let mut screens = group(random, "screens", &["normal", "transaction"]);
    screens.settings.model = Model::Broadcasting;
    let mut late = group(random, "late", &["normal", "priority"]);
    late.settings.subscriptions = ["normal", "priority"]
        .map(|topic| Subscription {
            topic: topic_name(topic),
            is_sql: false,
            expression: "*".to_owned(),
            start_from: StartFrom::Latest,
        })
        .to_vec();
    let mut passing = group(random, "passing", &["normal", "volatile"]);
    passing.is_volatile = true;
    for optional in [ledger, screens, late, passing] {
        if random.happens(650) {
            groups.push(optional);
        }
    }
    let dead: Vec<String> =
        groups.iter().map(|g| TopicName::dead_letter_of(&g.settings.name).to_string()).collect();
    let mut undertaker = group(random, "undertaker", &[]);
    undertaker.topics = dead;
    undertaker.settings.retry.max_attempts = 1_000;
    groups.push(undertaker);
    groups
}

fn rate(random: &mut Random, max: u64) -> u64 {
    if random.happens(400) { random.between(1, max) } else { 0 }
}

fn faults(random: &mut Random) -> FaultRates {
    if random.happens(100) {
        return FaultRates::default();
    }
    let kill = if random.happens(700) { random.between(2, 40) } else { 0 };
    FaultRates {
        kill,
        pause: rate(random, 20),
        clock_jump: rate(random, 15),
        lose_snapshot: rate(random, 500),
        drop: rate(random, 150),
        duplicate: rate(random, 150),
        bit_flip: rate(random, 8),
        broken_range: rate(random, 5),
        disk_full: rate(random, 15),
        // From a chance of its own, below.
        segments_left: None,
        failed_writes: rate(random, 15),
        failed_syncs: rate(random, 15),
        failed_reads: rate(random, 60),
        stale_reads: rate(random, 60),
        // From a chance of its own, below.
        misdirected_reads: 0,
        slow_operations: rate(random, 100),
    }
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed_0f51_0b5e_55ed);
        let mut faults = faults(&mut random);
        if faults.kill + faults.stale_reads + faults.failed_reads > 0 {
            faults.misdirected_reads = rate(&mut Random::new(seed ^ MISDIRECTED_SALT), 60);
        }
        let mut filled = Random::new(seed ^ FILLED_SALT);
        if faults.disk_full > 0 && filled.happens(300) {
            faults.segments_left = Some(filled.below(3));
        }
        let mut topics: Vec<Topic> = TOPICS
            .iter()
            .map(|(name, message_type, queues)| topic(name, *message_type, *queues))
            .collect();
        topics.push(topic("volatile", MessageType::Normal, 2));
        let (mut segment_bytes, mut body_bytes_max) = *random.pick(&SIZES).expect("there are some");
        if faults.segments_left.is_some() {
            // So that what is left is used up.
            (segment_bytes, body_bytes_max) = SIZES[0];
        }
        let mut plan = Self {
            seed,
            steps: random.between(200, 420),
            segment_bytes,
            tail_cache_bytes: *random.pick(&[0, 4_096, 1_048_576]).unwrap_or(&0),
            body_bytes_max,
            delay_ms_max: *random.pick(&[0, 5, 100, 3_000]).unwrap_or(&0),
            topics,
            dead_letter_topics: Vec::new(),
            volatile_topics: vec!["volatile".to_owned()],
            groups: groups(&mut random),
            resets: if random.happens(500) { random.between(1, 20) } else { 0 },
            invisible_ms_max: *random.pick(&[2_000, 30_000]).unwrap_or(&2_000),
            message_delay_ms_max: 20_000,
            is_steady: false,
            wait_ms_max: *random.pick(&[300, 5_000, 40_000]).unwrap_or(&300),
            retention: 0,
            limits: None,
            shards: 1,
            batch_max: 10,
            times: 0,
            settings: 0,
            forged: 0,
            faults,
        };
        let mut random = Random::new(seed ^ RETENTION_SALT);
        if random.happens(400) {
            plan.keep_little();
            plan.shorten(&mut random);
        }
        let mut random = Random::new(seed ^ VARIETY_SALT);
        if random.happens(500) {
            plan.vary(&mut random);
            plan.shards = *random.pick(&[1, 1, 1, 2, 3]).unwrap_or(&1);
            plan.limits = small_limits(&mut random);
        }
        plan
    }

    /// What clients do seldom, and backlogs, filters and settings that are not usual.
    fn vary(&mut self, random: &mut Random) {
        self.batch_max = *random.pick(&[2, 3, 10]).unwrap_or(&10);
        self.times = rate(random, 60);
        self.settings = rate(random, 30);
        self.forged = rate(random, 60);
        if random.happens(200) {
            // Volumes that are full while groups are set to other places and acknowledge.
            self.resets = random.between(20, 120);
            self.faults.disk_full = random.between(5, 30);
        }
        let discarding = random.index(self.groups.len());
        for (at, group) in self.groups.iter_mut().enumerate() {
            if at == discarding
                && random.happens(400)
                && group.settings.name.as_str() != "undertaker"
            {
                group.settings.dead_letter = DeadLetterPolicy::Discard;
            }
            if group.settings.order == Order::Fifo && random.happens(500) {
                group.want("a");
            }
        }
        if random.happens(300) {
            // A tag that nobody sends.
            let mut nobody = self::group(random, "nobody", &["normal", "fifo", "delay"]);
            nobody.topics.retain(|name| self.topics.iter().any(|t| t.name.as_str() == name));
            if random.happens(500) {
                nobody.settings.order = Order::Fifo;
            }
            nobody.want("z");
            self.groups.push(nobody);
        }
    }

    /// Topics whose oldest messages go, and groups that read them.
    fn keep_little(&mut self) {
        self.topics.push(topic(BRIEF, MessageType::Normal, 2));
        self.topics.push(topic(SCARCE, MessageType::Fifo, 1));
        for group in &mut self.groups {
            let more: &[&str] = match group.settings.name.as_str() {
                "billing" | "ledger" => &[BRIEF, SCARCE],
                "tagged" => &[SCARCE],
                "screens" => &[BRIEF],
                _ => &[],
            };
            group.topics.extend(more.iter().map(|name| (*name).to_owned()));
        }
    }

    /// Limits that are reached soon, in a log whose segments are full soon.
    fn shorten(&mut self, random: &mut Random) {
        let kept_ms = random.pick(&[1_000, 8_000, 40_000, 200_000]).copied();
        let kept_bytes = random.between(500, 9_000);
        for topic in &mut self.topics {
            match topic.name.as_str() {
                BRIEF => topic.retention_ms = kept_ms,
                SCARCE => topic.retention_bytes = Some(kept_bytes),
                _ => {}
            }
        }
        (self.segment_bytes, self.body_bytes_max) = *random.pick(&SIZES[..4]).unwrap_or(&SIZES[0]);
        self.steps += random.between(100, 700);
        self.wait_ms_max = *random.pick(&[5_000, 20_000]).unwrap_or(&5_000);
        self.retention = random.between(20, 80);
        if random.happens(500) {
            self.keep_nothing_long(random);
        }
        if self.faults.kill > 0 && random.happens(500) {
            self.faults.lose_snapshot = random.between(100, 500);
        }
    }

    /// All topics have a limit, so that segments are not needed any more before the history is over.
    fn keep_nothing_long(&mut self, random: &mut Random) {
        // An open transaction keeps its segment.
        let has_transactions = random.happens(300);
        self.topics.retain(|topic| {
            topic.message_type != MessageType::Lite
                && (has_transactions || topic.message_type != MessageType::Transaction)
                && !self.volatile_topics.iter().any(|name| *name == topic.name.to_string())
        });
        let kept_ms = random.pick(&[1_000, 10_000, 60_000]).copied();
        self.steps += random.between(1_500, 3_000);
        self.retention += 40;
        (self.segment_bytes, self.body_bytes_max) = (12_288, 100);
        // Some messages wait until their segments are condensed.
        self.message_delay_ms_max = 200_000;
        for topic in &mut self.topics {
            if topic.retention_ms.is_none() && topic.retention_bytes.is_none() {
                topic.retention_ms = kept_ms;
            }
        }
        // A dead letter keeps its segment.
        for group in &mut self.groups {
            group.settings.retry.max_attempts += 8;
        }
    }

    /// Topics that do not keep everything.
    #[must_use]
    pub fn limited_topics(&self) -> Vec<&Topic> {
        let is_limited =
            |topic: &&Topic| topic.retention_ms.is_some() || topic.retention_bytes.is_some();
        self.topics.iter().chain(&self.dead_letter_topics).filter(is_limited).collect()
    }

    /// The same for days: all topics keep their messages for hours, and clients keep up with what is sent.
    #[must_use]
    pub fn for_days(mut self) -> Self {
        let hours = |count: u64| count * 3_600_000;
        self.topics =
            TOPICS.iter().map(|(name, kind, queues)| topic(name, *kind, *queues)).collect();
        self.groups = groups(&mut Random::new(self.seed));
        self.keep_little();
        self.topics.iter_mut().for_each(|topic| match topic.name.as_str() {
            SCARCE => topic.retention_bytes = Some(20_000),
            _ => topic.retention_ms = Some(hours(3)),
        });
        for group in &mut self.groups {
            group.settings.retry.max_attempts += 8;
            let name = TopicName::dead_letter_of(&group.settings.name);
            let mut dead_letters = topic(name.as_str(), MessageType::Normal, 1);
            dead_letters.retention_ms = Some(hours(6));
            self.dead_letter_topics.push(dead_letters);
        }
        (self.segment_bytes, self.body_bytes_max) = (16_384, 100);
        (self.retention, self.resets, self.is_steady) = (40, 1, true);
        self.message_delay_ms_max = hours(5);
        (self.invisible_ms_max, self.wait_ms_max) = (600_000, 200_000);
        self.faults = FaultRates {
            kill: 3,
            pause: 5,
            clock_jump: 1,
            drop: 10,
            duplicate: 10,
            ..FaultRates::default()
        };
        self
    }
}

/// In some histories, frames that are full soon and polls that look through little in one step; in some of these there may be
/// little in flight, behind others, and waiting as well.
fn small_limits(random: &mut Random) -> Option<Limits> {
    if !random.happens(300) {
        return None;
    }
    let small = Limits {
        frame_bytes_target: *random.pick(&[256, 1_024])?,
        looked_at_per_turn: 16,
        looked_at_per_step: 64,
        ..LIMITS
    };
    if random.happens(500) {
        return Some(small);
    }
    Some(Limits {
        inflight_per_group_queue: random.index(8) + 2,
        look_ahead_messages: random.index(8) + 2,
        work_per_step: 8,
        work_per_busy_step: 4,
        waiters_per_group_topic: random.index(3) + 1,
        ..small
    })
}

fn topic(name: &str, message_type: MessageType, queues: u32) -> Topic {
    let placement = vec![QueuePlacement { shard: ShardId(0), queues }];
    Topic::with_defaults(topic_name(name), message_type, placement)
}
