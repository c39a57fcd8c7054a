//! Which StatefulSets may be applied now, and which restarts wait: for approval, for the end of a pause, or for their turn. A
//! StatefulSet that waits is kept as it was applied last, so that a pod that is lost meanwhile comes back as it was. Pure.

mod changes;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt as _;
use operator_api::update::{BrokerUpdate, UpdateCause, UpdateGate, UpdateStatus, UpdateStrategy};

use super::build;
use super::fetch::Observed;
use super::plan::{BrokerPlan, broker_of};
use super::validate::ValidCluster;
use super::volumes::parse;
use crate::names::{
    APPROVE_PLAN_ANNOTATION, KEPT_TEMPLATE_ANNOTATION, SAID_ANNOTATION, SHARDS_ANNOTATION,
    TEMPLATE_ANNOTATION,
};
use changes::changes;

/// What may be done now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rollout {
    /// StatefulSets to apply, with the number of the broker.
    pub apply: Vec<(u32, StatefulSet)>,
    /// Brokers that restart because of what is applied.
    pub restarting: Vec<u32>,
    /// Brokers that wait for their turn, so that not more than one broker is away at a time.
    pub held_back: Vec<u32>,
    /// Shards that are to be served by brokers that are not told of them, because they wait for somebody.
    pub unserved: BTreeSet<u32>,
    /// What is said of it.
    pub update: Update,
}

/// The restarts that are to come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// The plan; no brokers in it when every one runs what it is to run.
    pub plan: UpdateStatus,
    /// What the annotation approves, when that is not this plan.
    pub approves_another: Option<String>,
    /// Brokers whose pods are not what their StatefulSets say, though nothing is to be changed in those.
    pub unfinished: Vec<u32>,
}

/// One broker, as it runs and as it is to run.
struct Turn<'a> {
    broker: u32,
    live: Option<&'a StatefulSet>,
    /// As it is to be in the end.
    full: StatefulSet,
    /// As the spec alone asks for: with the image that it runs, where the spec leaves that to the operator.
    own: StatefulSet,
}

/// Whether the pod of a StatefulSet runs what the StatefulSet says, and is ready.
#[must_use]
pub fn is_ready(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    status.ready_replicas.unwrap_or_default() >= 1
        && status.updated_replicas.unwrap_or_default() >= 1
        && runs_what_it_says(set)
}

/// Whether no pod of another template is left.
fn runs_what_it_says(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    status.observed_generation >= set.metadata.generation
        && status.update_revision == status.current_revision
}

/// Whether a broker says that it serves all of its shards.
fn serves(observed: &Observed, broker: u32, set: &StatefulSet) -> bool {
    let told = observed.reported.get(&broker);
    let shards = shards_of(set);
    told.is_some_and(|found| !found.failed && found.shards.is_superset(&shards))
}

fn annotation<'a>(set: &'a StatefulSet, name: &str) -> Option<&'a str> {
    set.annotations().get(name).map(String::as_str)
}

fn shards_of(set: &StatefulSet) -> BTreeSet<u32> {
    parse(annotation(set, SHARDS_ANNOTATION).unwrap_or_default())
}

/// Whether two StatefulSets make the same pods.
fn same_pods(one: &StatefulSet, other: &StatefulSet) -> bool {
    annotation(one, TEMPLATE_ANNOTATION) == annotation(other, TEMPLATE_ANNOTATION)
}

/// The template as it was applied last; none when an operator that kept none applied it.
fn kept(set: &StatefulSet) -> Option<PodTemplateSpec> {
    let text = annotation(set, KEPT_TEMPLATE_ANNOTATION)?;
    let is_whole = Some(build::hash(text).as_str()) == annotation(set, TEMPLATE_ANNOTATION);
    let template: PodTemplateSpec = serde_json::from_str(text).ok().filter(|_| is_whole)?;
    // Of what a later operator wrote, not every field may be known here.
    (serde_json::to_string(&template).ok()? == text).then_some(template)
}

/// The image that a StatefulSet was given.
fn image(set: &StatefulSet) -> Option<String> {
    let spec = kept(set).unwrap_or_else(|| set.spec.template.clone()).spec?;
    spec.containers.into_iter().next()?.image
}

/// The tag or digest of an image with its separator; empty when it has none.
fn release_of(image: &str) -> &str {
    let name_from = image.rfind('/').map_or(0, |at| at + 1);
    let found = image.find('@').or_else(|| Some(name_from + image[name_from..].find(':')?));
    found.map_or("", |at| &image[at..])
}

