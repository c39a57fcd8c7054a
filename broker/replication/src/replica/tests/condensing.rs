//! Old segments of which little is live: they give their space back, and what is live of them is delivered as if nothing
//! had happened, whatever a start goes on from.

use broker_engine::{EndTransaction, Hidden, SentMessage};
use broker_model::TransactionId;
use broker_store::segments::condensed_bases;
use broker_store::{FRAME_HEADER_BYTES, OpenError, ReadError};

use super::*;

const DUE_MS: u64 = 3_000_000;
/// Messages that wait of each kind.
const WAITING: u64 = 6;

fn files_ending(shard: &Shard, ending: &str) -> usize {
    shard.disk.files_ending(ending).len()
}

fn send_one(shard: &mut Shard, topic: &str, text: &str, visible: Visible) -> SentMessage {
    let messages = vec![NewMessage { visible, ..message(text, None) }];
    let send = Send { topic: name(topic), messages, target: Target::Queue(0) };
    match shard.ask(Command::Send(send)) {
        Ok(Outcome::Sent(mut sent)) => sent.remove(0),
        other => panic!("{other:?}"),
    }
}

/// A shard that keeps little, with messages of every kind that waits, each in a segment full of messages that go.
struct Bench {
    shard: Shard,
    transactions: Vec<TransactionId>,
    /// Every segment that there ever was.
    seen: SimulatedDisk,
}

impl Bench {
    fn new() -> Self {
        broker_store::switches::set_tail_cache_bytes(Some(0));
        use_small_segments();
        let mut shard = Shard::new();
        shard.create("orders", 1, "billing", 1);
        shard.create("poison", 1, "undertaker", 100);
        shard.create_of(MessageType::Delay, "reminders", 1);
        shard.create_of(MessageType::Transaction, "payments", 1);
        let placement = vec![QueuePlacement { shard: ShardId(0), queues: 1 }];
        let mut orders = Topic::with_defaults(name("orders"), MessageType::Normal, placement);
        orders.retention_ms = Some(20_000);
        for topic in ["orders", "poison"] {
            let limited = Topic { name: name(topic), ..orders.clone() };
            shard.ask(Command::PutTopic(Box::new(limited))).unwrap();
        }
        let seen = SimulatedDisk::default();
        let mut bench = Self { shard, transactions: Vec::new(), seen };
        for number in 0..WAITING {
            bench.leave_behind(number);
        }
        bench
    }

    /// Messages of about 500 bytes, one by one.
    fn fill(&mut self, count: usize) {
        for number in 0..count {
            self.shard.now_ms += 1;
            self.shard.ask(send("orders", &[&format!("m{number:0499}")])).unwrap();
            for path in self.shard.disk.files_ending(".seg") {
                let bytes = self.shard.disk.contents(&path).unwrap();
                self.seen.create_filled(&path, &bytes).unwrap();
            }
        }
    }

    /// One message of each kind, and then enough that goes.
    fn leave_behind(&mut self, number: u64) {
        let shard = &mut self.shard;
        let visible = Visible::At { due_ms: DUE_MS + number };
        send_one(shard, "reminders", &format!("reminder {number}"), visible);
        let visible = Visible::OnCommit { check_after_ms: 60_000_000 };
        let sent = send_one(shard, "payments", &format!("payment {number}"), visible);
        let Some(Hidden::Half { number: half, .. }) = sent.hidden else { panic!("{sent:?}") };
        let id = TransactionId { shard: ShardId(0), topic: sent.topic, number: half, code: None };
        self.transactions.push(id);
        send_one(shard, "poison", &format!("poison {number}"), Visible::AtOnce);
        assert_eq!(shard.receive("billing", "poison", Filter::All).len(), 1);
        self.fill(25);
        self.shard.now_ms += 31_000;
        self.shard.settle();
        self.fill(5);
    }

    /// Until retention took what it takes, and two snapshots say so.
    fn let_go(&mut self) {
        for _ in 0..6 {
            self.shard.now_ms += 31_000;
            self.shard.settle();
            self.fill(20);
        }
        self.shard.settle();
    }

