//! Which brokers may restart, and what waits.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSetStatus;
use operator_api::update::UpdatePolicy;
use operator_api::{BrokerCluster, BrokerClusterSpec};

use super::*;
use crate::broker_cluster::plan::{Plan, plan};
use crate::broker_cluster::samples;
use crate::broker_cluster::updates;
use crate::broker_cluster::validate::validate;
use crate::broker_cluster::volumes::Found;
use crate::context::Settings;

/// A cluster of three brokers on which operators and people work.
struct World {
    observed: Observed,
    operator_version: &'static str,
}

impl World {
    /// Three brokers that run and serve what operator 0.1.0 made of an empty spec.
    fn new() -> Self {
        let spec = BrokerClusterSpec { brokers: Some(3), ..BrokerClusterSpec::default() };
        let observed = samples::observed(BrokerCluster::new("default", spec));
        let mut world = Self { observed, operator_version: "0.1.0" };
        let made = world.rollout();
        assert_eq!((made.apply.len(), made.update.updated(3)), (3, 0));
        world.take(made);
        assert_eq!(world.images(), ["0.1.0"; 3]);
        world
    }

    fn planned(&self) -> (Plan, Rollout) {
        let broker_version = self.operator_version.to_owned();
        let settings = Settings { broker_version, ..samples::settings() };
        let valid = validate(&self.observed, &settings).unwrap();
        let plan = plan(&self.observed, &valid).unwrap();
        let wanted = build::stateful_sets(&valid, &plan.brokers);
        let rollout = rollout(&self.observed, &valid, &plan.brokers, wanted);
        (plan.with_rollout(&self.observed, &rollout), rollout)
    }

    fn rollout(&self) -> Rollout {
        self.planned().1
    }

    /// Applies what may be applied; pods are ready at once, and their brokers serve what they are told.
    fn take(&mut self, rollout: Rollout) {
        for (broker, mut set) in rollout.apply {
            let one = Some(1);
            set.status = Some(StatefulSetStatus {
                ready_replicas: one,
                updated_replicas: one,
                ..StatefulSetStatus::default()
            });
            let found = Found { shards: shards_of(&set), ..Found::default() };
            self.observed.reported.insert(broker, found);
            self.observed.stateful_sets.retain(|live| broker_of(live) != Some(broker));
            self.observed.stateful_sets.push(set);
        }
        self.observed.stateful_sets.sort_by_key(broker_of);
    }

    fn change(&mut self, change: impl FnOnce(&mut BrokerCluster)) {
        change(Arc::make_mut(&mut self.observed.cluster));
    }

    fn strategy(&mut self, strategy: UpdateStrategy) {
        self.change(|c| c.spec.update = Some(UpdatePolicy { strategy: Some(strategy) }));
    }

    fn approve(&mut self, plan: &str) {
        self.change(|c| {
            let annotations = c.metadata.annotations.get_or_insert_default();
            annotations.insert(APPROVE_PLAN_ANNOTATION.to_owned(), plan.to_owned());
        });
    }

    /// What the brokers run, without the name of the image.
    fn images(&self) -> Vec<String> {
        let tag = |set: &StatefulSet| release_of(&image(set).unwrap())[1..].to_owned();
        self.observed.stateful_sets.iter().map(tag).collect()
    }

    /// Goes on until nothing is to be done any more, and counts the steps that restarted a broker.
    fn settle(&mut self) -> usize {
        for steps in 0..10 {
            let before = self.observed.stateful_sets.clone();
            let rollout = self.rollout();
            self.take(rollout);
            let sets = before.iter().zip(&self.observed.stateful_sets);
            match sets.filter(|(before, after)| !same_pods(before, after)).count() {
                0 => return steps,
                1 => {}
                many => panic!("{many} brokers were taken away at once"),
            }
        }
        panic!("it never ends");
    }

    /// Reason and message of the condition.
    fn said(&self) -> (&'static str, String) {
        let finding = updates::finding(&samples::key(), &self.planned().0);
        (finding.reason, finding.message)
    }

