//! What a test lives in: a namespace, fake brokers, a stand-in for the kubelet, and operators in this process.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Config, Resource, ResourceExt as _};
use operator::arguments::{Arguments, Command};
use operator::broker_admin::{AdminError, BrokerAdmin, BrokerEndpoint, Connect, GrpcConnector};
use operator::permissions;
use operator_api::condition::Condition;
use operator_api::{BrokerCluster, ConsumerGroup, Topic, definitions};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fake_broker::FakeBroker;
use crate::faults::Faults;
use crate::process::get;

/// Nothing that is waited for takes longer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

static NAMESPACES: AtomicU32 = AtomicU32::new(0);
/// Most tests share the API server; one that reaches beyond its namespaces has it for itself.
static API_SERVER: RwLock<()> = RwLock::const_new(());

/// Kinds that tests read and write.
pub(crate) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + DeserializeOwned
    + serde::Serialize
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + serde::Serialize
        + fmt::Debug
        + Send
        + Sync
        + 'static
{
}

fn kubeconfig() -> Kubeconfig {
    let path = std::env::var("PINNACE_TEST_KUBECONFIG").expect(
        "PINNACE_TEST_KUBECONFIG names the kubeconfig of a test cluster; use tests/operator/run",
    );
    Kubeconfig::read_from(path).unwrap()
}

/// A client of the API server: the administrator's, or one that acts for another user.
async fn client(user: Option<&str>) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig(), &KubeConfigOptions::default()).await;
    let mut config = config.unwrap();
    config.auth_info.impersonate = user.map(str::to_owned);
    operator::api_server::client(config).unwrap()
}

/// Leads the operator to fake brokers instead of DNS names.
#[derive(Debug, Default, Clone)]
struct Roads(Arc<Mutex<HashMap<String, SocketAddr>>>);

impl Connect for Roads {
    fn connect(&self, endpoint: &BrokerEndpoint) -> Result<Arc<dyn BrokerAdmin>, AdminError> {
        // Port 1 refuses connections: a broker that is not there.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let address = self.0.lock().unwrap().get(&endpoint.host).copied().unwrap_or(nowhere);
        let host = address.ip().to_string();
        GrpcConnector.connect(&BrokerEndpoint {
            broker: endpoint.broker,
            host,
            port: address.port(),
        })
    }
}

/// An operator that runs in this process.
#[derive(Debug)]
pub(crate) struct RunningOperator {
    /// Where its metrics page is.
    http: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// One that is let go of stops.
    _let_go: DropGuard,
}

impl RunningOperator {
    /// The sum of all numbers of a metric whose labels contain all of these.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let page = get(self.http, "/metrics").await.expect("the page is served");
        let lines = page.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| {
                rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
            })
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Requests so far that ask the API server to change something, those for the lease left out.
    pub(crate) async fn writes(&self) -> u64 {
        let mut writes = 0;
        for verb in ["create", "patch", "update", "delete"] {
            let verb = format!("verb=\"{verb}\"");
            let name = "pinnace_operator_api_requests_total";
            writes += self.metric(name, &[&verb]).await;
            writes -= self.metric(name, &[&verb, "resource=\"leases\""]).await;
        }
        writes
    }

    /// Ends it as SIGKILL does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let ended = self.task.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "it ended by itself");
    }

    /// Ends it as SIGTERM does, and waits.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the operator ends").unwrap();
    }
}

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// May do what the operator's roles say and nothing else.
    operator_client: Client,
    roads: Roads,
    kubelet: JoinHandle<()>,
    _turn: Turn,
}

