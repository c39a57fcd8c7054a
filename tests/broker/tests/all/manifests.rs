//! Topics and groups declared as files: in force at start, followed afterwards.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use broker_proto::admin::{ListGroupsRequest, ListTopicsRequest, Topic};
use tests_broker::broker::{Broker, Options, Place, serve_command};
use tests_broker::client::message;
use tests_broker::{binary, get};

const TOPIC: &str = "apiVersion: pinnace.dev/v1alpha1
kind: Topic
metadata:
  name: orders
spec:
  queues: 4
";
const GROUP: &str = "apiVersion: pinnace.dev/v1alpha1
kind: ConsumerGroup
metadata:
  name: billing
spec:
  retry:
    maxAttempts: 5
";

/// Tells a debug build how long something has to be away from the files, in milliseconds. How long it really is, is tested
/// with the time as an argument.
const ABSENCE_MS: &str = "PINNACE_TEST_ABSENCE_MS";

/// A folder with one file.
fn declare(place: &Place, text: &str) -> (PathBuf, Options) {
    let folder = place.path("manifests");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("shop.yaml"), text).unwrap();
    let options = Options::default().with("--manifests", folder.display());
    (folder, options.environment(ABSENCE_MS, 0))
}

async fn topics(broker: &Broker) -> Vec<Topic> {
    let request = ListTopicsRequest::default();
    broker.admin().await.list_topics(request).await.unwrap().into_inner().topics
}

async fn until<F: AsyncFn() -> bool>(what: &str, is_so: F) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_ready_broker_has_what_its_manifests_declare() {
    let place = Place::new();
    let (_, options) = declare(&place, &format!("{TOPIC}---\n{GROUP}"));
    let broker = place.start(&options);
    let found = topics(&broker).await;
    assert_eq!((found[0].name.as_str(), found[0].queues), ("orders", 4));
    assert_eq!(found[0].owner.as_ref().unwrap().instance, "manifests");
    let request = ListGroupsRequest::default();
    let groups = broker.admin().await.list_groups(request).await.unwrap().into_inner().groups;
    assert_eq!(groups[0].name, "billing");
    assert_eq!(groups[0].retry.as_ref().unwrap().max_attempts, 5);
    drop(broker);
    let again = place.start(&options);
    assert_eq!(topics(&again).await.len(), 1, "the same files again are no conflict");
}

#[tokio::test]
async fn changes_are_followed_and_bad_ones_are_told_once_and_change_nothing() {
    let place = Place::new();
    let (folder, options) = declare(&place, TOPIC);
    let broker = place.start(&options);
    fs::write(folder.join("more.yaml"), TOPIC.replace("orders", "notes")).unwrap();
    until("the new topic", async || topics(&broker).await.len() == 2).await;
    fs::write(folder.join("shop.yaml"), TOPIC.replace("queues: 4", "queues: 0")).unwrap();
    until("the complaint", async || broker.logged().contains("spec.queues")).await;
    let queues = |found: &[Topic]| found.iter().find(|t| t.name == "orders").map(|t| t.queues);
    assert_eq!(queues(&topics(&broker).await), Some(4));
    fs::write(folder.join("shop.yaml"), TOPIC.replace("queues: 4", "queues: 8")).unwrap();
    until("more queues", async || queues(&topics(&broker).await) == Some(8)).await;
    assert_eq!(broker.logged().matches("spec.queues").count(), 1);
    fs::remove_file(folder.join("shop.yaml")).unwrap();
    until("the notice", async || broker.logged().contains("its data is kept")).await;
    assert_eq!(topics(&broker).await.len(), 2);
    let deleting = TOPIC.replace("orders", "notes") + "  deletionPolicy: Delete\n";
    fs::write(folder.join("more.yaml"), deleting).unwrap();
    until("the policy", async || broker.logged().matches("topic notes applied").count() == 1).await;
    // The policy is no setting of the topic: it is in force when the file was read, which the next change shows.
    fs::write(folder.join("third.yaml"), TOPIC.replace("orders", "third")).unwrap();
    until("the third topic", async || topics(&broker).await.len() == 3).await;
    fs::remove_file(folder.join("more.yaml")).unwrap();
    until("the deletion", async || topics(&broker).await.len() == 2).await;
}

/// What the group still has to do.
async fn lag(broker: &Broker) -> u64 {
    let request = ListGroupsRequest::default();
    let answer = broker.admin().await.list_groups(request).await.unwrap().into_inner();
    answer.status[0].topics.iter().map(|topic| topic.lag_messages).sum()
}

#[tokio::test]
async fn a_declared_reset_is_carried_out_once_for_each_id() {
    let place = Place::new();
    let (folder, options) = declare(&place, &format!("{TOPIC}---\n{GROUP}"));
    let options = options.with("--shards", 2);
    let broker = place.start(&options);
    let mut client = broker.client("consumer").await;
    for number in 0..4 {
        let sent = client.send(vec![message("orders", &number.to_string(), b"x")]).await;
        let _ = sent.unwrap();
    }
    let mut done = 0;
    while done < 4 {
        let received = client.receive("orders", "billing", 32).await.unwrap().messages;
        let _ = client.acknowledge("orders", "billing", &received).await.unwrap();
        done += received.len();
    }
    assert_eq!(lag(&broker).await, 0);
    let with_reset = |id: &str, to: &str| {
        let reset = format!("  offsetReset: {{id: {id}, to: {{position: {to}}}}}\n");
        fs::write(folder.join("shop.yaml"), format!("{TOPIC}---\n{GROUP}{reset}")).unwrap();
    };
    with_reset("first", "Earliest");
    until("the reset", async || lag(&broker).await == 4).await;
    with_reset("second", "Latest");
    until("the next reset", async || lag(&broker).await == 0).await;
    let _ = client.send(vec![message("orders", "late", b"x")]).await.unwrap();
    drop(broker);
    let again = place.start(&options);
    assert_eq!(lag(&again).await, 1, "the same id is not carried out again at a start");
}

