//! Clients from outside: Services of every type, addresses that are told, and certificates from three places.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::wait::{await_condition, conditions};
use operator::broker_cluster::certificate::check::{self, Leaf};
use operator_api::BrokerCluster;
use operator_api::broker_cluster::Endpoint;
use serde_json::{Value, json};

use crate::world::{World, condition, eventually};

fn endpoints(cluster: &BrokerCluster) -> Vec<Endpoint> {
    cluster.status.as_ref().map(|status| status.endpoints.clone()).unwrap_or_default()
}

fn addresses(cluster: &BrokerCluster) -> Vec<String> {
    endpoints(cluster).into_iter().map(|endpoint| endpoint.address).collect()
}

async fn wait_addresses(world: &World, wanted: &[String]) {
    let what = format!("the endpoints {wanted:?}");
    let told = |cluster: &BrokerCluster| addresses(cluster) == wanted;
    world.wait::<BrokerCluster>("default", &what, told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_gets_a_service_of_its_type_that_follows_it_and_goes_with_it() {
    let world = World::new().await;
    let _broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    let with = |listener: Value| json!({"listeners": [{"name": "client"}, listener]});
    let nodes = json!({"name": "out", "type": "NodePort", "hosts": ["node.example.com"]});
    world.apply::<BrokerCluster>("default", with(nodes)).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let port =
        |service: &Service| service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].clone();
    let made = world.api::<Service>().get("default-out").await.unwrap();
    let node_port = u16::try_from(port(&made).node_port.unwrap()).unwrap();
    let inside = |name: &str| format!("default-{name}.{}.svc:8081", world.namespace);
    let with_node = [inside("client"), inside("out"), format!("node.example.com:{node_port}")];
    wait_addresses(&world, &with_node).await;
    let cluster = world.api::<BrokerCluster>().get("default").await.unwrap();
    let ports: Vec<_> = endpoints(&cluster).iter().map(|endpoint| endpoint.node_port).collect();
    assert_eq!(ports, [None, Some(node_port), None]);
    assert!(condition(&cluster, "AddressesAssigned").is_none());

    let balancer = json!({
        "name": "out", "type": "LoadBalancer", "port": 443, "externalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": ["192.0.2.0/24"], "annotations": {"example.com/scheme": "internal"},
    });
    world.apply::<BrokerCluster>("default", with(balancer)).await;
    let pending = ("AddressesAssigned", "False", "LoadBalancerPending");
    world.wait_condition::<BrokerCluster>("default", pending.0, pending.1, pending.2).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let changed = |service: &Service| {
        let spec = service.spec.as_ref().unwrap();
        spec.type_.as_deref() == Some("LoadBalancer")
            && port(service).port == 443
            && spec.external_traffic_policy.as_deref() == Some("Local")
            && spec.load_balancer_source_ranges.as_deref() == Some(&["192.0.2.0/24".to_owned()])
            && service.annotations()["example.com/scheme"] == "internal"
    };
    let changed = world.wait::<Service>("default-out", "its load balancer", changed).await;
    assert_eq!(changed.uid(), made.uid(), "the address inside stays");
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}});
    let params = PatchParams::default();
    let services = world.api::<Service>();
    services.patch_status("default-out", &params, &Patch::Merge(status)).await.unwrap();
    let out = format!("default-out.{}.svc:443", world.namespace);
    wait_addresses(&world, &[inside("client"), out, "203.0.113.7:443".to_owned()]).await;
    world.wait_condition::<BrokerCluster>("default", "AddressesAssigned", "True", "Assigned").await;
    let leaf = leaf(&world, "default-tls").await;
    assert!(leaf.names.contains("203.0.113.7"), "{leaf:?}");

    world.apply::<BrokerCluster>("default", with(json!({"name": "out"}))).await;
    let plain = |service: &Service| {
        let spec = service.spec.as_ref().unwrap();
        spec.type_.as_deref() == Some("ClusterIP")
            && port(service).node_port.is_none()
            && spec.external_traffic_policy.is_none()
            && service.annotations().is_empty()
    };
    world.wait::<Service>("default-out", "an address inside alone", plain).await;
    wait_addresses(&world, &[inside("client"), inside("out")]).await;
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.wait_gone::<Service>("default-out").await;
    wait_addresses(&world, &[inside("client")]).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_kubernetes_does_not_give_stops_that_listener_alone() {
    let world = World::new().await;
    let _broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    let with = |port: u16| json!({"listeners": [{"name": "out", "type": "NodePort", "nodePort": port}, {"name": "client"}]});
    world.apply::<BrokerCluster>("default", with(81)).await;
    let stalled = world
        .wait_condition::<BrokerCluster>("default", "Stalled", "True", "ListenerRefused")
        .await;
    assert!(stalled.message.contains("default-out"), "{}", stalled.message);
    assert!(stalled.message.contains("not in the valid range"), "{}", stalled.message);
    world.wait::<Service>("default-client", "made", |_| true).await;
    world.wait::<StatefulSet>("default-broker-0", "made", |_| true).await;
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    operator.stop().await;
}