/// Held for as long as the world is.
enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
    OfNeighbour,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kubelet.abort();
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Turn::Shared { _guard: API_SERVER.read().await }, Roads::default()).await
    }

    /// A world beside which no other test runs.
    pub(crate) async fn alone() -> Self {
        Self::with(Turn::Alone { _guard: API_SERVER.write().await }, Roads::default()).await
    }

    /// Another namespace of a test that is alone.
    pub(crate) async fn neighbour(&self) -> Self {
        assert!(matches!(self._turn, Turn::Alone { .. }), "others run beside this test");
        Self::with(Turn::OfNeighbour, self.roads.clone()).await
    }

    async fn with(turn: Turn, roads: Roads) -> Self {
        let client = client(None).await;
        install_definitions(&client).await;
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("test-{}-{number}", std::process::id());
        let api: Api<Namespace> = Api::all(client.clone());
        let object = json!({"metadata": {"name": namespace}});
        let object: Namespace = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
        let user = format!("operator-of-{namespace}");
        permit(&client, &namespace, &user).await;
        let operator_client = self::client(Some(&user)).await;
        let kubelet = tokio::spawn(run_pods(Api::namespaced(client.clone(), &namespace)));
        Self { client, operator_client, namespace, roads, kubelet, _turn: turn }
    }

    /// Lets this world's operators work in the namespace of a neighbour.
    pub(crate) async fn permit_in(&self, neighbour: &Self) {
        let user = format!("operator-of-{}", self.namespace);
        let bindings: Api<RoleBinding> = neighbour.api();
        let binding = binding("work-of-neighbour", "ClusterRole", "test-pinnace-operator", &user);
        let binding = serde_json::from_value(binding).unwrap();
        bindings.create(&PostParams::default(), &binding).await.unwrap();
    }

    /// A fake broker in the place of the pod of broker `id` of a cluster.
    pub(crate) async fn broker(&self, cluster: &str, id: u32) -> FakeBroker {
        let broker = FakeBroker::start(id).await;
        self.lead_to(cluster, id, broker.address);
        broker
    }

    /// Leads operators to an address in the place of the pod of broker `id` of a cluster.
    pub(crate) fn lead_to(&self, cluster: &str, id: u32, address: SocketAddr) {
        let host = format!("{cluster}-broker-{id}-0.{cluster}-brokers.{}.svc", self.namespace);
        self.roads.0.lock().unwrap().insert(host, address);
    }

    pub(crate) fn operator(&self, identity: &str) -> RunningOperator {
        self.operator_with(identity, &["--watch-namespace", &self.namespace])
    }

    /// An operator that looks after all namespaces, in a test that is alone.
    pub(crate) async fn operator_of_all(&self, identity: &str, more: &[&str]) -> RunningOperator {
        let user = format!("operator-of-{}", self.namespace);
        let bindings: Api<ClusterRoleBinding> = Api::all(self.client.clone());
        let name = format!("{user}-everywhere");
        let binding = binding(&name, "ClusterRole", "test-pinnace-operator", &user);
        let binding = serde_json::from_value(binding).unwrap();
        bindings.create(&PostParams::default(), &binding).await.unwrap();
        self.operator_with(identity, more)
    }

    /// An operator to which something happens.
    pub(crate) fn operator_under(&self, identity: &str, faults: &Faults) -> RunningOperator {
        let client = faults.client(self.operator_client.clone());
        let roads = faults.connector(Arc::new(self.roads.clone()));
        self.start(identity, &["--watch-namespace", &self.namespace], client, roads)
    }

    /// An operator with more arguments.
    pub(crate) fn operator_with(&self, identity: &str, more: &[&str]) -> RunningOperator {
        self.start(identity, more, self.operator_client.clone(), Arc::new(self.roads.clone()))
    }

    fn start(
        &self,
        identity: &str,
        more: &[&str],
        client: Client,
        roads: Arc<dyn Connect>,
    ) -> RunningOperator {
        let stop = CancellationToken::new();
        let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listens = http.to_string();
        let words = [
            "pinnace-operator",
            "run",
            "--namespace",
            &self.namespace,
            "--http",
            &listens,
            "--identity",
            identity,
        ];
        let arguments = <Arguments as clap::Parser>::parse_from(words.iter().chain(more));
        let Command::Run(arguments) = arguments.command else { panic!("run was asked for") };
        let run = operator::run::run(*arguments, client, roads, stop.clone());
        let task = tokio::spawn(async move { run.await.unwrap() });
        RunningOperator { http, task, _let_go: stop.clone().drop_guard(), stop }
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies a manifest as people do.
    pub(crate) async fn apply<K: Kind>(&self, name: &str, spec: Value) -> K {
        self.try_apply(name, spec).await.unwrap()
    }

    pub(crate) async fn try_apply<K: Kind>(
        &self,
        name: &str,
        spec: Value,
    ) -> Result<K, kube::Error> {
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "spec": spec,
        });
        self.api::<K>()
            .patch(name, &PatchParams::apply("people").force(), &Patch::Apply(object))
            .await
    }

    pub(crate) async fn delete<K: Kind>(&self, name: &str) {
        self.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// A cluster that serves, the topic `orders` and the group `billing` of it.
    pub(crate) async fn open_shop(&self) {
        self.apply::<BrokerCluster>("default", json!({})).await;
        self.apply::<Topic>("orders", json!({})).await;
        let billing = json!({"subscriptions": [{"topic": "orders"}]});
        self.apply::<ConsumerGroup>("billing", billing).await;
        self.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
        self.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
        self.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    }

    /// Waits until an object is as `wanted` says.
    pub(crate) async fn wait<K: Kind>(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&K) -> bool,
    ) -> K {
        let seen = Mutex::new(None);
        let condition = |object: Option<&K>| {
            *seen.lock().unwrap() = object.cloned();
            object.is_some_and(&wanted)
        };
        let waited = await_condition(self.api::<K>(), name, condition);
        match tokio::time::timeout(PATIENCE, waited).await {
            Ok(object) => object.unwrap().unwrap(),
            Err(_) => panic!("{name} never got {what}; it is {:#?}", seen.lock().unwrap()),
        }
    }

    /// Waits until an object is gone.
    pub(crate) async fn wait_gone<K: Kind>(&self, name: &str) {
        let gone = await_condition(self.api::<K>(), name, |object: Option<&K>| object.is_none());
        tokio::time::timeout(PATIENCE, gone).await.expect("it goes").unwrap();
    }

    /// Waits for a condition of an object: its type, status and reason.
    pub(crate) async fn wait_condition<K: Kind>(
        &self,
        name: &str,
        type_: &str,
        status: &str,
        reason: &str,
    ) -> Condition {
        let what = format!("{type_}={status}/{reason}");
        let matches = |object: &K| {
            condition(object, type_).is_some_and(|c| {
                format!("{:?}", c.status) == status
                    && c.reason == reason
                    && Some(c.observed_generation) == object.meta().generation
            })
        };
        condition(&self.wait::<K>(name, &what, matches).await, type_).unwrap()
    }
}

