//! One of three brokers is away: what has queues on its shard says so, and nothing else.

use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde_json::json;

use crate::fake_broker::FakeBroker;
use crate::world::{World, condition, eventually};

/// A topic of one queue for each shard, by number; names are tried until every shard has one.
async fn topic_on_each_shard(world: &World) -> [String; 3] {
    let mut found: [Option<String>; 3] = Default::default();
    for number in 0..20 {
        let name = format!("orders-{number}");
        world.apply::<Topic>(&name, json!({"queues": 1})).await;
        world.wait_condition::<Topic>(&name, "Ready", "True", "Synced").await;
        let status = world.api::<Topic>().get(&name).await.unwrap().status.unwrap();
        let shard = usize::try_from(status.placement[0].broker).unwrap();
        found[shard].get_or_insert(name);
        if found.iter().all(Option::is_some) {
            return found.map(Option::unwrap);
        }
    }
    panic!("twenty topics and not all shards: {found:?}");
}

fn retention_s(broker: &FakeBroker, topic: &str) -> Option<i64> {
    let memory = broker.memory();
    Some(memory.topics.get(topic)?.retention.as_ref()?.time.as_ref()?.seconds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_queue_on_the_shards_of_a_lost_broker_stays_ready_and_can_be_changed() {
    let world = World::new().await;
    let first = world.broker("default", 0).await;
    let _second = world.broker("default", 1).await;
    let mut third = world.broker("default", 2).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({"brokers": 3})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let [near, calm, far] = topic_on_each_shard(&world).await;
    for (group, topic) in [("near", &near), ("far", &far)] {
        world.apply::<ConsumerGroup>(group, json!({"subscriptions": [{"topic": topic}]})).await;
        world.wait_condition::<ConsumerGroup>(group, "Ready", "True", "Synced").await;
    }

    third.kill();
    let kept = json!({"queues": 1, "retention": {"time": "24h"}});
    world.apply::<Topic>(&near, kept.clone()).await;
    let ready = world.wait_condition::<Topic>(&near, "Ready", "True", "Synced").await;
    assert!(ready.message.starts_with("held by 2 of 3 brokers"), "{}", ready.message);
    assert_eq!(retention_s(&first, &near), Some(86_400));
    let spec = json!({"subscriptions": [{"topic": near}], "retry": {"maxAttempts": 5}});
    world.apply::<ConsumerGroup>("near", spec).await;
    world.wait_condition::<ConsumerGroup>("near", "Ready", "True", "Synced").await;

    world.apply::<Topic>(&far, kept).await;
    let waits = world.wait_condition::<Topic>(&far, "Ready", "False", "ShardUnavailable").await;
    assert!(waits.message.contains("shard-2 on broker 2 is not served"), "{}", waits.message);
    assert_eq!(retention_s(&first, &far), Some(86_400));

    // After a while what was not changed is told as well, and only where it matters.
    let lost =
        world.wait_condition::<ConsumerGroup>("far", "Ready", "Unknown", "ShardUnavailable").await;
    assert!(lost.message.contains("shard-2 on broker 2"), "{}", lost.message);
    let counted = |cluster: &BrokerCluster| {
        let display = cluster.status.as_ref().and_then(|status| status.display.as_ref());
        display.is_some_and(|display| display.shards == "2/3")
    };
    world.wait::<BrokerCluster>("default", "2/3 shards", counted).await;
    let topic = world.api::<Topic>().get(&calm).await.unwrap();
    let ready = condition(&topic, "Ready").unwrap();
    assert_eq!((format!("{:?}", ready.status).as_str(), ready.reason.as_str()), ("True", "Synced"));

    third.serve().await;
    world.wait_condition::<Topic>(&far, "Ready", "True", "Synced").await;
    eventually("the broker that is back gets both changes", || async {
        let both = [&near, &far].map(|topic| retention_s(&third, topic));
        (both == [Some(86_400); 2]).then_some(())
    })
    .await;
    operator.stop().await;
}