/// The image that the spec asks for, of a cluster that runs another: what it leaves to the operator stays.
fn own_image(valid: &ValidCluster, running: Option<&str>) -> String {
    let asked = valid.spec.image.clone().unwrap_or_default();
    let says_release =
        valid.spec.version.is_some() || asked.tag.is_some() || asked.digest.is_some();
    match (running, asked.repository) {
        (Some(running), None) if !says_release => running.to_owned(),
        (Some(running), Some(repository)) if !says_release => {
            format!("{repository}{}", release_of(running))
        }
        _ => valid.image.clone(),
    }
}

/// What tells one plan from another: all pods as they are to be.
fn plan_of(wanted: &[(u32, StatefulSet)]) -> String {
    let line = |(broker, set): &(u32, StatefulSet)| {
        format!("{broker}:{}\n", annotation(set, TEMPLATE_ANNOTATION).unwrap_or_default())
    };
    build::hash(&wanted.iter().map(line).collect::<String>())
}

fn turns<'a>(
    observed: &'a Observed,
    valid: &ValidCluster,
    brokers: &[BrokerPlan],
    wanted: Vec<(u32, StatefulSet)>,
) -> Vec<Turn<'a>> {
    let existing: BTreeMap<u32, &StatefulSet> =
        observed.stateful_sets.iter().filter_map(|set| Some((broker_of(set)?, set))).collect();
    let others = existing.values().find_map(|set| image(set));
    let turn = |(broker, full): (u32, StatefulSet)| {
        let live = existing.get(&broker).copied();
        let running = live.and_then(image).or_else(|| others.clone());
        let planned = brokers.iter().find(|planned| planned.id == broker);
        let own_image = own_image(valid, running.as_deref());
        let own = match planned {
            Some(planned) if own_image != valid.image => {
                build::stateful_set(valid, planned, &own_image)
            }
            _ => full.clone(),
        };
        Turn { broker, live, full, own }
    };
    wanted.into_iter().map(turn).collect()
}

impl Turn<'_> {
    /// Whether the spec says otherwise of the pods than when the StatefulSet was applied.
    fn is_said_anew(&self) -> bool {
        let before = self.live.and_then(|live| annotation(live, SAID_ANNOTATION));
        before.is_some_and(|before| Some(before) != annotation(&self.full, SAID_ANNOTATION))
    }

    /// Who asks for a restart.
    fn causes(&self) -> Vec<UpdateCause> {
        let Some(live) = self.live else { return Vec::new() };
        let (by_spec, by_operator) = if self.is_said_anew() {
            (!same_pods(live, &self.own), !same_pods(&self.own, &self.full))
        } else {
            (false, !same_pods(live, &self.full))
        };
        let causes = [(UpdateCause::Spec, by_spec), (UpdateCause::Operator, by_operator)];
        causes.into_iter().filter(|(_, asks)| *asks).map(|(cause, _)| cause).collect()
    }

    /// The StatefulSet as it was applied last, with the rest as it is to be; none when nobody kept how it was.
    fn as_it_was(&self) -> Option<StatefulSet> {
        let live = self.live?;
        let mut set = self.full.clone();
        set.spec.template = kept(live)?;
        let annotations = set.metadata.annotations.get_or_insert_default();
        for name in
            [SHARDS_ANNOTATION, TEMPLATE_ANNOTATION, KEPT_TEMPLATE_ANNOTATION, SAID_ANNOTATION]
        {
            match annotation(live, name) {
                Some(value) => annotations.insert(name.to_owned(), value.to_owned()),
                None => annotations.remove(name),
            };
        }
        Some(set)
    }

    fn changes_to(&self, set: &StatefulSet) -> Vec<String> {
        let Some(live) = self.live else { return Vec::new() };
        match kept(live) {
            Some(before) => changes(&before, &set.spec.template, true),
            // The API server filled in what nobody said.
            None => changes(&live.spec.template, &set.spec.template, false),
        }
    }
}

/// What becomes of one broker now.
enum Step {
    /// Its StatefulSet is applied; no pod restarts for that.
    Apply(StatefulSet),
    /// It restarts when its turn comes.
    Restart(StatefulSet),
    /// It stays as it is.
    Wait(UpdateGate),
}

/// Whether the restarts of a plan may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    Given,
    ForOwnChanges,
    NeedsApproval,
    Paused,
}

