//! Rules of what people may say about pods and their network, and the Rust side of them. What the operator owns cannot be set.

use super::Rule;
use super::checks::Findings;
use crate::broker_cluster::BrokerClusterSpec;
use crate::network_policy::NetworkPeer;
use crate::pod::{Pod, Volume};

/// Where the messages are in a pod.
const DATA_PATH: &str = "/data";
/// Name of the volume of the messages.
const DATA_VOLUME: &str = "data";
/// Name of the volume of the certificate.
pub const TLS_VOLUME: &str = "pinnace-tls";
/// Where the certificate is in a pod.
pub const TLS_PATH: &str = "/etc/pinnace/tls";
/// Flags of brokers that the operator does not set.
const FLAGS_FREE: [&str; 2] = ["PINNACE_PROXY_PROTOCOL", "PINNACE_CONNECTIONS_PER_ADDRESS"];
/// Labels by which brokers are found, beside those of `pinnace.dev/`.
const LABELS_OWNED: [&str; 3] =
    ["app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/managed-by"];

/// Rules of labels.
pub const LABELS: [Rule; 1] = [Rule {
    cel: "self.all(key, !key.startsWith('pinnace.dev/') && !(key in ['app.kubernetes.io/name', \
          'app.kubernetes.io/component', 'app.kubernetes.io/managed-by']))",
    message: "labels of pinnace.dev/ and app.kubernetes.io/name, /component and /managed-by belong to the operator, which \
              finds brokers by them; choose another key",
}];

/// Rules of the name of a variable.
pub const ENV_NAME: [Rule; 1] = [Rule {
    cel: "!self.startsWith('PINNACE_') || self in ['PINNACE_PROXY_PROTOCOL', 'PINNACE_CONNECTIONS_PER_ADDRESS']",
    message: "PINNACE_ variables are flags of the broker, which the operator sets; of them only PINNACE_PROXY_PROTOCOL and \
              PINNACE_CONNECTIONS_PER_ADDRESS are yours, and pod.log says what is logged",
}];

/// Rules of a volume.
pub const VOLUME: [Rule; 3] = [
    Rule {
        cel: "self.name != 'data'",
        message: "the volume 'data' holds the messages and belongs to the operator; choose another name",
    },
    Rule {
        cel: "[has(self.configMap), has(self.secret), has(self.emptyDir), has(self.persistentVolumeClaim)]\
              .exists_one(given, given)",
        message: "a volume needs exactly one of configMap, secret, emptyDir and persistentVolumeClaim",
    },
    Rule {
        cel: "self.name != 'pinnace-tls'",
        message: "the volume 'pinnace-tls' holds the certificate and belongs to the operator; choose another name, or set \
                  spec.tls.secretName",
    },
];

/// Rules of a mount.
pub const VOLUME_MOUNT: [Rule; 2] = [
    Rule {
        cel: "self.mountPath.startsWith('/') && self.mountPath != '/data' && !self.mountPath.startsWith('/data/') && \
              !self.mountPath.contains(':') && !self.mountPath.contains('..') && !self.mountPath.contains('//')",
        message: "mountPath begins with '/' and is not in /data, which holds the messages and belongs to the operator",
    },
    Rule {
        cel: "self.mountPath != '/etc/pinnace' && !self.mountPath.startsWith('/etc/pinnace/')",
        message: "mountPath is not in /etc/pinnace, which holds the certificate and belongs to the operator",
    },
];

/// Rules of a pod.
pub const POD: [Rule; 1] = [Rule {
    cel: "!has(self.volumeMounts) || self.volumeMounts.all(mount, has(self.volumes) && \
          self.volumes.exists(volume, volume.name == mount.name))",
    message: "each of volumeMounts names one of pod.volumes",
}];

/// Rules of a peer.
pub const NETWORK_PEER: [Rule; 1] = [Rule {
    cel: "has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))",
    message: "a peer is either an ipBlock, or pods by podSelector, namespaceSelector or both",
}];

/// What is wrong with pods and their network.
pub(super) fn check(findings: &mut Findings, spec: &BrokerClusterSpec) {
    if let Some(pod) = &spec.pod {
        check_pod(findings, pod);
    }
    let Some(policy) = &spec.network_policy else { return };
    for (field, peers) in [
        ("clientsFrom", &policy.clients_from),
        ("metricsFrom", &policy.metrics_from),
        ("adminFrom", &policy.admin_from),
    ] {
        for (index, peer) in peers.iter().enumerate() {
            let field = format!("spec.networkPolicy.{field}[{index}]");
            findings.rule(is_peer(peer), &field, NETWORK_PEER[0]);
        }
    }
}

fn is_peer(peer: &NetworkPeer) -> bool {
    peer.ip_block.is_some() != (peer.pod_selector.is_some() || peer.namespace_selector.is_some())
}

fn check_pod(findings: &mut Findings, pod: &Pod) {
    let is_owned =
        |key: &String| key.starts_with("pinnace.dev/") || LABELS_OWNED.contains(&key.as_str());
    findings.rule(!pod.labels.keys().any(is_owned), "spec.pod.labels", LABELS[0]);
    for (index, variable) in pod.env.iter().enumerate() {
        let name = variable.name.as_str();
        let is_free = !name.starts_with("PINNACE_") || FLAGS_FREE.contains(&name);
        findings.rule(is_free, &format!("spec.pod.env[{index}].name"), ENV_NAME[0]);
    }
    for (index, volume) in pod.volumes.iter().enumerate() {
        let field = format!("spec.pod.volumes[{index}]");
        findings.rule(volume.name != DATA_VOLUME, &field, VOLUME[0]);
        findings.rule(sources(volume) == 1, &field, VOLUME[1]);
        findings.rule(volume.name != TLS_VOLUME, &field, VOLUME[2]);
    }
    for (index, mount) in pod.volume_mounts.iter().enumerate() {
        let field = format!("spec.pod.volumeMounts[{index}]");
        findings.rule(is_free_path(&mount.mount_path), &field, VOLUME_MOUNT[0]);
        let of_ours = mount.mount_path.strip_prefix("/etc/pinnace");
        let is_free = of_ours.is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/'));
        findings.rule(is_free, &field, VOLUME_MOUNT[1]);
        let is_there = pod.volumes.iter().any(|volume| volume.name == mount.name);
        findings.rule(is_there, "spec.pod", POD[0]);
    }
}

fn sources(volume: &Volume) -> usize {
    let given = [
        volume.config_map.is_some(),
        volume.secret.is_some(),
        volume.empty_dir.is_some(),
        volume.persistent_volume_claim.is_some(),
    ];
    given.into_iter().filter(|given| *given).count()
}

fn is_free_path(path: &str) -> bool {
    let below =
        path.strip_prefix(DATA_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path.starts_with('/') && !below && ![":", "..", "//"].iter().any(|part| path.contains(part))
}
