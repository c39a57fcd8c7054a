//! From YAML to objects, held by snapshots.

use operator_api::BrokerCluster;

use super::*;
use crate::broker_cluster::fetch::Observed;
use crate::broker_cluster::plan::plan;
use crate::broker_cluster::samples::{self, settings};
use crate::broker_cluster::validate::validate;
use crate::verdict::Verdict;

fn observed(yaml: &str) -> Observed {
    let mut cluster: BrokerCluster = serde_yaml::from_str(yaml).unwrap();
    cluster.metadata.uid = Some("5a1e".to_owned());
    samples::observed(cluster)
}

/// A cluster of this spec.
pub(in crate::broker_cluster) fn valid(spec: &str) -> ValidCluster {
    validate(&observed(&cluster(spec)), &settings()).unwrap()
}

fn built(yaml: &str) -> Result<Objects, Verdict> {
    let observed = observed(yaml);
    let valid = validate(&observed, &settings())?;
    let plan = plan(&observed, &valid)?;
    let stateful_sets = stateful_sets(&valid, &plan.brokers);
    Ok(build(&valid, &plan, stateful_sets))
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
    insta::assert_yaml_snapshot!("one-broker-network-policy", objects.network_policy);
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
    labels: {team: shop}
    annotations: {a: b}
    nodeSelector: {disk: nvme}
    priorityClassName: high
    tolerations: [{key: dedicated, operator: Equal, value: mq, effect: NoSchedule}]
    affinity:
      nodeAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [nvme]}]}]
        preferredDuringSchedulingIgnoredDuringExecution:
          - {weight: 1, preference: {matchFields: [{key: metadata.name, operator: NotIn, values: [a]}]}}
      podAffinity:
        preferredDuringSchedulingIgnoredDuringExecution:
          - {weight: 2, podAffinityTerm: {topologyKey: zone, labelSelector: {matchLabels: {app: cache}}}}
      podAntiAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, namespaces: [shop], labelSelector: {matchExpressions: [{key: a, operator: Exists}]}}
    topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, minDomains: 3, nodeTaintsPolicy: Honor}
      - {maxSkew: 2, topologyKey: rack, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {team: shop}}}
    serviceAccountName: brokers
    log: {filter: 'broker=debug,info', format: Json}
    env:
      - {name: TZ, value: UTC}
      - {name: PINNACE_PROXY_PROTOCOL, value: 10.0.0.0/8}
      - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
      - {name: TOKEN, valueFrom: {secretKeyRef: {name: tokens, key: broker, optional: true}}}
      - {name: REGION, valueFrom: {configMapKeyRef: {name: region, key: name}}}
    volumes:
      - {name: certificates, secret: {secretName: broker-tls}}
      - {name: settings, configMap: {name: settings, optional: true}}
      - {name: scratch, emptyDir: {sizeLimit: 1Gi}}
      - {name: shared, persistentVolumeClaim: {claimName: shared, readOnly: true}}
    volumeMounts:
      - {name: certificates, mountPath: /certificates, readOnly: true}
      - {name: settings, mountPath: /settings, subPath: a}
      - {name: scratch, mountPath: /tmp}
  networkPolicy:
    clientsFrom:
      - {namespaceSelector: {matchLabels: {messaging: allowed}}, podSelector: {}}
      - {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}
    metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
    adminFrom: [{podSelector: {matchLabels: {app: console}}}]
",
    ))
    .unwrap();
    let names: Vec<_> = objects.services.iter().map(|s| s.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["default-brokers", "default-client", "default-other"]);
    insta::assert_yaml_snapshot!("full-config-map", objects.config_map);
    insta::assert_yaml_snapshot!("full-network-policy", objects.network_policy);
    insta::assert_yaml_snapshot!("full-stateful-set", objects.stateful_sets[0].1);
    assert_eq!(objects.stateful_sets.len(), 2);
}

#[test]
fn every_field_of_a_listener_arrives_in_its_service() {
    let spec = "
  listeners:
  - {name: client}
  - {name: nodes, type: NodePort, port: 9081, nodePort: 30081, externalTrafficPolicy: Local}
  - name: out
    type: LoadBalancer
    loadBalancerClass: example.com/fast
    loadBalancerSourceRanges: [192.0.2.0/24, '2001:db8::/32']
    externalTrafficPolicy: Cluster
    annotations: {example.com/scheme: internal}
    hosts: [mq.example.com]
  tls: {secretName: shop-tls}
";
    let objects = built(&cluster(spec)).unwrap();
    insta::assert_yaml_snapshot!("listeners", objects.services);
    let pod = objects.stateful_sets[0].1.spec.template.spec.clone().unwrap();
    insta::assert_yaml_snapshot!("given-certificate", pod.volumes);
}

#[test]
fn a_cluster_that_asks_for_no_network_policy_gets_none() {
    let objects = built(&cluster("{networkPolicy: {enabled: false}}")).unwrap();
    assert!(objects.network_policy.is_none());
}

#[test]
fn what_is_not_served_yet_is_refused_and_says_what_works() {
    let cases = [
        ("{replication: 3}", "InvalidSpec", "set replication to 1"),
        ("{tls: {secretName: a, issuerRef: {name: b}}}", "InvalidSpec", "not both"),
        ("{shards: 0}", "InvalidSpec", "out of range"),
    ];
    for (spec, word, message) in cases {
        let refused = built(&cluster(spec)).unwrap_err();
        assert!(matches!(refused, Verdict::Stalled(_)), "{spec}");
        assert_eq!(refused.reason().word, word);
        assert!(refused.reason().message.contains(message), "{refused:?}");
    }
}