fn step(turn: &Turn<'_>, leave: Leave) -> Step {
    let Some(live) = turn.live else {
        // One that is new restarts nothing; beside others it is like them.
        let set = if leave == Leave::Given { &turn.full } else { &turn.own };
        return Step::Apply(set.clone());
    };
    if same_pods(live, &turn.full) {
        return Step::Apply(turn.full.clone());
    }
    match leave {
        Leave::Given => Step::Restart(turn.full.clone()),
        Leave::ForOwnChanges if turn.is_said_anew() && same_pods(live, &turn.own) => {
            Step::Apply(turn.own.clone())
        }
        Leave::ForOwnChanges if turn.is_said_anew() => Step::Restart(turn.own.clone()),
        Leave::ForOwnChanges | Leave::NeedsApproval => Step::Wait(UpdateGate::Approval),
        Leave::Paused => Step::Wait(UpdateGate::Unpause),
    }
}

/// Decides. New brokers and those whose pods stay as they are are applied; of those that may restart, the ones whose pods are
/// not ready, and one of the others when every broker says that it serves its shards. So a change that breaks brokers stops at
/// the first, and no broker is taken away while another one is not heard.
#[must_use]
pub fn rollout(
    observed: &Observed,
    valid: &ValidCluster,
    brokers: &[BrokerPlan],
    wanted: Vec<(u32, StatefulSet)>,
) -> Rollout {
    let plan = plan_of(&wanted);
    let turns = turns(observed, valid, brokers, wanted);
    let approved = observed.cluster.annotations().get(APPROVE_PLAN_ANNOTATION);
    let is_approved = approved.is_some_and(|approved| approved.trim() == plan);
    let leave = match valid.spec.update.as_ref().and_then(|update| update.strategy) {
        Some(UpdateStrategy::Paused) => Leave::Paused,
        Some(UpdateStrategy::Automatic) => Leave::Given,
        _ if is_approved => Leave::Given,
        Some(UpdateStrategy::OnApproval) => Leave::NeedsApproval,
        None => Leave::ForOwnChanges,
    };
    let is_up = |turn: &Turn<'_>| {
        turn.live.is_some_and(|live| is_ready(live) && serves(observed, turn.broker, live))
    };
    let all_up = turns.iter().all(is_up);
    let mut rollout = Rollout::default();
    rollout.update.plan.plan = plan;
    rollout.update.approves_another = approved.filter(|_| !is_approved).cloned();
    for turn in &turns {
        let broker = turn.broker;
        match step(turn, leave) {
            Step::Apply(set) => {
                rollout.apply.push((broker, set));
                if !turn.live.is_some_and(runs_what_it_says) {
                    rollout.update.unfinished.push(broker);
                }
                if turn.live.is_some_and(|live| !same_pods(live, &turn.full)) {
                    rollout.note(turn, &turn.full, UpdateGate::Approval);
                }
            }
            Step::Restart(set) => {
                rollout.note(turn, &set, UpdateGate::Turn);
                let is_its_turn = all_up && rollout.restarting.is_empty();
                if is_its_turn || !turn.live.is_some_and(is_ready) {
                    rollout.restarting.push(broker);
                    rollout.apply.push((broker, set));
                } else {
                    rollout.held_back.push(broker);
                }
            }
            Step::Wait(gate) => {
                rollout.note(turn, &turn.full, gate);
                rollout.apply.extend(turn.as_it_was().map(|set| (broker, set)));
                rollout.unserved.extend(unserved(observed, turn));
            }
        }
    }
    rollout
}

/// Shards that a broker is to serve and is not told of.
fn unserved(observed: &Observed, turn: &Turn<'_>) -> BTreeSet<u32> {
    let told = turn.live.map(shards_of).unwrap_or_default();
    let reported = observed.reported.get(&turn.broker);
    let found = reported.map(|found| found.shards.clone()).unwrap_or_default();
    let is_served = |shard: &u32| told.contains(shard) || found.contains(shard);
    shards_of(&turn.full).into_iter().filter(|shard| !is_served(shard)).collect()
}

impl Rollout {
    fn note(&mut self, turn: &Turn<'_>, set: &StatefulSet, waits_for: UpdateGate) {
        let mut because = turn.causes();
        // What the operator does otherwise stays away for now.
        because.retain(|cause| *cause == UpdateCause::Spec || same_pods(set, &turn.full));
        let changes = turn.changes_to(set);
        let update = BrokerUpdate { broker: turn.broker, because, waits_for, changes };
        self.update.plan.brokers.push(update);
    }
}

impl Update {
    /// How many of so many brokers run what they are to run.
    #[must_use]
    pub fn updated(&self, brokers: usize) -> usize {
        let waiting = self.plan.brokers.iter().map(|update| update.broker);
        let outstanding: BTreeSet<u32> = waiting.chain(self.unfinished.iter().copied()).collect();
        brokers.saturating_sub(outstanding.len())
    }
}

#[cfg(test)]
mod tests;
