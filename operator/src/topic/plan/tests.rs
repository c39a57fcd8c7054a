//! From YAML to what brokers are asked for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use broker_proto::admin::{ClusterMap, MessageType, Shard};
use operator_api::{BrokerCluster, Topic};

use super::*;
use crate::broker_admin::{BrokerEndpoint, Connect as _, GrpcConnector};
use crate::claims::{Claims, Entry};
use crate::links::BrokerView;
use crate::names::{ClusterKey, shard_name};
use crate::ownership::Claim;
use crate::topic::fetch::rivals;
use crate::topic::validate::validate;

fn topic(spec: &str) -> Topic {
    let yaml = format!(
        "{{apiVersion: pinnace.dev/v1alpha1, kind: Topic, metadata: {{name: orders, namespace: shop, uid: u1}}, spec: {spec}}}"
    );
    serde_yaml::from_str(&yaml).unwrap()
}

fn map(shards: u32) -> ClusterMap {
    let shard =
        |id| Shard { id, name: shard_name(id), leader_broker: id, replica_brokers: vec![id] };
    ClusterMap { version: 1, shards: (0..shards).map(shard).collect(), ..ClusterMap::default() }
}

fn cluster(spec: &str) -> Arc<BrokerCluster> {
    let yaml = format!(
        "{{apiVersion: pinnace.dev/v1alpha1, kind: BrokerCluster, metadata: {{name: default, namespace: shop}}, spec: {spec}}}"
    );
    Arc::new(serde_yaml::from_str(&yaml).unwrap())
}

fn observed(spec: &str, held: Option<admin::Topic>) -> Observed {
    let endpoint = BrokerEndpoint { broker: 0, host: "localhost".to_owned(), port: 1 };
    let broker = BrokerView {
        broker: 0,
        admin: GrpcConnector.connect(&endpoint).unwrap(),
        session: 1,
        silence: None,
        held,
        pushed: None,
    };
    Observed {
        topic: Arc::new(topic(spec)),
        name: "orders".to_owned(),
        cluster_key: ClusterKey { namespace: "shop".to_owned(), name: "default".to_owned() },
        cluster: Some(cluster("{retention: {time: 24h}}")),
        view: Some(ClusterView { map: Arc::new(map(3)), brokers: vec![broker] }),
        rivals: Vec::new(),
        groups: BTreeSet::new(),
        uptime: Duration::from_secs(100),
    }
}

fn planned(observed: &Observed) -> Result<admin::Topic, Verdict> {
    plan(observed, &validate(observed, "kubernetes")?).map(|plan| plan.topic)
}

fn queues(topic: &admin::Topic) -> Vec<(&str, u32)> {
    topic.placement.iter().map(|p| (p.shard.as_str(), p.queues)).collect()
}

