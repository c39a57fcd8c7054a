//! The end of a history: faults off, a last restart, and everything is drained and acknowledged; then nothing may be owed.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_engine::{
    Acknowledge, Command, EndTransaction, OffsetAt, Outcome, ProgressQuery, Receive, Refusal,
};
use broker_model::Model;

use crate::plan::{LITE_TOPICS, queues_of, topic_name};
use crate::searches::check_searches;
use crate::world::World;

/// Time between two rounds: longer than any invisible duration and delay.
const ROUND_MS: u64 = 1_200_000;
/// What is decided and nobody waits for is written by then.
const UNWRITTEN_MS_MAX: u64 = 50;
const INVISIBLE_MS: u64 = 60_000;
const ROUNDS_MAX: u32 = 40;
/// Steps of the broker in which it does what is due, a few at a time.
const SETTLING_STEPS_MAX: u32 = 10_000;

/// Drains everything and asks for the verdict.
///
/// # Errors
/// The first promise that was broken.
pub fn audit(world: &mut World) -> Result<(), String> {
    world.has_faults = false;
    world.pump()?;
    if world.random.happens(500) {
        world.kill()?;
    }
    world.repair();
    if world.process.is_some() {
        // What fails below is not the weather any more.
        world.finish_write()?;
    }
    if world.process.is_none() {
        world.start()?;
    }
    world.look_at_room()?;
    world.clients.restart();
    check_names(world)?;
    resume(world)?;
    commit_all(world)?;
    if world.plan.retention > 0 {
        // Before the leap in time everything that is old goes, much is young enough to be owed.
        ask_oldest(world)?;
        drain(world)?;
    }
    let mut quiet = 0;
    for _ in 0..ROUNDS_MAX {
        world.true_ms += ROUND_MS.max(world.plan.message_delay_ms_max);
        settle(world)?;
        let count = drain(world)?;
        quiet = if count == 0 { quiet + 1 } else { 0 };
        if quiet == 2 {
            ask_oldest(world)?;
            world.checker.verdict()?;
            check_lag(world)?;
            return check_searches(world);
        }
    }
    Err("messages do not stop coming although all are acknowledged".to_owned())
}

/// What was created and never deleted exists.
fn check_names(world: &World) -> Result<(), String> {
    let (topics, groups) = world.names();
    for topic in &world.plan.topics {
        let is_volatile = world.plan.volatile_topics.iter().any(|v| *v == topic.name.to_string());
        if !is_volatile && !topics.contains(&topic.name) {
            return Err(format!("topic {} is lost", topic.name));
        }
    }
    for group in &world.plan.groups {
        if !group.is_volatile && !groups.contains(&group.settings.name) {
            return Err(format!("group {} is lost", group.settings.name));
        }
    }
    Ok(())
}

