//! Wiring: signals of the system, the lease, the definitions, then three controllers until the end.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::controller::Config as ControllerConfig;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use kube::runtime::{Controller, watcher as watch};
use kube::{Api, Client, Config, ResourceExt as _};
use operator_api::{BrokerCluster, ConsumerGroup, Topic, definitions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::applied::Applied;
use crate::arguments::{LogFormat, RunArguments};
use crate::broker_admin::{Connect, GrpcConnector};
use crate::broker_cluster::restarts::Restarts;
use crate::claims::Claims;
use crate::context::{Context, Settings};
use crate::events::Events;
use crate::http::{self, Readiness};
use crate::lease::Election;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::names::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::signals::{Scope, Signals};
use crate::status_writer::{Kind, StatusWriter};
use crate::watches::{Hearer, Objects, watch_kind};
use crate::{api_server, broker_cluster, cluster_domain, consumer_group, survey, topic};

/// Reconciles that are under way may take this long after the stop; the pod is killed 5 s later.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Where a pod finds the namespace of its service account.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Runs the operator as a process: until SIGTERM or SIGINT, or until the lease is lost.
///
/// # Errors
/// What kept it from running.
pub fn main(arguments: RunArguments) -> anyhow::Result<()> {
    start_log(&arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = Config::infer().await.context("cannot find a Kubernetes API server")?;
        let client = api_server::client(config).context("cannot use the Kubernetes API server")?;
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone())?;
        run(arguments, client, Arc::new(GrpcConnector), stop).await
    })
}

fn start_log(arguments: &RunArguments) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&arguments.log)
        .with_context(|| format!("--log {:?} is no filter; use for example info", arguments.log))?;
    // A line that cannot be written would be told of on stderr, which panics.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    let log = log.with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stops"),
            _ = interrupt.recv() => info!("SIGINT: stops"),
        }
        stop.cancel();
    });
    Ok(())
}

fn own_namespace(asked: Option<&str>) -> String {
    let file = || std::fs::read_to_string(NAMESPACE_FILE).ok();
    let found = asked.map(str::to_owned).or_else(file).unwrap_or_default();
    let found = found.trim();
    if found.is_empty() { "default".to_owned() } else { found.to_owned() }
}

fn own_identity(asked: Option<&str>) -> anyhow::Result<String> {
    let host = || hostname::get().ok().and_then(|name| name.into_string().ok());
    let identity = asked.map(str::to_owned).or_else(host).unwrap_or_default();
    if identity.is_empty() {
        bail!("the host has no name; give this process one with --identity");
    }
    Ok(identity)
}

/// Runs the operator until `stop`, with any way to reach brokers.
///
/// # Errors
/// What kept it from running; losing the lease is one.
pub async fn run(
    arguments: RunArguments,
    client: Client,
    connector: Arc<dyn Connect>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let metrics = Metrics::default();
    let client = api_server::counted(client, metrics.clone());
    let readiness = Readiness::default();
    let listener = http::bind(arguments.http).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", arguments.http))?;
    info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "probes and metrics");
    let http_stop = CancellationToken::new();
    let http = http::serve(listener, readiness.clone(), metrics.clone(), http_stop.clone());
    let http = tokio::spawn(http);
    let election = Election {
        client: client.clone(),
        namespace: own_namespace(arguments.namespace.as_deref()),
        name: arguments.lease_name.clone(),
        identity: own_identity(arguments.identity.as_deref())?,
    };
    let done = tokio::select! {
        found = await_definitions(&client) => found.map(|()| true),
        () = stop.cancelled() => Ok(false),
    };
    let done = match done {
        Ok(true) => {
            readiness.set(true);
            lead(&arguments, client, connector, &election, metrics, &stop).await
        }
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    http_stop.cancel();
    http.await.context("the HTTP server ended badly")??;
    done
}

