//! The StatefulSet of one broker: one pod with one volume, under the restricted pod security profile.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction, LocalObjectReference,
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PodAffinityTerm, PodAntiAffinity,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
    SecretVolumeSource, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
    VolumeResourceRequirements, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use operator_api::broker_cluster::{PullPolicy, Resources, VolumeDeletion};
use operator_api::pod::{LogFormat, Pod};
use operator_api::quantity::ResourceText;
use operator_api::rules::pod::{TLS_PATH, TLS_VOLUME};
use xxhash_rust::xxh3::xxh3_64;

use super::{as_kubernetes, metadata, some_list, some_map};
use crate::broker_cluster::certificate::{CHAIN_KEY, PRIVATE_KEY, secret_name};
use crate::broker_cluster::plan::BrokerPlan;
use crate::broker_cluster::validate::ValidCluster;
use crate::names::{
    ADMIN_PORT, CLIENT_PORT, HTTP_PORT, KEPT_TEMPLATE_ANNOTATION, SAID_ANNOTATION,
    SHARDS_ANNOTATION, TEMPLATE_ANNOTATION,
};

/// The user that brokers run as.
const USER: i64 = 65_532;
/// Time to serve on, answer parked polls and sync on a planned stop.
const GRACE_SECONDS: i64 = 60;
/// For so long a broker that is told to stop serves on, while Services and load balancers hear that it goes.
const STOP_DELAY_SECONDS: u32 = 3;
/// A broker may take this long to replay its log before it counts as failed: 600 probes, one each second.
const STARTUP_PROBES_MAX: i32 = 600;
/// Largest template that its StatefulSet keeps a copy of: annotations together may have 256 KiB.
const KEPT_TEMPLATE_BYTES_MAX: usize = 128 * 1024;
/// Files of the certificate are read by the broker's group and nobody else: octal 0440.
const TLS_MODE: i32 = 0o440;

pub(super) fn broker(valid: &ValidCluster, broker: &BrokerPlan, image: &str) -> StatefulSet {
    let selector = valid.key.broker_selector(broker.id);
    let template = template(valid, broker, image);
    let text = serde_json::to_string(&template).expect("a template is plain data");
    let mut metadata = metadata(valid, valid.key.stateful_set(broker.id), valid.key.labels());
    metadata.labels.get_or_insert_default().extend(selector.clone());
    let mut annotations = BTreeMap::from([
        (SHARDS_ANNOTATION.to_owned(), shard_list(broker)),
        (TEMPLATE_ANNOTATION.to_owned(), hash(&text)),
        (SAID_ANNOTATION.to_owned(), said(valid, broker)),
    ]);
    if text.len() <= KEPT_TEMPLATE_BYTES_MAX {
        annotations.insert(KEPT_TEMPLATE_ANNOTATION.to_owned(), text);
    }
    metadata.annotations = Some(annotations);
    let deletion = match valid.spec.storage.deletion {
        VolumeDeletion::Retain => "Retain",
        VolumeDeletion::Delete => "Delete",
    };
    let retention = StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some(deletion.to_owned()),
        when_scaled: Some("Retain".to_owned()),
    };
    StatefulSet {
        metadata,
        spec: StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(valid.key.headless_service()),
            // With one pod there is no order to keep, and a pod that never gets ready does not block its successor.
            pod_management_policy: Some("Parallel".to_owned()),
            selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
            template,
            volume_claim_templates: Some(vec![claim(valid, broker)]),
            persistent_volume_claim_retention_policy: Some(retention),
            ..StatefulSetSpec::default()
        },
        status: None,
    }
}