    fn waits(&self) -> Vec<(u32, UpdateGate, Vec<UpdateCause>)> {
        let update = self.rollout().update.plan;
        let of = |one: &BrokerUpdate| (one.broker, one.waits_for, one.because.clone());
        update.brokers.iter().map(of).collect()
    }

    fn set(&mut self, broker: usize) -> &mut StatefulSetStatus {
        self.observed.stateful_sets[broker].status.as_mut().unwrap()
    }
}

fn larger(cluster: &mut BrokerCluster) {
    let memory = operator_api::quantity::ResourceText("2Gi".to_owned());
    let limits = BTreeMap::from([("memory".to_owned(), memory)]);
    let resources = operator_api::broker_cluster::Resources { limits, ..Default::default() };
    cluster.spec.resources = Some(resources);
}

fn applied(rollout: &Rollout) -> Vec<u32> {
    rollout.apply.iter().map(|(broker, _)| *broker).collect()
}

#[test]
fn a_new_operator_restarts_nothing_by_itself_and_says_what_it_would_do() {
    let mut world = World::new();
    assert_eq!(world.said().0, "AsPlanned");
    world.operator_version = "0.2.0";
    assert_eq!(world.settle(), 0);
    assert_eq!(world.images(), ["0.1.0"; 3]);
    let rollout = world.rollout();
    assert_eq!(
        (applied(&rollout), rollout.held_back.len()),
        (vec![0, 1, 2], 0),
        "kept as they are"
    );
    assert_eq!(rollout.update.updated(3), 0);
    let first = &rollout.update.plan.brokers[0];
    assert_eq!(first.changes, ["image: pinnace.dev/pinnace:0.1.0 -> pinnace.dev/pinnace:0.2.0"]);
    let waits = |broker| (broker, UpdateGate::Approval, vec![UpdateCause::Operator]);
    assert_eq!(world.waits(), [0, 1, 2].map(waits));
    insta::assert_snapshot!("approval-needed", world.said().1);
}

#[test]
fn an_approved_plan_restarts_one_broker_after_the_other_and_keeps_its_hash() {
    let mut world = World::new();
    world.operator_version = "0.2.0";
    let plan = world.rollout().update.plan.plan;
    world.approve(&plan);
    let first = world.rollout();
    assert_eq!((applied(&first), first.held_back.clone()), (vec![0], vec![1, 2]));
    assert_eq!(first.restarting, [0]);
    world.take(first);
    let second = world.rollout();
    assert_eq!((applied(&second), second.held_back.clone()), (vec![0, 1], vec![2]));
    assert_eq!((second.update.plan.plan.as_str(), second.update.updated(3)), (plan.as_str(), 1));
    assert_eq!(world.settle(), 2);
    assert_eq!(world.images(), ["0.2.0"; 3]);
    assert_eq!((world.said().0, world.rollout().update.updated(3)), ("AsPlanned", 3));
}

#[test]
fn the_approval_of_another_plan_approves_nothing() {
    let mut world = World::new();
    world.operator_version = "0.2.0";
    let old = world.rollout().update.plan.plan;
    world.approve(&old);
    world.operator_version = "0.3.0";
    assert_eq!(world.settle(), 0);
    let (reason, message) = world.said();
    assert_eq!(reason, "ApprovalNeeded");
    assert!(message.contains(&format!("names {old}, which is not this plan")), "{message}");
    world.approve("yes");
    assert_eq!(world.settle(), 0);
}

#[test]
fn an_approval_that_is_withdrawn_stops_the_roll_where_it_is() {
    let mut world = World::new();
    world.operator_version = "0.2.0";
    let plan = world.rollout().update.plan.plan;
    world.approve(&plan);
    world.take(world.rollout());
    world.change(|c| c.metadata.annotations = None);
    assert_eq!(world.settle(), 0);
    assert_eq!(world.images(), ["0.2.0", "0.1.0", "0.1.0"]);
    assert_eq!(world.rollout().update.updated(3), 1);
    world.approve(&plan);
    assert_eq!(world.settle(), 2);
}

