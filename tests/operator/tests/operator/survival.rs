//! One life of a cluster with all that people ask of it, under every fault: the operator ends between any two of its writes,
//! writes fail or lose their answers, watches break off. In the end everything is as if nothing had happened, and no broker
//! restarted once more. Few of the points in the normal run; `make test-operator-faults` plays every one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use futures::future::pending;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::ListParams;
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde_json::{Value, json};

use crate::fake_broker::FakeBroker;
use crate::faults::{Faults, Plan};
use crate::random::Random;
use crate::world::{Kind, World, eventually};

const ALL_VARIABLE: &str = "PINNACE_TEST_ALL_FAULTS";
const SEED_VARIABLE: &str = "FAULT_SEED";
/// Points at which the operator ends, in the normal run.
const POINTS: usize = 8;
/// Lives under failing writes, and under breaking watches, in the normal run and in the long one.
const LIVES: (u64, u64) = (2, 25);
/// After its last step a life is as it should be within this time.
const CONVERGES_WITHIN: Duration = Duration::from_secs(50);
/// Lives at a time.
const AT_ONCE: usize = 6;
/// Of so many writes one fails.
const FAILING: u64 = 4;

fn plays_all() -> bool {
    std::env::var_os(ALL_VARIABLE).is_some()
}

fn seed() -> u64 {
    let seed = std::env::var(SEED_VARIABLE).ok().map(|text| text.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("{SEED_VARIABLE}={seed}");
    seed
}

/// What people do, one after the other; each step waits until what they asked for is said to be done.
async fn script(world: &World) {
    let serving = || world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving");
    world.apply::<BrokerCluster>("default", json!({"brokers": 2, "shards": 2})).await;
    serving().await;
    world.apply::<Topic>("orders", json!({"queues": 4, "deletionPolicy": "Retain"})).await;
    world.apply::<Topic>("alarms", json!({"deletionPolicy": "Delete"})).await;
    let group = |reset: Option<&str>| {
        let mut spec = json!({"subscriptions": [{"topic": "orders"}], "deletionPolicy": "Delete"});
        if let Some(id) = reset {
            spec["offsetReset"] = json!({"id": id, "to": {"position": "Earliest"}});
        }
        spec
    };
    world.apply::<ConsumerGroup>("billing", group(None)).await;
    for topic in ["orders", "alarms"] {
        world.wait_condition::<Topic>(topic, "Ready", "True", "Synced").await;
    }
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;

    world.apply::<Topic>("orders", json!({"queues": 6, "deletionPolicy": "Retain"})).await;
    world.apply::<ConsumerGroup>("billing", group(Some("one"))).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world
        .wait_condition::<ConsumerGroup>("billing", "OffsetResetComplete", "True", "Completed")
        .await;

    let listeners = json!([{"name": "client"}, {"name": "out", "type": "NodePort"}]);
    let changed = json!({"brokers": 2, "shards": 2, "version": "9.9.9", "listeners": listeners});
    world.apply::<BrokerCluster>("default", changed.clone()).await;
    serving().await;
    world.delete::<Topic>("alarms").await;
    world.delete::<ConsumerGroup>("billing").await;
    world.wait_gone::<Topic>("alarms").await;
    world.wait_gone::<ConsumerGroup>("billing").await;

    world.delete::<BrokerCluster>("default").await;
    world.wait_gone::<BrokerCluster>("default").await;
    for broker in 0..2 {
        world.wait_gone::<StatefulSet>(&format!("default-broker-{broker}")).await;
    }
    world.apply::<BrokerCluster>("default", changed).await;
    serving().await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
}

/// Removes what differs from one life to the next without meaning anything.
fn scrub(value: &mut Value, tokens: &[(String, &str)]) {
    const VOLATILE: [&str; 14] = [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
        "generation",
        "clusterIP",
        "clusterIPs",
        "nodePort",
        "version",
        "status",
        "pinnace.dev/template-hash",
        "pinnace.dev/template",
        "pinnace.dev/spec-hash",
        "volumeName",
    ];
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !VOLATILE.contains(&name.as_str()));
            map.values_mut().for_each(|value| scrub(value, tokens));
        }
        Value::Array(all) => all.iter_mut().for_each(|value| scrub(value, tokens)),
        Value::String(text) => {
            for (token, word) in tokens {
                *text = text.replace(token, word);
            }
            if let Ok(mut inner @ Value::Object(_)) = serde_json::from_str(text) {
                scrub(&mut inner, tokens);
                *value = inner;
            } else if text.starts_with("-----BEGIN") {
                "a certificate".clone_into(text);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

async fn all<K: Kind>(world: &World, into: &mut BTreeMap<String, Value>) {
    let ours = ListParams::default().labels("app.kubernetes.io/name=pinnace");
    for object in world.api::<K>().list(&ours).await.unwrap() {
        let name = format!("{} {}", K::kind(&()), object.name_any());
        into.insert(name, serde_json::to_value(&object).unwrap());
    }
}

/// Everything that is there in the end.
async fn facts(world: &World, brokers: &[FakeBroker]) -> BTreeMap<String, Value> {
    let mut facts = BTreeMap::new();
    all::<StatefulSet>(world, &mut facts).await;
    all::<Service>(world, &mut facts).await;
    all::<ConfigMap>(world, &mut facts).await;
    all::<NetworkPolicy>(world, &mut facts).await;
    all::<PodDisruptionBudget>(world, &mut facts).await;
    all::<PersistentVolumeClaim>(world, &mut facts).await;
    for secret in world.api::<Secret>().list(&ListParams::default()).await.unwrap() {
        let keys: Vec<String> = secret.data.clone().unwrap_or_default().into_keys().collect();
        facts.insert(format!("Secret {}", secret.name_any()), json!(keys));
    }
    let mut revisions = BTreeMap::<String, u64>::new();
    for revision in world.api::<ControllerRevision>().list(&ListParams::default()).await.unwrap() {
        let owner = revision.owner_references().first().map(|owner| owner.name.clone());
        *revisions.entry(owner.unwrap_or_default()).or_default() += 1;
    }
    facts.insert("times that brokers were changed".to_owned(), json!(revisions));
    for (id, broker) in brokers.iter().enumerate() {
        let memory = broker.memory();
        let topics: BTreeMap<_, _> =
            memory.topics.values().map(|topic| (&topic.name, topic.queues)).collect();
        let resets: BTreeSet<_> = memory.resets.iter().map(|r| (&r.group, &r.id)).collect();
        let shards: Vec<_> = memory.map.shards.iter().map(|s| (s.id, s.leader_broker)).collect();
        let told = json!({
            "topics": topics, "groups": memory.groups.keys().collect::<Vec<_>>(), "deletes": memory.deletes,
            "resets": resets, "shards": shards,
        });
        facts.insert(format!("broker {id}"), told);
    }
    let cluster = world.api::<BrokerCluster>().get("default").await.unwrap();
    let topic = world.api::<Topic>().get("orders").await.unwrap();
    for (name, object) in [
        ("BrokerCluster", serde_json::to_value(&cluster).unwrap()),
        ("Topic", serde_json::to_value(&topic).unwrap()),
    ] {
        let conditions = object["status"]["conditions"].as_array().unwrap().iter();
        let said: Vec<String> =
            conditions.map(|c| format!("{}={}/{}", c["type"], c["status"], c["reason"])).collect();
        facts.insert(name.to_owned(), json!([said, object["metadata"]["finalizers"]]));
    }
    let tokens = [(cluster.uid().unwrap(), "UID"), (world.namespace.clone(), "NAMESPACE")];
    facts.values_mut().for_each(|fact| scrub(fact, &tokens));
    facts
}

/// An operator under faults, and another in its place when it ends, without any.
async fn operate(world: &World, faults: &Faults) {
    let operator = world.operator_under("a", faults);
    faults.end().await;
    operator.kill().await;
    let _operator = world.operator("a");
    pending::<()>().await;
}

struct Life {
    facts: BTreeMap<String, Value>,
    faults: Faults,
}

/// Plays the script under a plan until all is as `expected`.
async fn life(plan: Plan, seed: u64, expected: Option<&BTreeMap<String, Value>>) -> Life {
    let world = World::new().await;
    let brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    let faults = Faults::new(plan, seed);
    let play = async {
        script(&world).await;
        let Some(expected) = expected else { return facts(&world, &brokers).await };
        let seen = Mutex::new(None);
        let as_expected = || async {
            let facts = facts(&world, &brokers).await;
            let is_same = facts == *expected;
            *seen.lock().unwrap() = Some(facts.clone());
            is_same.then_some(facts)
        };
        let named = format!("{plan:?}, {SEED_VARIABLE}={seed}: all is as without faults");
        let waited = eventually(&named, as_expected);
        // The same patience, less a little: the difference is what people need to know.
        match tokio::time::timeout(CONVERGES_WITHIN, waited).await {
            Ok(facts) => facts,
            Err(_) => panic!("{named}: {}", difference(expected, seen.lock().unwrap().as_ref())),
        }
    };
    let facts = tokio::select! {
        facts = play => facts,
        () = operate(&world, &faults) => unreachable!("operators go on"),
    };
    Life { facts, faults }
}

fn difference(
    expected: &BTreeMap<String, Value>,
    found: Option<&BTreeMap<String, Value>>,
) -> String {
    let found = found.cloned().unwrap_or_default();
    let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let differ = names.into_iter().filter(|name| expected.get(*name) != found.get(*name));
    let lines = differ.map(|name| {
        format!("{name}:\n  expected {:?}\n  found    {:?}\n", expected.get(name), found.get(name))
    });
    lines.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_ends_between_any_two_writes_is_followed_by_one_that_finishes() {
    let seed = seed();
    let undisturbed = life(Plan::Nothing, seed, None).await;
    let count = undisturbed.faults.writes().len();
    let mut points: Vec<Plan> = (1..=count)
        .flat_map(|write| [false, true].map(|is_done| Plan::End { write, is_done }))
        .collect();
    println!("{count} writes, {} points", points.len());
    if !plays_all() {
        let mut random = Random::new(seed);
        let picked = (0..POINTS).map(|_| *random.pick(&points));
        points = picked.collect();
    }
    let expected = &undisturbed.facts;
    let lives = points
        .into_iter()
        .map(|plan| async move { (plan, life(plan, seed, Some(expected)).await) });
    let lives: Vec<_> = stream::iter(lives).buffer_unordered(AT_ONCE).collect().await;
    let ended = lives.iter().filter(|(_, life)| life.faults.has_ended()).count();
    println!("{ended} of {} operators ended before their time", lives.len());
    assert!(ended * 10 >= lives.len() * 8, "fewer writes than without faults");
}

/// Plays lives under a plan that goes by chance.
async fn play_by_chance(plan: Plan) {
    let seed = seed();
    let expected = life(Plan::Nothing, seed, None).await.facts;
    let count = if plays_all() { LIVES.1 } else { LIVES.0 };
    let expected = &expected;
    let lives = (seed..seed + count).map(|seed| life(plan, seed, Some(expected)));
    let lives: Vec<Life> = stream::iter(lives).buffer_unordered(AT_ONCE).collect().await;
    for life in &lives {
        println!("{} writes, {} faults", life.faults.writes().len(), life.faults.failed());
        assert!(life.faults.failed() > 0, "nothing went wrong");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_are_refused_or_lose_their_answers_change_nothing_in_the_end() {
    play_by_chance(Plan::FailWrites { one_in: FAILING }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_caches_and_watches_that_break_off_change_nothing_in_the_end() {
    play_by_chance(Plan::BreakWatches).await;
}
