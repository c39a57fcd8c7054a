//! Random specs, and changes of them: each is refused with a sentence, or the object gets Ready, or is Stalled with a reason;
//! what was applied is what is there, and pods restart only for what concerns them. `RANDOM_SPECS=2000` asks for the long
//! form, `RANDOM_SEED=n` for other specs.

use futures::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use operator_api::condition::Truth;
use operator_api::definitions;
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde_json::{Value, json};

use crate::random::Random;
use crate::world::{Kind, World, condition};

#[path = "random_specs/schema.rs"]
mod schema;

use schema::{mutation, value};

const SPECS_VARIABLE: &str = "RANDOM_SPECS";
const SEED_VARIABLE: &str = "RANDOM_SEED";
const SPECS_DEFAULT: u64 = 120;
const SEED_DEFAULT: u64 = 1;
/// Workers with objects of their own: this many for Topics, as many for ConsumerGroups, and two with a cluster each.
const WORKERS: u64 = 4;
const OBJECTS_PER_WORKER: u64 = 4;
/// What pods are made of.
const FIELDS_OF_PODS: [&str; 8] =
    ["image", "version", "resources", "pod", "shards", "brokers", "listeners", "update"];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The schema of a kind's spec, as the API server has it.
fn spec_schema<K: Kind>() -> Value {
    let all = definitions::all();
    let of_kind = all.into_iter().find(|(_, one)| one.spec.names.kind == K::kind(&()));
    let definition = serde_json::to_value(of_kind.unwrap().1).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Whether all of `part` stands in `whole`.
fn is_part_of(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part.iter().all(|(name, value)| {
            let is_empty = [json!({}), json!([])].contains(value);
            whole.get(name).map_or(is_empty, |other| is_part_of(value, other))
        }),
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(a, b)| is_part_of(a, b))
        }
        _ => part == whole,
    }
}

struct Worker<'a> {
    world: &'a World,
    random: Random,
    schema: Value,
    steps: u64,
    what: String,
}

#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    refused: u64,
    ready: u64,
    stalled: u64,
}