/// What tells one text from another.
pub(super) fn hash(text: &str) -> String {
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

/// Hash of what people say that goes into the pods of a broker. It must stay the same from one operator to the next, or what an
/// operator does otherwise passes for their change.
fn said(valid: &ValidCluster, broker: &BrokerPlan) -> String {
    let spec = &valid.spec;
    let said = serde_json::json!({
        "version": spec.version,
        "image": spec.image,
        "resources": spec.resources,
        "listeners": spec.listeners,
        "pod": spec.pod,
        "shards": shard_list(broker),
    });
    hash(&said.to_string())
}

fn shard_list(broker: &BrokerPlan) -> String {
    let ids: Vec<String> = broker.shards.iter().map(u32::to_string).collect();
    ids.join(",")
}

fn claim(valid: &ValidCluster, broker: &BrokerPlan) -> PersistentVolumeClaim {
    let storage = &valid.spec.storage;
    let size = broker.claim_size.clone().unwrap_or_else(|| valid.storage_size.0.clone());
    let size = BTreeMap::from([("storage".to_owned(), Quantity(size))]);
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            labels: Some(valid.key.selector()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.class_name.clone(),
            volume_mode: Some("Filesystem".to_owned()),
            resources: Some(VolumeResourceRequirements {
                requests: Some(size),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn template(valid: &ValidCluster, broker: &BrokerPlan, image: &str) -> PodTemplateSpec {
    let pod = valid.spec.pod.clone().unwrap_or_default();
    let mut labels = pod.labels.clone();
    // The labels that select the pod win over anybody's.
    labels.extend(valid.key.labels());
    labels.extend(valid.key.broker_selector(broker.id));
    let secrets = valid.pull_secrets.iter();
    let secrets: Vec<_> = secrets.map(|name| LocalObjectReference { name: name.clone() }).collect();
    let affinity = pod.affinity.as_ref().map_or_else(|| spread(valid), as_kubernetes);
    let constraints = pod.topology_spread_constraints.iter().map(|asked| constraint(valid, asked));
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: some_map(pod.annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container(valid, broker, &pod, image)],
            affinity: Some(affinity),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            image_pull_secrets: some_list(secrets),
            node_selector: some_map(pod.node_selector.clone()),
            priority_class_name: pod.priority_class_name.clone(),
            service_account_name: pod.service_account_name.clone(),
            topology_spread_constraints: some_list(constraints.collect()),
            volumes: Some(volumes(valid, &pod)),
            security_context: Some(pod_security()),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            tolerations: some_list(pod.tolerations.iter().map(as_kubernetes).collect()),
            ..PodSpec::default()
        }),
    }
}

fn container(valid: &ValidCluster, broker: &BrokerPlan, pod: &Pod, image: &str) -> Container {
    let port = |name: &str, number: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let data = VolumeMount {
        name: "data".to_owned(),
        mount_path: "/data".to_owned(),
        ..VolumeMount::default()
    };
    let certificate = VolumeMount {
        name: TLS_VOLUME.to_owned(),
        mount_path: TLS_PATH.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let mounts = [data, certificate].into_iter();
    let mounts = mounts.chain(pod.volume_mounts.iter().map(as_kubernetes));
    Container {
        name: "broker".to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: valid.pull_policy.map(|policy| {
            let word = match policy {
                PullPolicy::Always => "Always",
                PullPolicy::IfNotPresent => "IfNotPresent",
                PullPolicy::Never => "Never",
            };
            word.to_owned()
        }),
        args: Some(arguments(valid, broker)),
        env: some_list(environment(pod)),
        ports: Some(vec![
            port("client", CLIENT_PORT),
            port("http", HTTP_PORT),
            port("admin", ADMIN_PORT),
        ]),
        resources: Some(resources(valid.spec.resources.as_ref())),
        security_context: Some(container_security()),
        // The last line of a broker that ended stands in its pod, and from there in conditions.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        startup_probe: Some(probe("/readyz", 1, STARTUP_PROBES_MAX)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        volume_mounts: Some(mounts.collect()),
        ..Container::default()
    }
}

fn arguments(valid: &ValidCluster, broker: &BrokerPlan) -> Vec<String> {
    let id = broker.id;
    let mut arguments = vec!["serve".to_owned()];
    let mut flag = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    flag("data", "/data".to_owned());
    flag("listen", format!("0.0.0.0:{CLIENT_PORT}"));
    flag("http", format!("0.0.0.0:{HTTP_PORT}"));
    flag("admin", format!("0.0.0.0:{ADMIN_PORT}"));
    flag("broker-id", id.to_string());
    flag("cluster", valid.key.name.clone());
    flag("shard-ids", shard_list(broker));
    flag("advertise", format!("{}:{CLIENT_PORT}", valid.key.broker_host(id)));
    flag("tls-certificate", format!("{TLS_PATH}/{CHAIN_KEY}"));
    flag("tls-key", format!("{TLS_PATH}/{PRIVATE_KEY}"));
    arguments
}

/// That of the certificate, which is the whole Secret so that a change arrives without a restart, and what people add.
fn volumes(valid: &ValidCluster, pod: &Pod) -> Vec<Volume> {
    let certificate = Volume {
        name: TLS_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret_name(valid)),
            default_mode: Some(TLS_MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    std::iter::once(certificate).chain(pod.volumes.iter().map(as_kubernetes)).collect()
}

/// How to stop, what and how to log, then what people add. An older broker passes over variables that it does not know.
fn environment(pod: &Pod) -> Vec<EnvVar> {
    let log = pod.log.clone().unwrap_or_default();
    let format = log.format.map(|format| match format {
        LogFormat::Text => "text".to_owned(),
        LogFormat::Json => "json".to_owned(),
    });
    let known = [
        ("PINNACE_STOP_DELAY_SECONDS", Some(STOP_DELAY_SECONDS.to_string())),
        ("PINNACE_LOG", log.filter),
        ("PINNACE_LOG_FORMAT", format),
    ];
    let known = known.into_iter().filter_map(|(name, value)| {
        let value = Some(value?);
        Some(EnvVar { name: name.to_owned(), value, ..EnvVar::default() })
    });
    known.chain(pod.env.iter().map(as_kubernetes)).collect()
}

/// A constraint that names no pods is about the brokers of the cluster.
fn constraint(
    valid: &ValidCluster,
    asked: &operator_api::pod::TopologySpreadConstraint,
) -> TopologySpreadConstraint {
    let mut constraint: TopologySpreadConstraint = as_kubernetes(asked);
    constraint.label_selector.get_or_insert_with(|| LabelSelector {
        match_labels: Some(valid.key.selector()),
        ..LabelSelector::default()
    });
    constraint
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn resources(asked: Option<&Resources>) -> ResourceRequirements {
    let quantities = |map: &BTreeMap<String, ResourceText>| {
        let quantity =
            |(name, text): (&String, &ResourceText)| (name.clone(), Quantity(text.0.clone()));
        some_map(map.iter().map(quantity).collect())
    };
    let small = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.to_owned()));
    match asked {
        Some(asked) => ResourceRequirements {
            requests: quantities(&asked.requests),
            limits: quantities(&asked.limits),
            ..ResourceRequirements::default()
        },
        None => ResourceRequirements {
            requests: Some(BTreeMap::from([small("cpu", "100m"), small("memory", "128Mi")])),
            ..ResourceRequirements::default()
        },
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(seccomp()),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        seccomp_profile: Some(seccomp()),
        ..SecurityContext::default()
    }
}

fn seccomp() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }
}

/// Brokers go to different nodes where there are enough.
fn spread(valid: &ValidCluster) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(valid.key.selector()),
            ..LabelSelector::default()
        }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm { pod_affinity_term: term, weight: 100 },
            ]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}