    /// Everything that was left behind is delivered, with its bytes.
    fn check_all_delivered(mut self) {
        let topic = name("payments");
        for id in std::mem::take(&mut self.transactions) {
            let end = EndTransaction { topic: topic.clone(), id, is_commit: true };
            self.shard.ask(Command::EndTransaction(end)).unwrap();
        }
        self.shard.now_ms = DUE_MS + 10_000;
        self.shard.settle();
        let group = ConsumerGroup::with_defaults(GroupName::parse("undertaker").unwrap());
        self.shard.ask(Command::PutGroup(Box::new(group))).unwrap();
        for (from, what) in
            [("reminders", "reminder"), ("payments", "payment"), ("%DLQ%billing", "poison")]
        {
            let expected: BTreeSet<String> = (0..WAITING).map(|n| format!("{what} {n}")).collect();
            let received = bodies(&self.shard.receive("undertaker", from, Filter::All));
            assert_eq!(received, expected, "from {from}");
        }
    }
}

#[test]
fn what_waits_keeps_a_small_file_and_is_delivered() {
    let mut bench = Bench::new();
    bench.let_go();
    let shard = &bench.shard;
    let (whole, live) = (files_ending(shard, ".seg"), files_ending(shard, ".live"));
    assert!(live >= usize::try_from(WAITING).unwrap(), "{live} are condensed");
    assert!(whole < 10, "{whole} whole segments, {live} condensed ones");
    let bytes: u64 = shard.replica.log().bytes();
    let kept_bytes = live as u64 * options().segment_bytes / 4;
    assert!(bytes < kept_bytes + 10 * options().segment_bytes, "{bytes} bytes");
    assert_eq!(files_ending(shard, ".tmp"), 0);
    bench.check_all_delivered();
}

#[test]
fn a_segment_stays_whole_while_what_is_condensed_of_it_does_not_read_back() {
    for at in [20, 70, 120] {
        let mut bench = Bench::new();
        bench.shard.disk.garble_created("live.tmp", Some(at));
        let condensed = files_ending(&bench.shard, ".live");
        bench.let_go();
        assert_eq!(files_ending(&bench.shard, ".live"), condensed, "byte {at}");
        assert!(files_ending(&bench.shard, ".seg") >= 6 - condensed, "byte {at}");
        bench.shard.restart();
        bench.check_all_delivered();
    }
}

#[test]
fn what_waits_is_delivered_after_a_restart_and_after_a_start_from_the_older_snapshot() {
    for lose_newest in [false, true] {
        for lose_indexes in [false, true] {
            let mut bench = Bench::new();
            bench.let_go();
            if lose_newest {
                let newest = bench.shard.disk.files_ending(".snap").into_iter().max().unwrap();
                bench.shard.disk.remove(&newest).unwrap();
            }
            if lose_indexes {
                for path in bench.shard.disk.files_ending(".idx") {
                    bench.shard.disk.remove(&path).unwrap();
                }
            }
            let live = files_ending(&bench.shard, ".live");
            bench.shard.restart();
            assert_eq!(files_ending(&bench.shard, ".live"), live);
            assert!(live > 0, "lost: {lose_newest}, {lose_indexes}");
            bench.check_all_delivered();
        }
    }
}

#[test]
fn what_is_condensed_goes_when_nobody_waits_any_more() {
    let mut bench = Bench::new();
    bench.let_go();
    assert!(files_ending(&bench.shard, ".live") > 0);
    for topic in ["reminders", "payments", "%DLQ%billing"] {
        bench.shard.ask(Command::DeleteTopic(name(topic))).unwrap();
    }
    bench.let_go();
    assert_eq!(files_ending(&bench.shard, ".live"), 0);
    let disk: Arc<dyn Disk> = Arc::new(bench.shard.disk.clone());
    let indexes = files_ending(&bench.shard, ".idx");
    assert!(indexes < 10, "{indexes} indexes");
    assert!(condensed_bases(&*disk, &options().directory).unwrap().is_empty());
}

#[test]
fn a_segment_that_is_live_for_the_most_part_stays_whole() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 1);
    shard.create_of(MessageType::Delay, "reminders", 1);
    let texts: Vec<String> = (0..100).map(|number| format!("m{number:0499}")).collect();
    for text in &texts {
        // About half of each segment.
        send_one(&mut shard, "reminders", text, Visible::At { due_ms: DUE_MS });
        send_one(&mut shard, "orders", text, Visible::AtOnce);
    }
    assert!(shard.seals > 5);
    shard.ask(Command::DeleteTopic(name("orders"))).unwrap();
    shard.create_of(MessageType::Normal, "orders", 1);
    for text in &texts {
        send_one(&mut shard, "orders", text, Visible::AtOnce);
    }
    assert_eq!(files_ending(&shard, ".live"), 0);
}

