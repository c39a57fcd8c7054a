//! Manifests against a real catalog, with files and time in the hands of the test.

use broker_engine::{Command, NewMessage, OffsetAt, Outcome, Send, Target, Visible};
use broker_model::{MessageType, Model, Order, ShardId, TopicName};
use broker_replication::{Clock, Memory, ShardOptions, open_shard};
use broker_store::Disk;
use broker_store::limits::SEGMENT_BYTES_USUAL;
use broker_store::simulated_disk::SimulatedDisk;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;

const LOOK_MS: u64 = 1_000;

#[derive(Debug)]
struct StandingClock;

impl Clock for StandingClock {
    fn monotonic_ms(&self) -> u64 {
        1_900_000_000_000
    }

    fn wall_ms(&self) -> u64 {
        1_900_000_000_000
    }
}

struct Bench {
    folder: tempfile::TempDir,
    data: tempfile::TempDir,
    disk: Arc<dyn Disk>,
    catalog: Catalog,
    now_ms: u64,
}

fn catalog(disk: &Arc<dyn Disk>) -> Catalog {
    let (says, _events) = mpsc::unbounded_channel();
    let options = ShardOptions {
        id: ShardId(0),
        data: "/data".into(),
        segment_bytes: SEGMENT_BYTES_USUAL,
        seed: 1.into(),
        keys_of_head: broker_grpc::keys_of_head,
        memory: Memory::default(),
    };
    let shard = open_shard(disk, Arc::new(StandingClock), &options).unwrap();
    let (handle, known) = (shard.handle.clone(), shard.known.clone());
    tokio::spawn(shard.run(says));
    Catalog::new(vec![handle], vec![known], 1)
}