#[tokio::test]
async fn a_broker_starts_with_a_wrong_file_and_says_so_wherever_it_is_asked() {
    let place = Place::new();
    let (folder, options) = declare(&place, TOPIC);
    drop(place.start(&options));
    fs::write(folder.join("shop.yaml"), TOPIC.replace("queues: 4", "queues: 2")).unwrap();
    fs::create_dir(folder.join("more")).unwrap();
    fs::write(folder.join("more/notes.yaml"), TOPIC.replace("orders", "notes")).unwrap();
    let broker = place.start(&options);
    let found: Vec<_> = topics(&broker).await.iter().map(|t| (t.name.clone(), t.queues)).collect();
    assert_eq!(found, [("notes".to_owned(), 4), ("orders".to_owned(), 4)]);
    let why = "shop.yaml document 1";
    let page = |path: &str| get(broker.http, path).unwrap();
    let ready = page("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.contains("manifests are not in force") && ready.contains(why), "{ready}");
    assert!(page("/metrics").contains("pinnace_manifests_in_force{"), "{}", page("/metrics"));
    assert!(broker.logged().contains(why));
    let status = || {
        let mut command = Command::new(binary());
        command.args(["status", "--admin", &broker.admin.to_string()]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let said = status();
    for part in ["NOT in force, 1 problems", why, "topic orders stays as it is", "shard-0   leader"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    fs::write(folder.join("shop.yaml"), TOPIC).unwrap();
    until("all in force", async || status().contains("in force, 2 objects")).await;
    let line = |page: &str| {
        page.lines()
            .any(|line| line.starts_with("pinnace_manifests_in_force{") && line.ends_with(" 1.0"))
    };
    assert!(line(&page("/metrics")), "{}", page("/metrics"));
    assert!(page("/readyz").ends_with("ok\n"));
}

/// The queues of a topic on each shard.
async fn placement(broker: &Broker, topic: &str) -> Vec<(String, u32)> {
    let found = topics(broker).await.into_iter().find(|found| found.name == topic).unwrap();
    let mut placed: Vec<_> = found.placement.into_iter().map(|p| (p.shard, p.queues)).collect();
    placed.sort();
    placed
}

#[tokio::test]
async fn a_topic_that_is_to_spread_gets_queues_on_shards_that_come_later_and_others_do_not() {
    let place = Place::new();
    let spread = TOPIC.replace("queues: 4", "queues: 4\n  placement: Spread");
    let lite = TOPIC
        .replace("name: orders", "name: rooms")
        .replace("queues: 4", "messageType: LITE\n  queues: 4");
    let kept = TOPIC.replace("name: orders", "name: notes");
    let (folder, options) = declare(&place, &format!("{spread}---\n{kept}---\n{lite}"));
    place.start(&options).kill();
    let options = options.with("--shards", 3);
    let broker = place.start(&options);
    let on = |shard: u32, queues: u32| (format!("shard-{shard}"), queues);
    assert_eq!(placement(&broker, "orders").await, [on(0, 4), on(1, 3), on(2, 3)]);
    assert_eq!(placement(&broker, "notes").await, [on(0, 4)]);
    broker.kill();
    // The same again changes nothing; queues that are added to a LITE topic stay where its names lead.
    let lite = lite.replace("queues: 4", "queues: 6");
    fs::write(folder.join("shop.yaml"), format!("{spread}---\n{kept}---\n{lite}")).unwrap();
    let broker = place.start(&options);
    assert_eq!(placement(&broker, "orders").await, [on(0, 4), on(1, 3), on(2, 3)]);
    assert_eq!(placement(&broker, "rooms").await, [on(0, 6)]);
}

#[test]
fn bad_manifests_at_start_are_one_line_and_exit_code_two() {
    for (text, named) in [
        (TOPIC.replace("queues: 4", "queues: 0"), "spec.queues"),
        (TOPIC.replace("queues: 4", "queus: 4"), "spec.queus"),
        (format!("{TOPIC}---\nkind: Topic"), "document 2"),
        (format!("{TOPIC}  liteExpiry: 1h\n"), "messageType LITE only"),
        (format!("{GROUP}  offsetReset: {{id: a, to: {{}}}}\n"), "exactly one of position"),
        (format!("{GROUP}  offsetReset: {{id: a, to: {{shift: 1}}, topics: [none]}}\n"), "none"),
    ] {
        let place = Place::new();
        let (_, options) = declare(&place, &text);
        let mut command = serve_command(&place.data(), &options);
        let output = command.stdout(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        let said = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{said}");
        assert!(errors[0].contains("shop.yaml") && errors[0].contains(named), "{said}");
    }
}