impl Worker<'_> {
    /// Applies random specs under a few names, and looks at what comes of each.
    async fn run<K: Kind>(mut self, names: &[String]) -> Tally {
        let mut tally = Tally::default();
        // The spec that each has, and whether it got Ready with it.
        let mut held: Vec<Option<(Value, bool)>> = vec![None; names.len()];
        for step in 0..self.steps {
            let at =
                usize::try_from(self.random.below(u64::try_from(names.len()).unwrap())).unwrap();
            let is_new = held[at].is_none() || self.random.happens(200);
            let (spec, field) = match &held[at] {
                Some((spec, _)) if !is_new => mutation(&self.schema, spec, &mut self.random),
                _ => (value(&self.schema, "", &mut self.random), "*".to_owned()),
            };
            let about =
                format!("{}, step {step}, {} {}: {spec}", self.what, K::kind(&()), names[at]);
            let pods = self.pods(&names[at]).await;
            let was_ready = held[at].as_ref().is_some_and(|(_, was_ready)| *was_ready);
            match self.world.try_apply::<K>(&names[at], spec.clone()).await {
                Err(kube::Error::Api(refusal)) => {
                    tally.refused += 1;
                    let says_where = refusal.message.contains("spec");
                    // The API server's own way to refuse two entries of one key in what is applied.
                    let is_twice = refusal.message.contains("duplicate entries for key");
                    assert!(matches!(refusal.code, 400 | 422) || is_twice, "{about}: {refusal}");
                    assert!(says_where, "{about}: {refusal}");
                    continue;
                }
                Err(error) => panic!("{about}: {error}"),
                Ok(object) => {
                    tally.accepted += 1;
                    let there = serde_json::to_value(&object).unwrap();
                    assert!(
                        is_part_of(&spec, &there["spec"]),
                        "{about}: there is {}",
                        there["spec"]
                    );
                    let again = self.world.apply::<K>(&names[at], spec.clone()).await;
                    assert_eq!(again.meta().generation, object.meta().generation, "{about}");
                }
            }
            let ended = self.end_of::<K>(&names[at], &about).await;
            if ended == Truth::True {
                tally.ready += 1
            } else {
                tally.stalled += 1
            }
            // What a cluster that was Stalled had not done yet is done when the reason goes.
            let concerns_pods = is_new || !was_ready || FIELDS_OF_PODS.contains(&field.as_str());
            if !concerns_pods && !pods.is_empty() {
                assert_eq!(self.pods(&names[at]).await, pods, "{about}: pods restarted");
            }
            held[at] = Some((spec, ended == Truth::True));
        }
        tally
    }

    /// Whether the object is Ready in the end, or Stalled and says why.
    async fn end_of<K: Kind>(&self, name: &str, about: &str) -> Truth {
        let ended = |object: &K| {
            let is_seen = |of: &operator_api::condition::Condition| {
                Some(of.observed_generation) == object.meta().generation
            };
            let is_true = |type_| {
                condition(object, type_).is_some_and(|of| is_seen(&of) && of.status == Truth::True)
            };
            is_true("Ready") || is_true("Stalled")
        };
        let object = self.world.wait::<K>(name, &format!("an end; {about}"), ended).await;
        let ready = condition(&object, "Ready").unwrap();
        assert!(!ready.reason.is_empty() && !ready.message.is_empty(), "{about}: {ready:?}");
        ready.status
    }

    /// The brokers' pods of a cluster of this name, by uid, and what they were made from.
    async fn pods(&self, cluster: &str) -> Vec<String> {
        let of_cluster = ListParams::default().labels(&format!("pinnace.dev/cluster={cluster}"));
        let pods = self.world.api::<Pod>().list(&of_cluster).await.unwrap();
        let mut pods: Vec<_> = pods.iter().map(|pod| pod.uid().unwrap()).collect();
        pods.sort();
        pods
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_spec_is_refused_with_a_sentence_or_gets_ready_or_says_why_not() {
    let seed = number(SEED_VARIABLE).unwrap_or(SEED_DEFAULT);
    let specs = number(SPECS_VARIABLE).unwrap_or(SPECS_DEFAULT);
    println!("{SEED_VARIABLE}={seed} {SPECS_VARIABLE}={specs}");
    let world = World::new().await;
    let mut brokers = vec![world.broker("default", 0).await];
    for cluster in ["first", "second"] {
        for id in 0..3 {
            brokers.push(world.broker(cluster, id).await);
        }
    }
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    for topic in ["orders", "payments"] {
        world.apply::<Topic>(topic, json!({})).await;
        world.wait_condition::<Topic>(topic, "Ready", "True", "Synced").await;
    }
    world.apply::<Topic>("rooms", json!({"messageType": "LITE"})).await;
    world.wait_condition::<Topic>("rooms", "Ready", "True", "Synced").await;
    let set = world.api::<StatefulSet>().get("default-broker-0").await.unwrap();

    let worker = |number: u64, schema: Value, steps: u64| Worker {
        world: &world,
        random: Random::new(seed.wrapping_mul(1000).wrapping_add(number)),
        schema,
        steps,
        what: format!("{SEED_VARIABLE}={seed}, worker {number}"),
    };
    let names = |number: u64| -> Vec<String> {
        (0..OBJECTS_PER_WORKER).map(|n| format!("object-{number}-{n}")).collect()
    };
    let steps = specs / (2 * WORKERS + 2);
    let topics = (0..WORKERS).map(|n| async move {
        worker(n, spec_schema::<Topic>(), steps).run::<Topic>(&names(n)).await
    });
    let groups = (WORKERS..2 * WORKERS).map(|n| async move {
        worker(n, spec_schema::<ConsumerGroup>(), steps).run::<ConsumerGroup>(&names(n)).await
    });
    let clusters = ["first", "second"].into_iter().zip(2 * WORKERS..).map(|(name, n)| async move {
        let worker = worker(n, spec_schema::<BrokerCluster>(), steps);
        worker.run::<BrokerCluster>(&[name.to_owned()]).await
    });
    let (topics, groups, clusters) =
        futures::join!(join_all(topics), join_all(groups), join_all(clusters));
    for (kind, tallies) in
        [("Topic", topics), ("ConsumerGroup", groups), ("BrokerCluster", clusters)]
    {
        let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
        let (accepted, refused) = (sum(|t| t.accepted), sum(|t| t.refused));
        let (ready, stalled) = (sum(|t| t.ready), sum(|t| t.stalled));
        println!(
            "{kind}: {accepted} accepted, {refused} refused; {ready} Ready, {stalled} Stalled"
        );
        assert!(accepted > 0 && ready > 0, "{kind}: nothing was accepted");
    }
    let now = world.api::<StatefulSet>().get("default-broker-0").await.unwrap();
    assert_eq!(now.metadata.generation, set.metadata.generation, "topics and groups moved brokers");
    operator.stop().await;
}