impl Bench {
    fn new() -> Self {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
        let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Self { folder, data, catalog: catalog(&disk), disk, now_ms: 0 }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    async fn start(&self) -> Result<Manifests, Failure> {
        let (folder, data) = (self.folder.path().to_owned(), self.data.path().to_owned());
        Manifests::start(folder, data, "default".to_owned(), &self.catalog).await
    }

    /// The broker again, on the same disk.
    async fn restart(&mut self) -> Result<Manifests, Failure> {
        for shard in self.catalog.shards() {
            shard.stop().await;
        }
        self.catalog = catalog(&self.disk);
        self.start().await
    }

    async fn look(&mut self, manifests: &mut Manifests) {
        self.now_ms += LOOK_MS;
        let contents = folder::read(self.folder.path());
        manifests.look(contents, &self.catalog, self.now_ms).await;
    }

    /// So many looks, each after a second.
    async fn looks(&mut self, manifests: &mut Manifests, count: u64) {
        for _ in 0..count {
            self.look(manifests).await;
        }
    }

    fn topics(&self) -> Vec<String> {
        self.catalog.topics().iter().map(|entry| entry.topic.name.to_string()).collect()
    }

    fn queues(&self, topic: &str) -> u32 {
        self.catalog.topic(topic).unwrap().topic.queues
    }
}

fn topic(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: pinnace.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn group(name: &str, spec: &str) -> String {
    topic(name, spec).replace("kind: Topic", "kind: ConsumerGroup")
}

const DELETE: &str = "queues: 4, deletionPolicy: Delete";
/// Looks after which everything that is away is gone.
const GONE: u64 = absence::ABSENCE_MS_MIN / LOOK_MS + 2;

fn problems(manifests: &Manifests) -> String {
    manifests.status().problems.join("\n")
}

#[tokio::test]
async fn a_file_that_is_away_or_empty_for_a_while_destroys_nothing() {
    let mut bench = Bench::new();
    let both = topic("orders", DELETE) + &topic("bills", DELETE);
    bench.write("shop.yaml", &both);
    bench.write("other.yaml", &topic("other", ""));
    let mut manifests = bench.start().await.unwrap();
    let all = bench.topics();
    assert_eq!(all, ["bills", "orders", "other"]);
    for (what, spoil) in [
        ("away", (|bench: &Bench| bench.remove("shop.yaml")) as fn(&Bench)),
        ("renamed to what is not read", |bench| bench.remove("shop.yaml")),
        ("half-written", |bench| bench.write("shop.yaml", &topic("orders", DELETE))),
        ("broken", |bench| bench.write("shop.yaml", "apiVersion: [")),
    ] {
        spoil(&bench);
        bench.looks(&mut manifests, GONE - 3).await;
        assert_eq!(bench.topics(), all, "{what}");
        bench.write("shop.yaml", &both);
        bench.looks(&mut manifests, GONE).await;
        assert_eq!(bench.topics(), all, "{what}, and back");
        assert!(manifests.status().notices.is_empty(), "{what}: {:?}", manifests.status());
    }
}

#[tokio::test]
async fn emptiness_and_mistakes_never_destroy_however_long_they_last() {
    let mut bench = Bench::new();
    let orders = topic("orders", DELETE);
    bench.write("shop/orders.yaml", &orders);
    bench.write("other.yaml", &topic("other", ""));
    let mut manifests = bench.start().await.unwrap();
    let hours = GONE * 5;
    for (what, spoil) in [
        ("an empty file", (|bench: &Bench| bench.write("shop/orders.yaml", "")) as fn(&Bench)),
        ("a comment", |bench| bench.write("shop/orders.yaml", "# soon\n")),
        ("an empty folder", |bench| bench.remove("shop/orders.yaml")),
        ("a wrong file beside it", |bench| {
            bench.remove("shop/orders.yaml");
            bench.write("shop/wrong.yaml", "a: [");
        }),
    ] {
        spoil(&bench);
        bench.looks(&mut manifests, hours).await;
        assert_eq!(bench.topics(), ["orders", "other"], "{what}");
        assert!(!manifests.status().notices.is_empty(), "{what} is told");
        let _ = std::fs::remove_file(bench.folder.path().join("shop/wrong.yaml"));
        bench.write("shop/orders.yaml", &orders);
        bench.looks(&mut manifests, 3).await;
    }
    let hidden = bench.folder.path().with_extension("away");
    std::fs::rename(bench.folder.path(), &hidden).unwrap();
    bench.looks(&mut manifests, hours).await;
    assert!(problems(&manifests).contains("what was in force stays"), "{manifests:?}");
    std::fs::create_dir(bench.folder.path()).unwrap();
    bench.looks(&mut manifests, hours).await;
    assert_eq!(bench.topics(), ["orders", "other"], "the mount is away");
    std::fs::remove_dir(bench.folder.path()).unwrap();
    std::fs::rename(&hidden, bench.folder.path()).unwrap();
    bench.looks(&mut manifests, 3).await;
    assert!(manifests.status().in_force, "{manifests:?}");
}

#[tokio::test]
async fn what_stays_away_is_announced_and_then_deleted_or_let_go_of() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &topic("orders", DELETE));
    bench.write("b.yaml", &topic("kept", ""));
    bench.write("c.yaml", &(topic("other", "") + &group("billing", "deletionPolicy: Delete")));
    let mut manifests = bench.start().await.unwrap();
    let message = NewMessage {
        tag_hash: 0,
        message_group_hash: 0,
        visible: Visible::AtOnce,
        head: Bytes::new(),
        body: Bytes::new(),
    };
    let name = TopicName::parse("orders").unwrap();
    let send = Send { topic: name, messages: vec![message; 3], target: Target::AnyQueue };
    let shard = bench.catalog.shards()[0].clone();
    assert!(matches!(shard.submit(Command::Send(send)).await, Ok(Outcome::Sent(_))));
    for file in ["a.yaml", "b.yaml"] {
        bench.remove(file);
    }
    bench.write("c.yaml", &topic("other", ""));
    bench.looks(&mut manifests, 3).await;
    let notices = manifests.status().notices.join("\n");
    for words in
        ["topic orders any more (it was a.yaml document 1)", "is deleted with its 3 messages"]
    {
        assert!(notices.contains(words), "{notices}");
    }
    assert!(notices.contains("topic kept") && notices.contains("keeps its data"), "{notices}");
    assert_eq!(bench.topics(), ["kept", "orders", "other"]);
    bench.looks(&mut manifests, GONE).await;
    assert_eq!(bench.topics(), ["kept", "other"]);
    assert!(bench.catalog.group("billing").is_none());
    assert_eq!(bench.catalog.topic("kept").unwrap().topic.owner, None, "nobody declares it");
    assert!(manifests.status().notices.is_empty());
}

#[tokio::test]
async fn what_went_while_the_broker_was_down_is_let_go_of() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &topic("orders", DELETE));
    bench.write("b.yaml", &topic("other", ""));
    drop(bench.start().await.unwrap());
    bench.remove("a.yaml");
    let mut manifests = bench.restart().await.unwrap();
    assert_eq!(bench.topics(), ["orders", "other"]);
    bench.looks(&mut manifests, GONE).await;
    assert_eq!(bench.topics(), ["other"]);
}