fn entry<'a>(secret: &'a Secret, key: &str) -> &'a [u8] {
    &secret.data.as_ref().unwrap()[key].0
}

fn read(secret: &Secret) -> Leaf {
    check::secret(Some(entry(secret, "tls.crt")), Some(entry(secret, "tls.key"))).unwrap()
}

async fn leaf(world: &World, name: &str) -> Leaf {
    read(&world.api::<Secret>().get(name).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_made_stays_until_names_change_and_comes_again_from_one_authority() {
    let world = World::new().await;
    let _broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    let ready = world
        .wait_condition::<BrokerCluster>("default", "CertificateReady", "True", "SelfMade")
        .await;
    assert!(ready.message.contains("ConfigMap default-ca, key ca.crt"), "{}", ready.message);
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let secrets = world.api::<Secret>();
    let first = secrets.get("default-tls").await.unwrap();
    let authority = secrets.get("default-ca").await.unwrap();
    assert_eq!(first.type_.as_deref(), Some("kubernetes.io/tls"));
    let host = format!("default-client.{}.svc.cluster.local", world.namespace);
    assert!(read(&first).names.contains(&host), "{:?}", read(&first));
    assert_eq!(read(&first).issuer, read(&authority).subject);
    let told = world.api::<ConfigMap>().get("default-ca").await.unwrap();
    assert_eq!(told.data.unwrap()["ca.crt"].as_bytes(), entry(&authority, "tls.crt"));
    assert_eq!(entry(&first, "ca.crt"), entry(&authority, "tls.crt"));
    let shown = serde_json::to_string(&world.api::<BrokerCluster>().get("default").await.unwrap());
    assert!(!shown.unwrap().contains("PRIVATE"), "no key in spec or status");

    operator.stop().await;
    let operator = world.operator("b");
    let set = world.api::<StatefulSet>().get("default-broker-0").await.unwrap();
    let listeners = json!({"listeners": [{"name": "client", "port": 9081}]});
    world.apply::<BrokerCluster>("default", listeners).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let same = secrets.get("default-tls").await.unwrap();
    assert_eq!(same.resource_version(), first.resource_version());

    let listeners =
        json!({"listeners": [{"name": "client", "hosts": ["mq.example.com", "2001:DB8::1"]}]});
    let refused = world.try_apply::<BrokerCluster>("default", listeners).await;
    assert!(refused.is_ok(), "{refused:?}");
    let named = |secret: &Secret| {
        let names = read(secret).names;
        names.contains("mq.example.com") && names.contains("2001:db8::1")
    };
    let second = world.wait::<Secret>("default-tls", "the new names", named).await;
    assert_ne!(entry(&second, "tls.key"), entry(&first, "tls.key"));
    assert_eq!(entry(&second, "ca.crt"), entry(&first, "ca.crt"), "clients trust it as before");
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let after = world.api::<StatefulSet>().get("default-broker-0").await.unwrap();
    assert_eq!(after.metadata.generation, set.metadata.generation, "no broker restarts");

    world.delete::<Secret>("default-tls").await;
    let again = |secret: &Secret| secret.uid() != second.uid();
    let third = world.wait::<Secret>("default-tls", "made again", again).await;
    assert_eq!(entry(&third, "ca.crt"), entry(&first, "ca.crt"), "by the same authority");
    world.delete::<ConfigMap>("default-ca").await;
    let told = world.wait::<ConfigMap>("default-ca", "made again", |map| map.data.is_some()).await;
    assert_eq!(told.data.unwrap()["ca.crt"].as_bytes(), entry(&first, "ca.crt"));
    world.delete::<Secret>("default-ca").await;
    let new = |secret: &Secret| entry(secret, "ca.crt") != entry(&first, "ca.crt");
    let fourth = world.wait::<Secret>("default-tls", "another authority", new).await;
    let told = |map: &ConfigMap| {
        let text = map.data.as_ref().and_then(|data| data.get("ca.crt"));
        text.is_some_and(|text| text.as_bytes() == entry(&fourth, "ca.crt"))
    };
    world.wait::<ConfigMap>("default-ca", "the other authority", told).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_of_somebody_else_is_not_taken_for_the_certificate() {
    let world = World::new().await;
    let operator = world.operator("a");
    put_secret(&world, "default-tls", &[("mine", "yes")]).await;
    world.apply::<BrokerCluster>("default", json!({})).await;
    let stalled =
        world.wait_condition::<BrokerCluster>("default", "Stalled", "True", "NameTaken").await;
    assert!(stalled.message.contains("default-tls exists"), "{}", stalled.message);
    let kept = world.api::<Secret>().get("default-tls").await.unwrap();
    assert_eq!(entry(&kept, "mine"), b"yes");
    assert_eq!(kept.data.unwrap().len(), 1);
    operator.stop().await;
}

async fn put_secret(world: &World, name: &str, entries: &[(&str, &str)]) {
    let entry =
        |(key, text): &(&str, &str)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()));
    let data: BTreeMap<String, ByteString> = entries.iter().map(entry).collect();
    let secret = Secret {
        metadata: kube::api::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
        data: Some(data),
        ..Secret::default()
    };
    let params = PatchParams::apply("people").force();
    world.api::<Secret>().patch(name, &params, &Patch::Apply(secret)).await.unwrap();
}

/// Certificate and key for a host, both PEM.
fn made(host: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_wait_for_a_given_secret_and_go_on_when_it_is_good() {
    let world = World::new().await;
    let _broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({"tls": {"secretName": "shop-tls"}})).await;
    let missing = world
        .wait_condition::<BrokerCluster>("default", "Ready", "False", "CertificateMissing")
        .await;
    assert!(missing.message.contains("waits for the Secret shop-tls"), "{}", missing.message);
    assert!(world.api::<StatefulSet>().get_opt("default-broker-0").await.unwrap().is_none());
    assert!(world.api::<Secret>().get_opt("default-tls").await.unwrap().is_none());

    let ((chain, key), (other, _)) = (made("a.example"), made("b.example"));
    put_secret(&world, "shop-tls", &[("tls.crt", &chain)]).await;
    let stalled = "CertificateIncomplete";
    let said = world.wait_condition::<BrokerCluster>("default", "Stalled", "True", stalled).await;
    assert!(said.message.contains("has no tls.key"), "{}", said.message);
    put_secret(&world, "shop-tls", &[("tls.crt", &other), ("tls.key", &key)]).await;
    let stalled = "CertificateMismatch";
    let said = world.wait_condition::<BrokerCluster>("default", "Stalled", "True", stalled).await;
    assert!(!said.message.contains("PRIVATE"), "{}", said.message);
    put_secret(&world, "shop-tls", &[("tls.crt", &chain), ("tls.key", &key), ("ca.crt", &chain)])
        .await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let ready = ("CertificateReady", "True", "FromSecret");
    world.wait_condition::<BrokerCluster>("default", ready.0, ready.1, ready.2).await;
    let cluster = world.api::<BrokerCluster>().get("default").await.unwrap();
    let status = cluster.status.unwrap().certificate.unwrap();
    assert_eq!(status.secret_name, "shop-tls");
    assert_eq!(status.authority.as_deref(), Some("default-ca"));
    let told = world.api::<ConfigMap>().get("default-ca").await.unwrap();
    assert_eq!(told.data.unwrap()["ca.crt"], chain);
    let set = world.api::<StatefulSet>().get("default-broker-0").await.unwrap();
    let volume = &set.spec.template.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
    assert_eq!(volume.secret.as_ref().unwrap().secret_name.as_deref(), Some("shop-tls"));

    // What runs goes on, and changes of other things arrive.
    world.delete::<Secret>("shop-tls").await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "False", "CertificateMissing").await;
    let spec = json!({"tls": {"secretName": "shop-tls"}, "listeners": [{"name": "other"}]});
    world.apply::<BrokerCluster>("default", spec).await;
    world.wait::<Service>("default-other", "made", |_| true).await;
    let kept = world.api::<StatefulSet>().get("default-broker-0").await.unwrap();
    assert_eq!(kept.metadata.generation, set.metadata.generation);
    put_secret(&world, "shop-tls", &[("tls.crt", &chain), ("tls.key", &key)]).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let told = |map: &ConfigMap| map.data.as_ref().is_none_or(BTreeMap::is_empty);
    world.wait::<ConfigMap>("default-ca", "no authority any more", told).await;
    operator.stop().await;
}