#[tokio::test]
async fn what_the_spec_does_not_say_is_as_in_the_brokers() {
    let mut held = planned(&observed("{messageType: PRIORITY, queues: 12}", None)).unwrap();
    held.owner = None;
    let kept = planned(&observed("{}", Some(held))).unwrap();
    assert_eq!((kept.r#type(), kept.queues), (MessageType::Priority, 12));
    let new = planned(&observed("{}", None)).unwrap();
    assert_eq!((new.r#type(), new.queues), (MessageType::Normal, 8));
    // Brokers that have nothing yet, as after a start: the status remembers.
    let mut forgotten = observed("{}", None);
    let status = serde_json::json!({"messageType": "FIFO", "queues": 5});
    let topic = Arc::make_mut(&mut forgotten.topic);
    topic.status = Some(serde_json::from_value(status).unwrap());
    let kept = planned(&forgotten).unwrap();
    assert_eq!((kept.r#type(), kept.queues), (MessageType::Fifo, 5));
}

#[tokio::test]
async fn every_setting_arrives_and_the_cluster_fills_in_retention() {
    let spec = "{messageType: FIFO, queues: 6, maxMessageBytes: 1024, access: {write: false}}";
    let wanted = planned(&observed(spec, None)).unwrap();
    assert_eq!(wanted.r#type(), MessageType::Fifo);
    assert_eq!(queues(&wanted), [("shard-0", 2), ("shard-1", 2), ("shard-2", 2)]);
    assert_eq!(
        (wanted.max_message_bytes, wanted.read, wanted.write),
        (Some(1024), Some(true), Some(false))
    );
    let owner = wanted.owner.unwrap();
    assert_eq!(
        (owner.instance.as_str(), owner.namespace.as_str(), owner.uid.as_str()),
        ("kubernetes", "shop", "u1")
    );
    assert_eq!(wanted.retention.unwrap().time.unwrap().seconds, 24 * 3600);
    let spec = "{retention: {time: 90s, bytes: 1Ki}}";
    let own = planned(&observed(spec, None)).unwrap().retention.unwrap();
    assert_eq!((own.time.unwrap().seconds, own.bytes), (90, Some(1024)));
}

#[tokio::test]
async fn the_levels_of_a_priority_topic_share_one_shard_and_lite_topics_expire_as_declared() {
    let wanted = planned(&observed("{messageType: PRIORITY, queues: 8}", None)).unwrap();
    assert_eq!(wanted.r#type(), MessageType::Priority);
    assert_eq!((wanted.placement.len(), wanted.placement[0].queues), (1, 8));
    let wanted = planned(&observed("{messageType: LITE, liteExpiry: 90s}", None)).unwrap();
    assert_eq!((wanted.r#type(), wanted.lite_expiry.unwrap().seconds), (MessageType::Lite, 90));
    assert_eq!(wanted.placement.len(), 3);
    let refused = planned(&observed("{liteExpiry: 90s}", None)).unwrap_err();
    assert_eq!(refused.reason().word, "InvalidSpec");
}

/// A topic with four queues, all on one shard.
fn held_on_one(message_type: MessageType) -> admin::Topic {
    admin::Topic {
        name: "orders".to_owned(),
        r#type: message_type.into(),
        queues: 4,
        placement: vec![admin::QueuePlacement { shard: "shard-2".to_owned(), queues: 4 }],
        owner: Some(Owner {
            instance: "kubernetes".to_owned(),
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
            uid: "u0".to_owned(),
        }),
        ..admin::Topic::default()
    }
}

#[tokio::test]
async fn a_topic_that_is_to_spread_gets_queues_on_shards_that_came_later() {
    let spec = "{queues: 4, placement: Spread}";
    let wanted = planned(&observed(spec, Some(held_on_one(MessageType::Normal)))).unwrap();
    assert_eq!(queues(&wanted), [("shard-0", 3), ("shard-1", 3), ("shard-2", 4)]);
    assert_eq!(wanted.queues, 10);
    let again = planned(&observed(spec, Some(wanted.clone()))).unwrap();
    assert_eq!((queues(&again), again.queues), (queues(&wanted), 10));
    let kept = planned(&observed("{placement: Keep}", Some(wanted.clone()))).unwrap();
    assert_eq!(queues(&kept), queues(&wanted));
    for message_type in [MessageType::Fifo, MessageType::Delay, MessageType::Transaction] {
        planned(&observed(spec, Some(held_on_one(message_type)))).unwrap();
    }
    for message_type in [MessageType::Priority, MessageType::Lite] {
        let held = held_on_one(message_type);
        let refused = planned(&observed("{placement: Spread}", Some(held))).unwrap_err();
        assert_eq!(refused.reason().word, "InvalidSpec");
        assert!(refused.reason().message.contains("would lose their order"));
    }
}

#[tokio::test]
async fn a_topic_in_order_grows_when_all_brokers_can_be_told_and_says_what_it_had_first() {
    let spec = "{queues: 8}";
    let held = held_on_one(MessageType::Fifo);
    let mut observed = observed(spec, Some(held.clone()));
    let wanted = planned(&observed).unwrap();
    assert_eq!((wanted.queues, wanted.first_queues), (8, Some(4)));
    let view = observed.view.as_mut().unwrap();
    view.brokers[0].held = Some(wanted);
    let again = planned(&observed).unwrap();
    assert_eq!((again.queues, again.first_queues), (8, Some(4)));
    let view = observed.view.as_mut().unwrap();
    view.brokers[0].held = Some(held);
    view.brokers[0].silence = Some(crate::links::Silence {
        lasted: std::time::Duration::from_secs(9),
        error: "refused".to_owned(),
    });
    let waiting = planned(&observed).unwrap();
    assert_eq!((waiting.queues, waiting.first_queues), (4, None), "it would take no sends");
    assert_eq!(queues(&waiting), [("shard-2", 4)]);
}

#[tokio::test]
async fn a_lite_topic_stays_on_the_shard_that_its_name_leads_to() {
    let held = held_on_one(MessageType::Lite);
    let wanted = planned(&observed("{queues: 6}", Some(held))).unwrap();
    assert_eq!(queues(&wanted), [("shard-2", 6)]);
}

#[tokio::test]
async fn queues_stay_where_brokers_hold_them() {
    let held = held_on_one(MessageType::Normal);
    let wanted = planned(&observed("{queues: 8}", Some(held.clone()))).unwrap();
    assert_eq!(queues(&wanted), [("shard-0", 2), ("shard-1", 2), ("shard-2", 4)]);
    let fewer = planned(&observed("{queues: 3}", Some(held.clone()))).unwrap_err();
    assert_eq!(fewer.reason().word, "ImmutableChange");
    let other =
        planned(&observed("{messageType: FIFO, queues: 4}", Some(held.clone()))).unwrap_err();
    assert_eq!(other.reason().word, "ImmutableChange");
    let unowned = admin::Topic { owner: None, ..held };
    assert!(planned(&observed("{queues: 8, adoptionPolicy: Adopt}", Some(unowned))).is_ok());
}

/// What the broker holds is as this spec and cluster declare it, owned by `owner`.
fn held(owner: Option<Owner>) -> admin::Topic {
    let day = prost_types::Duration { seconds: 24 * 3600, nanos: 0 };
    admin::Topic {
        name: "orders".to_owned(),
        r#type: MessageType::Normal.into(),
        queues: 8,
        placement: vec![admin::QueuePlacement { shard: "shard-2".to_owned(), queues: 8 }],
        retention: Some(admin::Retention { time: Some(day), bytes: None }),
        read: Some(true),
        write: Some(true),
        owner,
        ..admin::Topic::default()
    }
}

fn mark(namespace: &str, name: &str) -> Owner {
    Owner {
        instance: "kubernetes".to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: "u0".to_owned(),
    }
}

#[tokio::test]
async fn what_nobody_declares_any_more_is_taken_over_only_when_all_of_it_is_the_same() {
    for owner in [None, Some(mark("elsewhere", "gone"))] {
        assert!(planned(&observed("{}", Some(held(owner.clone())))).is_ok());
        let spec = "{queues: 9, retention: {time: 1m}, access: {write: false}}";
        let refused = planned(&observed(spec, Some(held(owner.clone())))).unwrap_err();
        assert_eq!(refused.reason().word, "ExistsDifferent");
        let differences = "queues (has 8, wanted 9), retention.time (has 24h, wanted 1m), \
                           access.write (has true, wanted false)";
        assert!(refused.reason().message.contains(differences), "{}", refused.reason().message);
        let adopting = "{queues: 9, retention: {time: 1m}, adoptionPolicy: Adopt}";
        assert!(planned(&observed(adopting, Some(held(owner)))).is_ok());
    }
}

#[tokio::test]
async fn a_successor_of_the_same_namespace_may_declare_something_else() {
    let predecessor = held(Some(mark("shop", "old-name")));
    let observed = observed("{queues: 9, retention: {time: 1h}}", Some(predecessor));
    let valid = validate(&observed, "kubernetes").unwrap();
    assert!(valid.take_ownership);
}

#[tokio::test]
async fn the_policy_never_takes_over_nothing_but_keeps_ones_own() {
    for owner in [None, Some(mark("elsewhere", "gone")), Some(mark("shop", "old-name"))] {
        let refused = planned(&observed("{adoptionPolicy: Never}", Some(held(owner)))).unwrap_err();
        assert_eq!(refused.reason().word, "ExistsAlready");
    }
    let mine = Some(held(Some(mark("shop", "orders"))));
    assert!(planned(&observed("{adoptionPolicy: Never, queues: 9}", mine)).is_ok());
    assert!(planned(&observed("{adoptionPolicy: Never}", None)).is_ok());
}

#[tokio::test]
async fn a_namespace_that_is_not_allowed_keeps_nobody_from_a_name() {
    let claims = Claims::default();
    let claim = |namespace: &str| Claim {
        namespace: namespace.to_owned(),
        name: "payments".to_owned(),
        uid: namespace.to_owned(),
        created: namespace.to_owned(),
    };
    let key = observed("{}", None).cluster_key;
    for namespace in ["a-stranger", "shop"] {
        let entry = Entry {
            claim: claim(namespace),
            is_deleted: false,
            takes_over: true,
            topics: BTreeSet::new(),
        };
        claims.note(key.clone(), "orders".to_owned(), entry);
    }
    let rivals = |spec: &str| {
        let cluster = cluster(spec);
        let mine = claim("mine");
        let found = rivals(&claims, &key, Some(&cluster), "orders", &mine);
        found.into_iter().map(|rival| rival.claim.namespace).collect::<Vec<_>>()
    };
    assert_eq!(rivals("{}"), ["shop"]);
    assert_eq!(rivals("{allowedNamespaces: {from: All}}"), ["a-stranger", "shop"]);
}

#[tokio::test]
async fn a_missing_or_closed_cluster_is_named() {
    let mut nowhere = observed("{}", None);
    nowhere.cluster = None;
    let verdict = planned(&nowhere).unwrap_err();
    assert_eq!(verdict.reason().word, "ClusterNotFound");
    assert!(verdict.reason().message.contains("no BrokerCluster shop/default"), "{verdict:?}");
    let mut closed = observed("{}", None);
    closed.cluster_key.namespace = "other".to_owned();
    let verdict = planned(&closed).unwrap_err();
    assert_eq!(verdict.reason().word, "NamespaceNotAllowed");
    assert!(!verdict.reason().message.contains("All"), "{verdict:?}");
    closed.cluster = Some(cluster("{allowedNamespaces: {from: All}}"));
    assert!(planned(&closed).is_ok());
    let mut early = observed("{}", None);
    early.view = None;
    assert_eq!(planned(&early).unwrap_err().reason().word, "ClusterNotReady");
}