#[tokio::test]
async fn a_wrong_file_keeps_no_broker_from_starting_and_touches_nothing_else() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &topic("orders", "queues: 4"));
    bench.write("b.yaml", &topic("notes", "queues: 4"));
    drop(bench.start().await.unwrap());
    bench.write("a.yaml", &topic("orders", "queues: 2"));
    bench.write("b.yaml", &topic("notes", "queues: 6"));
    bench.write("c.yaml", "kind: [");
    let mut manifests = bench.restart().await.unwrap();
    let status = manifests.status();
    assert_eq!((status.in_force, status.problems_total), (false, 2), "{status:?}");
    let text = problems(&manifests);
    assert!(text.contains("c.yaml document 1: no legal YAML"), "{text}");
    assert!(text.contains("a.yaml document 1") && text.contains("topic orders stays"), "{text}");
    assert_eq!((bench.queues("orders"), bench.queues("notes")), (4, 6));
    bench.remove("c.yaml");
    bench.write("a.yaml", &topic("orders", "queues: 5"));
    bench.looks(&mut manifests, 2).await;
    assert!(manifests.status().in_force, "{manifests:?}");
    assert_eq!(bench.queues("orders"), 5);
}

#[tokio::test]
async fn the_first_start_with_wrong_files_says_so_and_ends() {
    let bench = Bench::new();
    bench.write("a.yaml", &topic("orders", "queues: 0"));
    bench.write("b.yaml", "a: [");
    let text = bench.start().await.unwrap_err().to_string();
    assert!(text.contains("a.yaml") && text.contains("and 1 more"), "{text}");
    bench.remove("a.yaml");
    bench.remove("b.yaml");
    std::fs::remove_dir(bench.folder.path()).unwrap();
    assert!(bench.start().await.is_err());
    std::fs::create_dir(bench.folder.path()).unwrap();
}

#[tokio::test]
async fn changes_that_the_api_server_refuses_are_refused_and_the_old_state_stays() {
    let mut bench = Bench::new();
    let reset = |to: &str| format!("offsetReset: {{id: a, to: {{position: {to}}}}}");
    bench.write("fifo.yaml", &topic("fifo", "messageType: FIFO, queues: 5"));
    bench.write("model.yaml", &group("billing", ""));
    bench.write(
        "lite.yaml",
        &(topic("rooms", "messageType: LITE") + &group("guests", "liteTopic: rooms")),
    );
    bench.write("reset.yaml", &group("again", &reset("Latest")));
    let manifests = bench.start().await.unwrap();
    assert!(manifests.status().in_force, "{manifests:?}");
    bench.write("fifo.yaml", &topic("fifo", "messageType: FIFO, queues: 1"));
    bench.write("model.yaml", &group("billing", "model: Broadcasting"));
    bench.write(
        "lite.yaml",
        &(topic("rooms", "messageType: LITE") + &group("guests", "liteTopic: fifo")),
    );
    bench.write("reset.yaml", &group("again", &reset("Earliest")));
    let mut running = manifests;
    bench.looks(&mut running, 2).await;
    let restarted = bench.restart().await.unwrap();
    // Without what was kept, the catalog and the shards know enough to refuse the same.
    std::fs::remove_file(bench.data.path().join("manifests")).unwrap();
    let forgotten = bench.restart().await.unwrap();
    for manifests in [running, restarted, forgotten] {
        let text = problems(&manifests);
        assert_eq!(manifests.status().problems_total, 4, "{text}");
        for words in ["would be lost", "progress is kept differently", "liteTopic", "another id"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
    assert_eq!(bench.queues("fifo"), 5);
    assert_eq!(bench.catalog.group("billing").unwrap().group.model, Model::Clustering);
    assert_eq!(bench.catalog.topic("rooms").unwrap().topic.message_type, MessageType::Lite);
}

#[tokio::test]
async fn a_manifest_that_says_less_changes_nothing() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &topic("orders", "messageType: PRIORITY, queues: 5"));
    bench.write("b.yaml", &group("billing", "model: Broadcasting"));
    bench.write("c.yaml", &group("ledger", "order: Fifo"));
    let mut manifests = bench.start().await.unwrap();
    bench.write("a.yaml", &topic("orders", "maxMessageBytes: 1000"));
    bench.write("b.yaml", &group("billing", "consume: false"));
    bench.write("c.yaml", &group("ledger", "consume: false"));
    bench.looks(&mut manifests, 2).await;
    let restarted = bench.restart().await.unwrap();
    for manifests in [manifests, restarted] {
        assert!(manifests.status().in_force, "{}", problems(&manifests));
    }
    let orders = bench.catalog.topic("orders").unwrap().topic.clone();
    assert_eq!((orders.message_type, orders.queues), (MessageType::Priority, 5));
    assert_eq!(orders.max_message_bytes, Some(1000));
    let billing = bench.catalog.group("billing").unwrap().group.clone();
    assert_eq!((billing.model, billing.is_consuming), (Model::Broadcasting, false));
    assert_eq!(bench.catalog.group("ledger").unwrap().group.order, Order::Fifo);
}