/// What retention took until now is known.
fn ask_oldest(world: &mut World) -> Result<(), String> {
    let limited: Vec<_> =
        world.plan.limited_topics().iter().map(|t| (t.name.clone(), queues_of(t))).collect();
    for (topic, queues) in limited {
        for queue in 0..queues {
            let topic = topic.clone();
            let query = Command::QueryOffset { topic, queue, at: OffsetAt::Earliest };
            match world.ask(query)? {
                // A queue of a lite topic that nobody sent to.
                Ok(_) | Err(Refusal::QueueNotFound { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    Ok(())
}

/// Groups that were told to pause go on.
fn resume(world: &mut World) -> Result<(), String> {
    // A group that is being made, paused, is there then.
    settle(world)?;
    let (_, existing) = world.names();
    for group in world.plan.groups.clone() {
        if existing.contains(&group.settings.name) {
            world.ask(Command::PutGroup(Box::new(group.settings)))?.map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// Transactions whose producers forgot them are committed, unless the shard rolled them back, which it may when it has asked
/// often enough.
fn commit_all(world: &mut World) -> Result<(), String> {
    for (_, id) in world.clients.halves() {
        let topic = topic_name("transaction");
        let end = EndTransaction { topic, id, is_commit: true };
        match world.ask(Command::EndTransaction(end))? {
            Ok(_) | Err(Refusal::TransactionEnded { .. } | Refusal::TransactionNotFound) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// What is due becomes visible only once that is written.
fn settle(world: &mut World) -> Result<(), String> {
    for _ in 0..SETTLING_STEPS_MAX {
        world.step_replica()?;
        while world.process.as_ref().is_some_and(|process| process.write.is_some()) {
            world.finish_write()?;
        }
        let now = world.now();
        let next = world.process.as_ref().and_then(|process| process.replica.next_step_ms(now));
        match next.map(|at_ms| at_ms.saturating_sub(world.now_ms())) {
            Some(wait_ms) if wait_ms <= UNWRITTEN_MS_MAX => world.true_ms += wait_ms,
            _ => return Ok(()),
        }
    }
    Err("what is due is not worked off".to_owned())
}

/// Everything was handed out, or passed over for good, and acknowledged: nobody is behind.
fn check_lag(world: &mut World) -> Result<(), String> {
    for group in world.plan.groups.clone() {
        let name = group.settings.name;
        let query = ProgressQuery { group: Some(name.clone()), ..ProgressQuery::default() };
        let progress = match world.ask(Command::ReadProgress(query))? {
            Ok(Outcome::Progress(progress, None)) => progress,
            Err(Refusal::GroupNotFound(_)) => continue,
            other => return Err(format!("a look at progress was answered with {other:?}")),
        };
        let reads = |topic: &str| group.topics.iter().any(|own| own == topic);
        let is_behind = |entry: &&broker_engine::GroupTopicProgress| {
            entry.lag_messages + entry.inflight_messages > 0 && reads(entry.topic.as_str())
        };
        if let Some(entry) = progress.iter().find(is_behind) {
            return Err(format!("{name} has acknowledged everything and is behind: {entry:?}"));
        }
    }
    Ok(())
}

/// One round over all groups and topics; how many messages came.
fn drain(world: &mut World) -> Result<usize, String> {
    let mut count = 0;
    for group in world.plan.groups.clone() {
        let is_broadcasting = group.settings.model == Model::Broadcasting;
        let clients = if is_broadcasting { group.clients.len() } else { 1 };
        for topic in &group.topics {
            for client in &group.clients[..clients] {
                let lite =
                    LITE_TOPICS.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
                let receive = Receive {
                    group: group.settings.name.clone(),
                    topic: topic_name(topic),
                    filter: group.filter.clone(),
                    messages_max: 32,
                    invisible_ms: INVISIBLE_MS,
                    poll_until_ms: 0,
                    client_id: client.as_str().into(),
                    attempt_id: String::new(),
                    lite_topics: (topic == "lite").then(|| Arc::new(lite)),
                };
                count += drain_one(world, &receive)?;
            }
        }
    }
    Ok(count)
}

fn drain_one(world: &mut World, receive: &Receive) -> Result<usize, String> {
    let mut count = 0;
    loop {
        let deliveries = match world.ask(Command::Receive(receive.clone()))? {
            Ok(Outcome::Received(deliveries)) => deliveries,
            Err(Refusal::TopicNotFound(_) | Refusal::GroupNotFound(_)) => return Ok(count),
            other => return Err(format!("a receive was answered with {other:?}")),
        };
        if deliveries.is_empty() {
            return Ok(count);
        }
        count += deliveries.len();
        let request = Acknowledge {
            group: receive.group.clone(),
            topic: receive.topic.clone(),
            handles: deliveries.iter().map(|delivery| delivery.handle).collect(),
        };
        match world.ask(Command::Acknowledge(request))? {
            Ok(Outcome::Acknowledged(results)) if results.iter().all(Result::is_ok) => {}
            other => return Err(format!("an acknowledgement was answered with {other:?}")),
        }
    }
}