#[test]
fn a_change_of_the_spec_rolls_without_the_version_that_waits() {
    let mut world = World::new();
    world.operator_version = "0.2.0";
    assert_eq!(world.settle(), 0);
    world.change(larger);
    let waits = |broker| (broker, UpdateGate::Turn, vec![UpdateCause::Spec]);
    assert_eq!(world.waits(), [0, 1, 2].map(waits));
    assert_eq!(world.settle(), 3);
    assert_eq!(world.images(), ["0.1.0"; 3]);
    let limits = |set: &StatefulSet| {
        let spec = set.spec.template.spec.clone().unwrap();
        spec.containers[0].resources.clone().unwrap().limits.unwrap()["memory"].0.clone()
    };
    assert!(world.observed.stateful_sets.iter().all(|set| limits(set) == "2Gi"));
    assert_eq!(world.said().0, "ApprovalNeeded");
    // Who says the version has asked for it.
    world.change(|c| c.spec.version = Some("0.2.0".to_owned()));
    assert_eq!(world.settle(), 3);
    assert_eq!(world.images(), ["0.2.0"; 3]);
    // Who stops to say it has not asked for another.
    world.operator_version = "0.3.0";
    world.change(|c| c.spec.version = None);
    assert_eq!(world.settle(), 0);
    assert_eq!(world.images(), ["0.2.0"; 3]);
    assert_eq!(world.said().0, "ApprovalNeeded");
}

#[test]
fn with_automatic_everything_rolls_and_with_on_approval_nothing_without_it() {
    let mut world = World::new();
    world.strategy(UpdateStrategy::Automatic);
    world.operator_version = "0.2.0";
    assert_eq!(world.settle(), 3);
    assert_eq!(world.images(), ["0.2.0"; 3]);
    world.strategy(UpdateStrategy::OnApproval);
    world.change(larger);
    world.operator_version = "0.3.0";
    assert_eq!(world.settle(), 0);
    let both = vec![UpdateCause::Spec, UpdateCause::Operator];
    let waits = |broker| (broker, UpdateGate::Approval, both.clone());
    assert_eq!(world.waits(), [0, 1, 2].map(waits));
    world.approve(&world.rollout().update.plan.plan);
    assert_eq!(world.settle(), 3);
    assert_eq!(world.images(), ["0.3.0"; 3]);
}

#[test]
fn paused_restarts_nothing_not_even_what_is_approved_or_broken() {
    let mut world = World::new();
    world.strategy(UpdateStrategy::Paused);
    world.change(larger);
    world.approve(&world.rollout().update.plan.plan);
    world.set(1).ready_replicas = None;
    let rollout = world.rollout();
    assert!(rollout.apply.iter().zip(&world.observed.stateful_sets).all(|((_, set), live)| {
        same_pods(set, live) && set.spec.template == live.spec.template
    }));
    let waits = |broker| (broker, UpdateGate::Unpause, vec![UpdateCause::Spec]);
    assert_eq!(world.waits(), [0, 1, 2].map(waits));
    insta::assert_snapshot!("paused", world.said().1);
}

#[test]
fn what_waits_is_repaired_as_it_was() {
    let mut world = World::new();
    world.operator_version = "0.2.0";
    let before = world.observed.stateful_sets[0].spec.template.clone();
    let drifted = &mut world.observed.stateful_sets[0];
    drifted.spec.replicas = Some(0);
    drifted.spec.template.spec.as_mut().unwrap().containers[0].image = Some("foreign:1".to_owned());
    let rollout = world.rollout();
    let (_, repaired) = &rollout.apply[0];
    assert_eq!((repaired.spec.replicas, &repaired.spec.template), (Some(1), &before));
    // Of one that was made by an operator that kept nothing, nothing is known, and nothing is touched.
    let annotations = world.observed.stateful_sets[0].metadata.annotations.as_mut().unwrap();
    annotations.remove(KEPT_TEMPLATE_ANNOTATION);
    assert_eq!(applied(&world.rollout()), [1, 2]);
}