#[tokio::test]
async fn a_renamed_object_takes_over_what_no_file_declares_any_more() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &(topic("orders", DELETE) + &topic("other", "")));
    let mut manifests = bench.start().await.unwrap();
    let renamed = topic("orders-v2", "topicName: orders, queues: 4, deletionPolicy: Delete");
    let moved = renamed.replace("name: orders-v2", "name: orders, namespace: shop");
    for (text, owner) in [(renamed, "manifests:orders-v2"), (moved, "manifests:shop/orders")] {
        bench.remove("a.yaml");
        bench.write("a.yaml", &topic("other", ""));
        bench.write("b.yaml", &text);
        bench.looks(&mut manifests, GONE).await;
        assert!(manifests.status().in_force, "{manifests:?}");
        let found = bench.catalog.topic("orders").unwrap().topic.owner.clone().unwrap();
        assert_eq!(found.to_string(), owner);
    }
    let manifests = bench.restart().await.unwrap();
    assert!(manifests.status().in_force, "{manifests:?}");
}

#[tokio::test]
async fn what_somebody_else_declares_is_left_alone_and_the_message_says_how_to_take_it() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &topic("mine", ""));
    let mut manifests = bench.start().await.unwrap();
    let theirs = broker_model::Owner {
        instance: "operator".into(),
        name: "orders".into(),
        ..broker_model::Owner::default()
    };
    let placement = broker_model::Topic::spread(8, &[ShardId(0)]);
    let name = TopicName::parse("orders").unwrap();
    let mut orders = broker_model::Topic::with_defaults(name, MessageType::Normal, placement);
    orders.owner = Some(theirs);
    bench.catalog.apply_topic(orders, broker_replication::ApplyOptions::default()).await.unwrap();
    bench.write("b.yaml", &topic("orders", ""));
    bench.write("c.yaml", &topic("new", ""));
    bench.looks(&mut manifests, 2).await;
    let text = problems(&manifests);
    assert!(text.contains("operator:orders") && text.contains("adoptionPolicy: Adopt"), "{text}");
    assert_eq!(bench.topics(), ["mine", "new", "orders"], "the others are not held up");
    bench.write("b.yaml", &topic("orders", "adoptionPolicy: Adopt"));
    bench.looks(&mut manifests, 2).await;
    assert!(manifests.status().in_force, "{manifests:?}");
}

#[tokio::test]
async fn what_is_deleted_while_it_is_declared_is_made_again() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &topic("orders", "queues: 3"));
    let mut manifests = bench.start().await.unwrap();
    let name = TopicName::parse("orders").unwrap();
    bench.catalog.delete_topic(&name, None, true).await.unwrap();
    bench.look(&mut manifests).await;
    assert_eq!(bench.queues("orders"), 3);
}

#[tokio::test]
async fn a_file_is_taken_when_two_looks_read_the_same() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &topic("orders", "queues: 4"));
    let mut manifests = bench.start().await.unwrap();
    // What is being written lacks its end, and without it says something that cannot be taken back.
    bench.write("a.yaml", &topic("orders", ""));
    bench.look(&mut manifests).await;
    bench.write("a.yaml", &topic("orders", "queues: 5"));
    bench.looks(&mut manifests, 2).await;
    assert_eq!(bench.queues("orders"), 5);
}

#[tokio::test]
async fn one_reset_is_carried_out_once_and_another_under_its_name_is_refused() {
    let bench = Bench::new();
    bench.write("a.yaml", &(topic("orders", "") + &group("billing", "")));
    let _manifests = bench.start().await.unwrap();
    let reset = |to| broker_engine::ResetOffsets {
        group: broker_model::GroupName::parse("billing").unwrap(),
        topics: Vec::new(),
        to,
        id: "again".to_owned(),
    };
    for _ in 0..2 {
        bench.catalog.reset_offsets(&reset(OffsetAt::Latest)).await.unwrap();
    }
    let refusal = bench.catalog.reset_offsets(&reset(OffsetAt::Earliest)).await.unwrap_err();
    assert!(refusal.to_string().contains("another id"), "{refusal}");
}
