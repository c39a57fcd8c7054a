//! The loader against the table of refusals and against legal manifests.

use serde::Deserialize;

use serde_yaml::Value;

use super::*;
use crate::consumer_group::FilterType;
use crate::topic::MessageType;
use crate::{API_VERSION, rules};

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
    assert_eq!((topic.name.as_str(), topic.spec.queues), ("orders", Some(4)));
    assert_eq!(topic.spec.message_type, None, "what is not said stays unsaid");
    assert_eq!(topic.spec.cluster_ref.name, "default");
    assert_eq!(group.origin.to_string(), "orders.yaml document 3");
    assert_eq!((group.namespace.as_deref(), group.spec.model), (Some("shop"), None));
    let filter = group.spec.subscriptions[0].filter.as_ref().unwrap();
    assert_eq!((filter.type_, filter.expression.as_str()), (FilterType::Tag, "paid || refunded"));
    assert_eq!((cluster.spec.brokers, cluster.spec.shards), (None, None));
}

#[test]
fn a_filter_that_does_not_compile_is_refused_with_its_place() {
    let sql = |text: &str| {
        let filter = format!("filter: {{type: Sql92, expression: \"{text}\"}}");
        ORDERS.replace("filter: {expression: paid || refunded}", &filter)
    };
    assert!(load("f.yaml", &sql("amount > 3 AND region = 'EU'")).is_ok());
    let errors = load("f.yaml", &sql("amount >")).unwrap_err();
    assert_eq!(errors[0].field, "spec.subscriptions[0].filter.expression");
    assert!(errors[0].message.contains("wrong at character 9"), "{errors:?}");
    let errors = load("f.yaml", &ORDERS.replace("paid || refunded", "'||'")).unwrap_err();
    assert!(errors[0].message.contains("names no tag"), "{errors:?}");
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
    let twice = load_all([("a.yaml", ORDERS), ("b.yaml", ORDERS)]);
    assert!(twice.manifests.is_empty(), "neither is taken: {twice:?}");
    let text = twice.errors[0].to_string();
    assert!(
        text.contains(
            "b.yaml document 1: Topic \"orders\" is already declared in a.yaml document 1"
        ),
        "{text}"
    );
    assert_eq!(load_all([("a.yaml", ORDERS)]).manifests.len(), 3);
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

#[test]
fn what_is_wrong_is_left_out_and_the_rest_is_read() {
    let wrong = ORDERS.replace("queues: 4", "queues: many").replace("name: default", "name: other");
    let other = ORDERS.replace("orders", "notes").replace("billing", "audit");
    let loaded = load_all([
        ("a.yaml", wrong.as_str()),
        ("b.yaml", other.as_str()),
        ("c.yaml", "a: ["),
        ("d.yaml", ""),
        ("e.yaml", "# later\n---\n"),
    ]);
    assert_eq!(loaded.manifests.len(), 5);
    assert_eq!(loaded.errors.len(), 2, "{:?}", loaded.errors);
    assert_eq!(loaded.without_objects, ["d.yaml", "e.yaml"]);
}

#[test]
fn what_kubectl_reads_is_read_the_same() {
    let one = |file: &str, text: &str| {
        let mut all = load(file, text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    };
    let topic = |file: &str, text: &str| match one(file, text) {
        Manifest::Topic(declared) => declared,
        other => panic!("{other:?}"),
    };
    let head = "apiVersion: pinnace.dev/v1alpha1\nkind: Topic\nmetadata: {name: t}\n";
    assert_eq!(topic("f.yaml", &format!("\u{feff}{head}spec: {{queues: 2}}")).spec.queues, Some(2));
    let merged = format!("{head}spec: {{<<: {{queues: 3, messageType: FIFO}}, queues: 5}}");
    let merged = topic("f.yaml", &merged).spec;
    assert_eq!((merged.queues, merged.message_type), (Some(5), Some(MessageType::Fifo)));
    let json = "{\n\t\"apiVersion\": \"pinnace.dev/v1alpha1\", \"kind\": \"Topic\",\n\t\"metadata\": {\"name\": \"t\"}, \"spec\": {\"queues\": 7}}";
    assert_eq!(topic("f.JSON", json).spec.queues, Some(7));
    let nulls = format!("{head}spec: {{queues: null, retention: null, access: {{write: no}}}}");
    let nulls = topic("f.yaml", &nulls).spec;
    assert_eq!((nulls.queues, nulls.retention.is_none()), (None, true));
    assert!(!nulls.access.unwrap().write);
    assert_eq!(topic("f.yaml", &format!("{head}spec:")).spec, TopicSpec::default());
    assert_eq!(
        topic(
            "f.yaml",
            &head
                .replace("name: t", "name: a.b-1, namespace: shop")
                .replace("}\n", "}\nspec: {topicName: A_b}\n")
        )
        .spec
        .topic_name
        .unwrap(),
        "A_b"
    );
}

#[test]
fn exported_objects_are_read_alone_and_in_lists() {
    let exported = "
apiVersion: v1
items:
- apiVersion: pinnace.dev/v1alpha1
  kind: Topic
  metadata:
    annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}
    creationTimestamp: \"2026-01-31T08:00:00Z\"
    deletionGracePeriodSeconds: 0
    deletionTimestamp: \"2026-01-31T08:00:00Z\"
    finalizers: [pinnace.dev/topic]
    generation: 3
    managedFields: [{manager: kubectl, operation: Apply}]
    name: orders
    namespace: shop
    ownerReferences: [{kind: Shop, name: s, uid: u}]
    resourceVersion: \"12345\"
    uid: 1c0d1d5e
  spec: {clusterRef: {name: default}, queues: 4}
  status: {observedGeneration: 3, conditions: []}
- apiVersion: pinnace.dev/v1alpha1
  kind: ConsumerGroup
  metadata: {name: Billing}
kind: List
metadata:
  resourceVersion: \"\"
";
    let loaded = load_all([("all.yaml", exported)]);
    let [Manifest::Topic(topic)] = loaded.manifests.as_slice() else { panic!("{loaded:?}") };
    assert_eq!(topic.origin.to_string(), "all.yaml document 1 item 1");
    assert_eq!((topic.spec.queues, topic.namespace.as_deref()), (Some(4), Some("shop")));
    let text = loaded.errors[0].to_string();
    assert!(text.starts_with("all.yaml document 1 item 2, field metadata.name: "), "{text}");
    assert!(text.contains("lower-case") && text.contains("spec.groupName"), "{text}");
    let typed = exported.replace("apiVersion: v1\n", "apiVersion: pinnace.dev/v1alpha1\n");
    let typed = typed.replace("kind: List", "kind: TopicList");
    assert_eq!(load_all([("all.yaml", typed.as_str())]).manifests.len(), 1);
    assert!(load("all.yaml", "{apiVersion: v1, kind: List}").unwrap().is_empty());
    assert!(load("all.yaml", "{apiVersion: v1, kind: List, items: 1}").is_err());
}

#[test]
fn names_are_those_that_kubernetes_takes() {
    let text = "{apiVersion: pinnace.dev/v1alpha1, kind: Topic, metadata: {name: t, namespace: n}}";
    assert!(load("f.yaml", text).is_ok());
    for (right, wrong) in [
        ("name: t", "name: Orders"),
        ("name: t", "name: a_b"),
        ("name: t", "name: -a"),
        ("name: t", "name: a..b"),
        ("namespace: n", "namespace: A"),
        ("namespace: n", "namespace: a.b"),
    ] {
        let errors = load("f.yaml", &text.replacen(right, wrong, 1)).expect_err(wrong);
        assert!(errors[0].to_string().contains("lower-case"), "{wrong}: {errors:?}");
    }
}

#[test]
fn a_json_file_that_is_no_manifest_is_passed_over() {
    let loaded = load_all([("package.json", "{\"name\": \"shop\"}"), ("broken.json", "{")]);
    assert_eq!(loaded.passed_over, ["package.json"]);
    assert!(loaded.errors[0].to_string().contains("no legal JSON"), "{:?}", loaded.errors);
    assert!(load("f.json", "{\"kind\": \"Topic\"}").is_err(), "it wants to be one");
}
