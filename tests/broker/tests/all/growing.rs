//! A topic in order, declared by a manifest, that spreads over shards which come later: each message group keeps its order,
//! whoever is killed meanwhile.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use broker_proto::admin::ListTopicsRequest;
use broker_proto::rocketmq::{Code, Message, MessageType as WireType};
use tests_broker::broker::{Broker, Options, Place};
use tests_broker::client::{message, message_id, receive_request};

use crate::rpcs::code;

const DECLARED: &str = "apiVersion: pinnace.dev/v1alpha1
kind: Topic
metadata:
  name: orders
spec:
  messageType: FIFO
  queues: 3
---
apiVersion: pinnace.dev/v1alpha1
kind: ConsumerGroup
metadata:
  name: billing
spec:
  order: Fifo
";
const MESSAGE_GROUPS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

/// Of each message group so many, one after the other.
async fn send(broker: &Broker, numbers: std::ops::Range<usize>) {
    let mut client = broker.client("producer").await;
    for number in numbers {
        for group in 0..MESSAGE_GROUPS {
            let id = format!("{group}-{number}");
            let mut message = message("orders", &id, id.as_bytes());
            let properties = message.system_properties.as_mut().unwrap();
            properties.message_type = WireType::Fifo.into();
            properties.message_group = Some(format!("group-{group}"));
            let answer = client.send(vec![message]).await.unwrap();
            assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
        }
    }
}

/// How far a consumer is with each message group.
#[derive(Default)]
struct Seen(HashMap<usize, usize>);

impl Seen {
    /// What comes is the next of its group, or came before and may not have been acknowledged.
    fn note(&mut self, message: &Message) {
        let (group, number) = message_id(message).split_once('-').unwrap();
        let next = self.0.entry(group.parse().unwrap()).or_default();
        let number: usize = number.parse().unwrap();
        assert!(number <= *next, "{} comes before {next}", message_id(message));
        *next = (*next).max(number + 1);
    }

    fn count(&self) -> usize {
        self.0.values().sum()
    }
}

/// Takes and acknowledges until so many were seen in all.
async fn consume(broker: &Broker, seen: &mut Seen, count: usize) {
    let mut client = broker.client("consumer").await;
    let begun = Instant::now();
    while seen.count() < count {
        assert!(begun.elapsed() < PATIENCE, "{} of {count} came", seen.count());
        let mut request = receive_request("orders", "billing", 16);
        request.invisible_duration = Some(prost_types::Duration { seconds: 10, nanos: 0 });
        let got = client.receive_with(request).await.unwrap().messages;
        got.iter().for_each(|message| seen.note(message));
        if !got.is_empty() {
            let acked = client.acknowledge("orders", "billing", &got).await.unwrap();
            assert_eq!(code(&acked.status), Code::Ok, "{acked:?}");
        }
    }
}

#[tokio::test]
async fn message_groups_keep_their_order_when_their_topic_spreads_over_shards_that_come_later() {
    let place = Place::new();
    let folder = place.path("manifests");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("shop.yaml"), DECLARED).unwrap();
    let options = Options::default().with("--manifests", folder.display());
    let broker = place.start(&options);
    send(&broker, 0..10).await;
    broker.kill();
    let spread = DECLARED.replace("queues: 3", "queues: 3\n  placement: Spread");
    fs::write(folder.join("shop.yaml"), spread).unwrap();
    let broker = place.start(&options.clone().with("--shards", 2));
    send(&broker, 10..20).await;
    broker.kill();
    let options = options.with("--shards", 3);
    let broker = place.start(&options);
    send(&broker, 20..30).await;
    broker.kill();
    let mut broker = place.start(&options);
    let mut seen = Seen::default();
    let all = 30 * MESSAGE_GROUPS;
    // In the first layout, at its end, and in the last one.
    for count in [all / 6, all / 3, all / 2, 5 * all / 6] {
        consume(&broker, &mut seen, count).await;
        broker.kill();
        broker = place.start(&options);
    }
    consume(&broker, &mut seen, all).await;
    let listed = broker.admin().await.list_topics(ListTopicsRequest::default()).await.unwrap();
    let topic = listed.into_inner().topics.remove(0);
    assert_eq!((topic.placement.len(), topic.first_queues), (3, Some(3)), "{topic:?}");
}