/// As much of cert-manager as the operator sees.
fn cert_manager() -> CustomResourceDefinition {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    serde_json::from_value(json!({
        "metadata": {"name": "certificates.cert-manager.io"},
        "spec": {
            "group": "cert-manager.io",
            "names": {"kind": "Certificate", "plural": "certificates", "singular": "certificate"},
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
            }],
        },
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_an_issuer_is_asked_for_waited_for_and_taken_away() {
    let world = World::alone().await;
    let _broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    let issuer = json!({"tls": {"issuerRef": {"name": "corporate", "kind": "ClusterIssuer"}}});
    world.apply::<BrokerCluster>("default", issuer).await;
    let stalled = "CertManagerMissing";
    let said = world.wait_condition::<BrokerCluster>("default", "Stalled", "True", stalled).await;
    assert!(said.message.contains("install cert-manager"), "{}", said.message);

    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let definition = cert_manager();
    let name = definition.name_any();
    let params = PatchParams::apply("tests").force();
    definitions.patch(&name, &params, &Patch::Apply(&definition)).await.unwrap();
    await_condition(definitions.clone(), &name, conditions::is_crd_established()).await.unwrap();
    let waits = "CertificateNotIssued";
    world.wait_condition::<BrokerCluster>("default", "Ready", "False", waits).await;
    let kind =
        ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"));
    let certificates: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    let asked = certificates.get("default-brokers").await.unwrap();
    assert_eq!(asked.data["spec"]["issuerRef"]["kind"], "ClusterIssuer");
    assert_eq!(asked.data["spec"]["secretName"], "default-issued-tls");
    let host = format!("default-client.{}.svc", world.namespace);
    let hosts = asked.data["spec"]["dnsNames"].as_array().unwrap();
    assert!(hosts.contains(&json!(host)), "{hosts:?}");
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "message": "the issuer has no account"}]}});
    let params = PatchParams::default();
    certificates.patch_status("default-brokers", &params, &Patch::Merge(status)).await.unwrap();
    let heard = |cluster: &BrokerCluster| {
        condition(cluster, "Ready").is_some_and(|c| c.message.contains("the issuer has no account"))
    };
    world.wait::<BrokerCluster>("default", "the words of cert-manager", heard).await;

    let (chain, key) = made("a.example");
    put_secret(&world, "default-issued-tls", &[("tls.crt", &chain), ("tls.key", &key)]).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    world.wait_condition::<BrokerCluster>("default", "CertificateReady", "True", "Issued").await;

    world.apply::<BrokerCluster>("default", json!({})).await;
    world.wait_condition::<BrokerCluster>("default", "CertificateReady", "True", "SelfMade").await;
    eventually("the Certificate is gone", || async {
        certificates.get_opt("default-brokers").await.unwrap().is_none().then_some(())
    })
    .await;
    operator.stop().await;
    definitions.delete(&name, &DeleteParams::default()).await.unwrap();
}
