//! From YAML to objects, held by snapshots.

use std::sync::Arc;

use operator_api::BrokerCluster;

use super::*;
use crate::broker_cluster::fetch::Observed;
use crate::broker_cluster::plan::plan;
use crate::broker_cluster::validate::validate;
use crate::context::Settings;
use crate::names::ClusterKey;
use crate::verdict::Verdict;

fn observed(yaml: &str) -> Observed {
    let mut cluster: BrokerCluster = serde_yaml::from_str(yaml).unwrap();
    cluster.metadata.namespace = Some("shop".to_owned());
    cluster.metadata.uid = Some("5a1e".to_owned());
    let name = cluster.metadata.name.clone().unwrap();
    Observed {
        cluster: Arc::new(cluster),
        key: ClusterKey { namespace: "shop".to_owned(), name },
        stateful_sets: Vec::new(),
        troubles: Vec::new(),
        recorded: None,
        volumes: Vec::new(),
        reported: BTreeMap::new(),
        recorded_disks: BTreeMap::new(),
        map_version: 0,
    }
}

fn built(yaml: &str) -> Result<Objects, Verdict> {
    let observed = observed(yaml);
    let settings = Settings {
        instance: "kubernetes".to_owned(),
        broker_image: "pinnace.dev/pinnace".to_owned(),
        broker_version: "0.1.0".to_owned(),
    };
    let valid = validate(&observed, &settings)?;
    Ok(build(&valid, &plan(&observed, &valid)?))
}

fn cluster(spec: &str) -> String {
    format!(
        "apiVersion: pinnace.dev/v1alpha1\nkind: BrokerCluster\nmetadata: {{name: default}}\nspec: {spec}"
    )
}

#[test]
fn an_empty_spec_makes_one_broker_with_everything_around_it() {
    let objects = built(&cluster("{}")).unwrap();
    insta::assert_yaml_snapshot!("one-broker-config-map", objects.config_map);
    insta::assert_yaml_snapshot!("one-broker-services", objects.services);
    insta::assert_yaml_snapshot!("one-broker-disruption-budget", objects.disruption_budget);
    let sets: Vec<_> = objects.stateful_sets.iter().map(|(_, set)| set).collect();
    insta::assert_yaml_snapshot!("one-broker-stateful-sets", sets);
}

#[test]
fn every_field_of_the_spec_arrives_in_the_objects() {
    let objects = built(&cluster(
        "
  brokers: 2
  shards: 3
  version: 0.3.0
  image: {repository: registry.example/pinnace, pullPolicy: Never, pullSecrets: [registry]}
  resources: {requests: {cpu: 2, memory: 4Gi}, limits: {memory: 4Gi}}
  storage: {size: 100Gi, className: fast, deletion: Delete}
  listeners: [{name: client}, {name: other, port: 9081}]
  pod:
    labels: {team: shop, pinnace.dev/cluster: hijacked}
    annotations: {a: b}
    nodeSelector: {disk: nvme}
    priorityClassName: high
    tolerations: [{key: dedicated, operator: Equal, value: mq, effect: NoSchedule}]
",
    ))
    .unwrap();
    let names: Vec<_> = objects.services.iter().map(|s| s.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["default-brokers", "default-client", "default-other"]);
    insta::assert_yaml_snapshot!("full-config-map", objects.config_map);
    insta::assert_yaml_snapshot!("full-stateful-set", objects.stateful_sets[0].1);
    assert_eq!(objects.stateful_sets.len(), 2);
}

#[test]
fn what_is_not_served_yet_is_refused_and_says_what_works() {
    let cases = [
        ("{replication: 3}", "ReplicationNotServed", "set spec.replication to 1"),
        (
            "{listeners: [{name: out, type: LoadBalancer}]}",
            "ListenerTypeNotServed",
            "use ClusterIP",
        ),
        ("{shards: 0}", "InvalidSpec", "out of range"),
    ];
    for (spec, word, message) in cases {
        let refused = built(&cluster(spec)).unwrap_err();
        assert!(matches!(refused, Verdict::Stalled(_)), "{spec}");
        assert_eq!(refused.reason().word, word);
        assert!(refused.reason().message.contains(message), "{refused:?}");
    }
}
