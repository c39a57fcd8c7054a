//! The loader against the table of refusals and against legal manifests.

use serde::Deserialize;

use super::*;
use crate::consumer_group::{FilterType, Model};
use crate::topic::MessageType;

#[derive(Deserialize)]
struct Table {
    objects: Vec<Refusal>,
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Refusal {
    name: String,
    message: String,
    object: Value,
}

#[derive(Deserialize)]
struct Change {
    name: String,
    message: String,
    old: Value,
    new: Value,
}

fn table() -> Table {
    serde_yaml::from_str(include_str!("../../tests/refusals.yaml")).unwrap()
}

fn load_value(object: &Value) -> Result<Manifest, Vec<ManifestError>> {
    let mut object = object.clone();
    object["apiVersion"] = API_VERSION.into();
    load("file.yaml", &serde_yaml::to_string(&object).unwrap()).map(|mut all| all.remove(0))
}

#[test]
fn every_refusal_of_the_table_is_refused_with_its_message() {
    for refusal in table().objects {
        let errors = load_value(&refusal.object).expect_err(&refusal.name);
        let found = errors.iter().any(|error| error.to_string().contains(&refusal.message));
        assert!(found, "{}: {errors:?}", refusal.name);
        assert!(errors.iter().all(|error| !error.field.is_empty()), "{errors:?}");
    }
}

#[test]
fn every_change_of_the_table_is_refused_with_its_message() {
    for change in table().changes {
        let (old, new) = (load_value(&change.old).unwrap(), load_value(&change.new).unwrap());
        let violations = match (&old, &new) {
            (Manifest::Topic(old), Manifest::Topic(new)) => {
                rules::change_of_topic(&old.spec, &new.spec)
            }
            (Manifest::ConsumerGroup(old), Manifest::ConsumerGroup(new)) => {
                rules::change_of_consumer_group(&old.spec, &new.spec)
            }
            (Manifest::BrokerCluster(old), Manifest::BrokerCluster(new)) => {
                rules::change_of_broker_cluster(&old.spec, &new.spec)
            }
            _ => panic!("{} changes the kind", change.name),
        };
        let found = violations.iter().any(|v| v.message.contains(&change.message));
        assert!(found, "{}: {violations:?}", change.name);
    }
}

const ORDERS: &str = "
apiVersion: pinnace.dev/v1alpha1
kind: Topic
metadata: {name: orders, labels: {team: shop}}
spec: {queues: 4, retention: {time: 72h, bytes: 1Gi}}
---
---
apiVersion: pinnace.dev/v1alpha1
kind: ConsumerGroup
metadata: {name: billing, namespace: shop}
spec:
  subscriptions: [{topic: orders, filter: {expression: paid || refunded}}]
  retry: {maxAttempts: 5, backoff: {exponential: {initial: 1s, max: 1m}}}
---
apiVersion: pinnace.dev/v1alpha1
kind: BrokerCluster
metadata: {name: default}
";

#[test]
fn legal_manifests_are_read_with_their_defaults() {
    let manifests = load("orders.yaml", ORDERS).unwrap();
    let [Manifest::Topic(topic), Manifest::ConsumerGroup(group), Manifest::BrokerCluster(cluster)] =
        manifests.as_slice()
    else {
        panic!("{manifests:?}")
    };
    assert_eq!((topic.name.as_str(), topic.spec.queues), ("orders", 4));
    assert_eq!(topic.spec.message_type, MessageType::Normal);
    assert_eq!(topic.spec.cluster_ref.name, "default");
    assert_eq!(group.origin.to_string(), "orders.yaml document 3");
    assert_eq!((group.namespace.as_deref(), group.spec.model), (Some("shop"), Model::Clustering));
    let filter = group.spec.subscriptions[0].filter.as_ref().unwrap();
    assert_eq!((filter.type_, filter.expression.as_str()), (FilterType::Tag, "paid || refunded"));
    assert_eq!((cluster.spec.brokers, cluster.spec.shard_count()), (1, 1));
}

#[test]
fn an_error_names_the_file_the_document_and_the_field() {
    let text = format!("{ORDERS}---\n{}", ORDERS.replace("queues: 4", "queues: many"));
    let errors = load("orders.yaml", &text).unwrap_err();
    let text = errors[0].to_string();
    assert!(text.starts_with("orders.yaml document 5, field spec.queues: "), "{text}");
    let text = ORDERS.replace("labels:", "tags:");
    let text = load("orders.yaml", &text).unwrap_err()[0].to_string();
    assert_eq!(text, "orders.yaml document 1, field metadata.tags: unknown field");
    let text = ORDERS.replace("time: 72h", "days: 3");
    let text = load("orders.yaml", &text).unwrap_err()[0].to_string();
    assert_eq!(text, "orders.yaml document 1, field spec.retention.days: unknown field");
}

#[test]
fn what_is_no_manifest_of_ours_is_refused() {
    let cases = [
        ("kind: Secret", "unknown kind \"Secret\"", "kind: Topic"),
        (
            "apiVersion: v2",
            "only \"pinnace.dev/v1alpha1\" is served",
            "apiVersion: pinnace.dev/v1alpha1",
        ),
        ("[1, 2]", "is no object", ORDERS),
        ("a: [", "no legal YAML", ORDERS),
        ("metadata: {}", "use 1 to 253", "metadata: {name: default}"),
    ];
    for (wrong, message, right) in cases {
        let errors = load("f.yaml", &ORDERS.replacen(right, wrong, 1)).unwrap_err();
        assert!(errors[0].to_string().contains(message), "{wrong}: {errors:?}");
    }
    let errors = load("f.yaml", &"#".repeat(MANIFEST_BYTES_MAX + 1)).unwrap_err();
    assert!(errors[0].to_string().contains("at most"), "{errors:?}");
}

#[test]
fn a_thing_declared_twice_is_refused_with_both_places() {
    let errors = load_all([("a.yaml", ORDERS), ("b.yaml", ORDERS)]).unwrap_err();
    let text = errors[0].to_string();
    assert!(
        text.contains(
            "b.yaml document 1: Topic \"orders\" is already declared in a.yaml document 1"
        ),
        "{text}"
    );
    assert_eq!(load_all([("a.yaml", ORDERS)]).unwrap().len(), 3);
}

#[test]
fn an_alias_bomb_is_refused_and_not_expanded() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(load("bomb.yaml", &text).is_err());
}

#[test]
fn an_absent_spec_is_the_default_spec() {
    let text = "{apiVersion: pinnace.dev/v1alpha1, kind: KIND, metadata: {name: a}}";
    let read = |kind: &str| load("f.yaml", &text.replace("KIND", kind)).unwrap().remove(0);
    assert!(matches!(read("Topic"), Manifest::Topic(d) if d.spec == TopicSpec::default()));
    let group = read("ConsumerGroup");
    assert!(matches!(group, Manifest::ConsumerGroup(d) if d.spec == ConsumerGroupSpec::default()));
    let cluster = read("BrokerCluster");
    assert!(
        matches!(cluster, Manifest::BrokerCluster(d) if d.spec == BrokerClusterSpec::default())
    );
}