#[test]
fn sealing_at_once_gives_the_bytes_of_sealing_and_condensing_step_by_step() {
    let mut bench = Bench::new();
    bench.let_go();
    let disk = &bench.shard.disk;
    assert!(files_ending(&bench.shard, ".live") > 0);
    let newest = disk.files_ending(".snap").into_iter().max().unwrap();
    let stem = newest.file_stem().unwrap().to_string_lossy().into_owned();
    let (at_once, until) = (bench.seen.clone(), stem.parse().unwrap());
    let shared: Arc<dyn Disk> = Arc::new(at_once.clone());
    let (note, given_up) = (broker_store::IndexFailure::default(), AtomicBool::new(false));
    crate::sealing::seal(&shared, &options(), until, head_as_key, &note, &given_up).unwrap();
    for ending in [".snap", ".part", ".idx"] {
        let paths = disk.files_ending(ending).into_iter();
        let paths = paths.filter(|path| ending == ".idx" || path.to_string_lossy().contains(&stem));
        let mut compared = 0;
        for path in paths {
            assert!(disk.contents(&path) == at_once.contents(&path), "{path:?} differs");
            compared += 1;
        }
        assert!(compared > 0, "{ending}");
    }
}

#[test]
fn damage_to_what_is_condensed_is_told_as_damage_to_a_segment_is() {
    let mut bench = Bench::new();
    bench.let_go();
    let path = bench.shard.disk.files_ending(".live").into_iter().min().unwrap();
    let bytes = bench.shard.disk.contents(&path).unwrap();
    let text = b"reminder 0";
    let at = bytes.windows(text.len()).position(|part| part == text).expect("it is kept");
    bench.shard.disk.flip_bit(&path, at, 1);
    bench.shard.restart();
    bench.shard.now_ms = DUE_MS + 10_000;
    bench.shard.settle();
    let request = Receive {
        group: GroupName::parse("undertaker").unwrap(),
        topic: name("reminders"),
        filter: Filter::All,
        messages_max: 32,
        invisible_ms: 30_000,
        poll_until_ms: bench.shard.now_ms,
        client_id: "tester".into(),
        attempt_id: String::new(),
        lite_topics: None,
    };
    let Ok(Outcome::Received(deliveries)) = bench.shard.ask(Command::Receive(request)) else {
        panic!("no messages")
    };
    let reader = bench.shard.replica.reader();
    let read = deliveries.iter().map(|delivery| match &delivery.source {
        broker_engine::Source::Memory { .. } => panic!("it was to be read from the disk"),
        broker_engine::Source::Log { position, length_bytes, identity } => {
            reader.message(*position, *length_bytes, identity)
        }
    });
    let read: Vec<_> = read.collect();
    assert!(matches!(read[0], Err(ReadError::Damaged { .. })), "{:?}", read[0]);
    assert!(read[1..].iter().all(Result::is_ok) && read.len() == 6, "{read:?}");
}

#[test]
fn a_crash_while_segments_are_condensed_loses_nothing() {
    let mut condensed = 0;
    for writes in 0..14 {
        let mut bench = Bench::new();
        for _ in 0..2 {
            bench.shard.now_ms += 31_000;
            bench.shard.settle();
            bench.fill(20);
        }
        bench.shard.now_ms += 31_000;
        bench.shard.settle();
        // Somewhere in the next work beside the shard, or in a write before it.
        bench.shard.disk.tear_after(writes, writes);
        for number in 0..20 {
            let sent = bench.shard.ask(send("orders", &[&format!("m{number:0499}")]));
            if sent.is_err() {
                break;
            }
        }
        condensed += files_ending(&bench.shard, ".live");
        bench.shard.restart();
        assert_eq!(files_ending(&bench.shard, ".tmp"), 0, "after {writes} writes");
        bench.let_go();
        bench.check_all_delivered();
    }
    assert!(condensed > 0);
}

#[test]
fn a_gap_that_is_condensed_is_no_missing_snapshot_and_no_missing_segment() {
    let mut bench = Bench::new();
    bench.let_go();
    let first = bench.shard.disk.files_ending(".live").into_iter().min().unwrap();
    assert!(first.to_string_lossy().ends_with("00000000000000000000.live"), "{first:?}");
    for path in bench.shard.disk.files_ending(".snap") {
        bench.shard.disk.remove(&path).unwrap();
    }
    let disk: Arc<dyn Disk> = Arc::new(bench.shard.disk.clone());
    let refused =
        start::<Ticket>(&disk, &options(), Box::new(NoPeers), 1.into(), bench.shard.now_ms);
    let Err(StartError::Open(OpenError::NoSnapshot { position, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert!(position > FRAME_HEADER_BYTES as u64, "where the first whole one begins");
}