/// A condition of an object.
pub(crate) fn condition<K: Kind>(object: &K, type_: &str) -> Option<Condition> {
    let object = serde_json::to_value(object).unwrap();
    let conditions = object["status"]["conditions"].as_array()?.clone();
    let found = conditions.into_iter().find(|c| c["type"] == type_)?;
    Some(serde_json::from_value(found).unwrap())
}

/// Waits until something that no watch can tell is so.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    probe: impl Fn() -> F,
) -> T {
    let tried = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            if let Some(found) = probe().await {
                return found;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, tried).await {
        Ok(found) => found,
        Err(_) => panic!("never: {what}"),
    }
}

/// Gives a user the operator's roles, for one namespace.
async fn permit(client: &Client, namespace: &str, user: &str) {
    let params = PatchParams::apply("tests").force();
    let cluster_roles: Api<ClusterRole> = Api::all(client.clone());
    for mut role in [permissions::work(), permissions::definitions()] {
        // Chart and tests may meet in one cluster.
        let name = format!("test-{}", role.name_any());
        role.metadata.name = Some(name.clone());
        cluster_roles.patch(&name, &params, &Patch::Apply(&role)).await.unwrap();
    }
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    roles.create(&PostParams::default(), &permissions::leases()).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    for (name, kind, role) in [
        ("work", "ClusterRole", "test-pinnace-operator"),
        ("leases", "Role", "pinnace-operator-leases"),
    ] {
        let binding = serde_json::from_value(binding(name, kind, role, user)).unwrap();
        bindings.create(&PostParams::default(), &binding).await.unwrap();
    }
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let binding = binding(user, "ClusterRole", "test-pinnace-operator-definitions", user);
    let binding = serde_json::from_value(binding).unwrap();
    bindings.create(&PostParams::default(), &binding).await.unwrap();
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}

pub(crate) async fn install_definitions(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (_, definition) in definitions::all() {
        let name = definition.name_any();
        let params = PatchParams::apply("tests").force();
        api.patch(&name, &params, &Patch::Apply(&definition)).await.unwrap();
        await_condition(api.clone(), &name, conditions::is_crd_established()).await.unwrap();
    }
}

/// There are no nodes: pods are said to run and be ready as soon as they are there, unless they carry `test/hold`.
async fn run_pods(api: Api<Pod>) {
    let pods = watcher(api.clone(), watcher::Config::default());
    // Without pauses after errors it would never let go of its thread when the runtime ends, which takes the client first
    // and then waits for this task.
    let mut pods = pods.default_backoff().applied_objects().boxed();
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        let held =
            pod.labels().contains_key("test/hold") || pod.metadata.deletion_timestamp.is_some();
        if phase.as_deref() == Some("Running") || held {
            continue;
        }
        let status = json!({"status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        // The pod may be gone meanwhile.
        let _ =
            api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
    }
}