#[test]
fn a_new_broker_and_one_that_is_made_again_run_what_the_others_run() {
    let mut world = World::new();
    world.operator_version = "0.2.0";
    world.observed.stateful_sets.remove(0);
    world.change(|c| c.spec.brokers = Some(4));
    world.take(world.rollout());
    assert_eq!(world.images(), ["0.1.0"; 4]);
    assert_eq!(world.said().0, "ApprovalNeeded");
}

#[test]
fn clients_are_not_led_to_a_shard_whose_broker_waits() {
    let mut world = World::new();
    world.strategy(UpdateStrategy::OnApproval);
    world.change(|c| c.spec.shards = Some(4));
    let (plan, rollout) = world.planned();
    assert_eq!(rollout.unserved, BTreeSet::from([3]));
    assert_eq!(plan.map.shards.len(), 3);
    let told = &rollout.update.plan.brokers[0].changes;
    assert_eq!(told, &["args[--shard-ids]: 0 -> 0,3"]);
    assert_eq!(rollout.update.updated(3), 2);
    world.approve(&rollout.update.plan.plan);
    assert_eq!(world.planned().0.map.shards.len(), 4);
    assert_eq!(world.settle(), 1);
}

#[test]
fn what_the_spec_says_of_an_image_counts_and_the_rest_stays() {
    let mut world = World::new();
    let asked = operator_api::broker_cluster::Image {
        repository: Some("registry:5000/pinnace".to_owned()),
        ..Default::default()
    };
    world.operator_version = "0.2.0";
    world.change(|c| c.spec.image = Some(asked));
    assert_eq!(world.settle(), 3);
    let images: Vec<_> = world.observed.stateful_sets.iter().filter_map(image).collect();
    assert_eq!(images, ["registry:5000/pinnace:0.1.0"; 3]);
    assert_eq!(release_of("a/b@sha256:00"), "@sha256:00");
    assert_eq!(release_of("registry:5000/a"), "");
}

/// What is hashed of a spec may not change with the operator: brokers would restart without having been approved.
#[test]
fn what_people_say_of_pods_has_the_same_hash_in_every_release() {
    let mut world = World::new();
    world.change(larger);
    world.change(|c| c.spec.listeners.push(operator_api::broker_cluster::Listener::default()));
    let full = &world.rollout().apply[0].1;
    assert_eq!(annotation(full, SAID_ANNOTATION), Some("84ea451e8ed34fa1"));
}

/// A new version comes, and everything may roll.
fn rolling() -> World {
    let mut world = World::new();
    world.operator_version = "0.2.0";
    world.strategy(UpdateStrategy::Automatic);
    world
}

#[test]
fn no_broker_is_restarted_while_another_one_does_not_say_that_it_serves() {
    let mut unheard = rolling();
    unheard.observed.reported.remove(&2);
    let mut failed = rolling();
    failed.observed.reported.get_mut(&1).unwrap().failed = true;
    let mut fewer = rolling();
    fewer.observed.reported.get_mut(&0).unwrap().shards.clear();
    for world in [unheard, failed, fewer] {
        let rollout = world.rollout();
        assert!(rollout.apply.is_empty(), "{:?}", world.observed.reported);
        assert_eq!(rollout.held_back, [0, 1, 2]);
    }
}

#[test]
fn a_broker_that_is_not_ready_is_repaired_and_the_others_wait() {
    let mut world = rolling();
    world.set(1).ready_replicas = Some(0);
    world.observed.reported.remove(&1);
    let rollout = world.rollout();
    assert_eq!((applied(&rollout), rollout.held_back), (vec![1], vec![0, 2]));
}

#[test]
fn what_restarts_nothing_is_applied_everywhere() {
    let mut world = World::new();
    world.set(1).ready_replicas = Some(0);
    let rollout = world.rollout();
    assert_eq!((applied(&rollout), rollout.held_back.len()), (vec![0, 1, 2], 0));
    assert_eq!(rollout.update.updated(3), 3);
}