/// Waits until the API server serves every kind.
async fn await_definitions(client: &Client) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (_, definition) in definitions::all() {
        let name = definition.name_any();
        debug!(%name, "waits for the custom resource definition");
        loop {
            // A watch that breaks is started again; a missing definition is waited for without end.
            match await_condition(api.clone(), &name, is_crd_established()).await {
                Ok(_) => break,
                Err(error) => {
                    warn!(%name, %error, "cannot look for the custom resource definition")
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

/// Takes the lease and works for as long as it is held.
async fn lead(
    arguments: &RunArguments,
    client: Client,
    connector: Arc<dyn Connect>,
    election: &Election,
    metrics: Metrics,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(held) = election.acquire(stop).await else { return Ok(()) };
    metrics.set_leader(true);
    let work_stop = stop.child_token();
    let lease_stop = CancellationToken::new();
    let mut keep = Box::pin(held.keep(&lease_stop));
    let identity = &election.identity;
    let mut work =
        Box::pin(control(arguments, client, connector, identity, metrics.clone(), work_stop));
    let kept = tokio::select! {
        // The lease is lost: nothing more may be done, not even what is under way.
        lost = &mut keep => lost.map(|()| None),
        done = &mut work => Ok(Some(done)),
        () = grace_over(stop) => {
            warn!("controllers have not stopped within {} s and are left", STOP_GRACE.as_secs());
            Ok(Some(Ok(())))
        }
    };
    metrics.set_leader(false);
    match kept {
        Ok(Some(done)) => {
            lease_stop.cancel();
            keep.await.context("the lease could not be given back")?;
            done
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error).context("lost the lease; another operator goes on"),
    }
}

/// Ends some time after `stop`.
async fn grace_over(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
}

/// Some namespaces, or all when none is named.
#[derive(Debug, Clone)]
struct Reach(BTreeSet<String>);

impl Reach {
    fn apis<K: Kind>(&self, client: &Client) -> Vec<Api<K>> {
        if self.0.is_empty() {
            return vec![Api::all(client.clone())];
        }
        self.0.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect()
    }
}

/// The three watches of our own kinds.
struct Watches {
    clusters: Objects<BrokerCluster>,
    topics: Objects<Topic>,
    groups: Objects<ConsumerGroup>,
}

fn set_up(
    arguments: &RunArguments,
    client: &Client,
    connector: Arc<dyn Connect>,
    identity: &str,
    metrics: Metrics,
    reach: &Reach,
) -> (Arc<Context>, Watches) {
    let signals = Signals::default();
    let hearer = Hearer::default();
    let (clusters, cluster_watch) = watch_kind(reach.apis(client), hearer.clone(), |_| {});
    let topic_claims = Arc::new(Claims::default());
    let claims = Arc::clone(&topic_claims);
    let note = move |topic: &Topic| {
        let (key, name) = topic::fetch::target(topic);
        claims.note(key, name, topic::fetch::entry(topic));
    };
    let (topics, topic_watch) = watch_kind(reach.apis(client), hearer.clone(), note);
    let group_claims = Arc::new(Claims::default());
    let claims = Arc::clone(&group_claims);
    let note = move |group: &ConsumerGroup| {
        let (key, name) = consumer_group::fetch::target(group);
        claims.note(key, name, consumer_group::fetch::entry(group));
    };
    let (groups, group_watch) = watch_kind(reach.apis(client), hearer.clone(), note);
    let settings = Settings {
        instance: arguments.instance.clone(),
        namespace: own_namespace(arguments.namespace.as_deref()),
        broker_image: arguments.broker_image.clone(),
        broker_version: arguments.broker_version.clone(),
        cluster_domain: cluster_domain::find(arguments.cluster_domain.as_deref()),
    };
    let status = |controller| (client.clone(), controller, metrics.clone());
    let (c, t, g) = (
        status(broker_cluster::CONTROLLER),
        status(topic::CONTROLLER),
        status(consumer_group::CONTROLLER),
    );
    let context = Arc::new(Context {
        client: client.clone(),
        settings,
        namespace_deletion_wait: Duration::from_secs(arguments.namespace_deletion_wait),
        links: Arc::new(Links::new(connector, signals.clone())),
        signals,
        clusters,
        topics,
        groups,
        topic_claims,
        group_claims,
        cluster_status: StatusWriter::new(c.0, c.1, c.2),
        topic_status: StatusWriter::new(t.0, t.1, t.2),
        group_status: StatusWriter::new(g.0, g.1, g.2),
        applied: Applied::default(),
        restarts: Restarts::default(),
        events: Events::new(client.clone(), identity.to_owned(), metrics.clone()),
        metrics,
        started: tokio::time::Instant::now(),
        failures: Mutex::new(HashMap::new()),
    });
    hearer.set(Arc::clone(&context));
    let surveyed = Arc::downgrade(&context);
    let look = move || surveyed.upgrade().map(|context| survey::survey(&context));
    context.metrics.survey_with(move || look().unwrap_or_default());
    let watches = Watches { clusters: cluster_watch, topics: topic_watch, groups: group_watch };
    (context, watches)
}

/// The three controllers until `stop`; what is under way then is finished.
async fn control(
    arguments: &RunArguments,
    client: Client,
    connector: Arc<dyn Connect>,
    identity: &str,
    metrics: Metrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let namespaces = arguments.watch_namespace.iter().map(|name| name.trim().to_owned());
    let reach = Reach(namespaces.filter(|name| !name.is_empty()).collect());
    let (context, watches) = set_up(arguments, &client, connector, identity, metrics, &reach);
    let config = ControllerConfig::default().concurrency(arguments.concurrency);
    let clusters = control_clusters(&context, watches.clusters, &client, &reach, &config, &stop);
    let topics = control_topics(&context, watches.topics, &config, &stop);
    let groups = control_groups(&context, watches.groups, &config, &stop);
    tokio::join!(clusters, topics, groups);
    info!("controllers have stopped");
    Ok(())
}

async fn control_clusters(
    context: &Arc<Context>,
    watched: Objects<BrokerCluster>,
    client: &Client,
    reach: &Reach,
    config: &ControllerConfig,
    stop: &CancellationToken,
) {
    let ours = || watch::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let of_brokers = || watch::Config::default().labels(broker_cluster::BROKER_LABELS);
    let dirty = Arc::clone(&context.signals.clusters).batches();
    let dirty = dirty.flat_map(|keys| {
        stream::iter(keys.into_iter().map(|key| ObjectRef::new(&key.name).within(&key.namespace)))
    });
    let mut controller = Controller::for_stream(watched, context.clusters.clone());
    for api in reach.apis::<StatefulSet>(client) {
        controller = controller.owns(api, ours());
    }
    for api in reach.apis::<Service>(client) {
        controller = controller.owns(api, ours());
    }
    for api in reach.apis::<ConfigMap>(client) {
        controller = controller.watches(api, ours(), broker_cluster::of_label);
    }
    for api in reach.apis::<PersistentVolumeClaim>(client) {
        controller = controller.watches(api, of_brokers(), broker_cluster::of_label);
    }
    for api in reach.apis::<Pod>(client) {
        controller = controller.watches(api, of_brokers(), broker_cluster::of_label);
    }
    for api in reach.apis::<PodDisruptionBudget>(client) {
        controller = controller.owns(api, ours());
    }
    for api in reach.apis::<NetworkPolicy>(client) {
        controller = controller.owns(api, ours());
    }
    controller
        .with_config(config.clone())
        .reconcile_on(dirty)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(broker_cluster::reconcile, broker_cluster::on_error, Arc::clone(context))
        .for_each(|outcome| async move { log_outcome(outcome.map(|_| ())) })
        .await;
}

/// What topics and groups say depends on clusters: those must be known first.
async fn clusters_are_known(context: &Context, stop: &CancellationToken) -> bool {
    tokio::select! {
        known = context.clusters.wait_until_ready() => known.is_ok(),
        () = stop.cancelled() => false,
    }
}

/// The objects of some scopes, for a controller.
fn references<K: Kind>(claims: &Claims, scopes: &BTreeSet<Scope>) -> Vec<ObjectRef<K>> {
    let objects = claims.objects(scopes).into_iter();
    objects.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)).collect()
}

async fn control_topics(
    context: &Arc<Context>,
    watched: Objects<Topic>,
    config: &ControllerConfig,
    stop: &CancellationToken,
) {
    let claims = Arc::clone(&context.topic_claims);
    let dirty = Arc::clone(&context.signals.topics).batches();
    let dirty = dirty.flat_map(move |scopes| stream::iter(references(&claims, &scopes)));
    if !clusters_are_known(context, stop).await {
        return;
    }
    Controller::for_stream(watched, context.topics.clone())
        .with_config(config.clone())
        .reconcile_on(dirty)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(topic::reconcile, topic::on_error, Arc::clone(context))
        .for_each(|outcome| async move { log_outcome(outcome.map(|_| ())) })
        .await;
}

async fn control_groups(
    context: &Arc<Context>,
    watched: Objects<ConsumerGroup>,
    config: &ControllerConfig,
    stop: &CancellationToken,
) {
    let claims = Arc::clone(&context.group_claims);
    let dirty = Arc::clone(&context.signals.groups).batches();
    let dirty = dirty.flat_map(move |scopes| stream::iter(references(&claims, &scopes)));
    if !clusters_are_known(context, stop).await {
        return;
    }
    Controller::for_stream(watched, context.groups.clone())
        .with_config(config.clone())
        .reconcile_on(dirty)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(consumer_group::reconcile, consumer_group::on_error, Arc::clone(context))
        .for_each(|outcome| async move { log_outcome(outcome.map(|_| ())) })
        .await;
}

fn log_outcome<E, Q>(outcome: Result<(), kube::runtime::controller::Error<E, Q>>)
where
    E: std::error::Error + 'static,
    Q: std::error::Error + 'static,
{
    use kube::runtime::controller::Error as ControllerError;
    match outcome {
        // Failed reconciles are logged with their pause; an object that is gone is no error.
        Ok(())
        | Err(ControllerError::ReconcilerFailed(..) | ControllerError::ObjectNotFound(_)) => {}
        Err(error) => warn!(%error, "watch"),
    }
}
