//! Several shards of one process behind the choice that the broker makes for a receive: polls that ask one after the other and
//! then wait on all, are given up on the way, and outlive nothing. Each shard is a world of its own with its own checker; here
//! is judged what no shard sees alone. The clock of each runs for itself.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use broker_engine::{Command, Outcome, Receive, Refusal};
use broker_model::ShardId;
use broker_replication::shard_poll::{Ask, Claim, ShardPoll};

use crate::audit;
use crate::bugs::PlantedBug;
use crate::plan::{Plan, topic_name};
use crate::random::Random;
use crate::world::{Summary, World};

/// Polls under way at one time.
const POLLS_MAX: usize = 6;

/// A question to one shard that is not answered.
#[derive(Debug)]
struct Question {
    ticket: u64,
    gone: Rc<Cell<bool>>,
}

/// A client's poll over all shards that there were when it began.
#[derive(Debug)]
struct Poll {
    machine: ShardPoll,
    receive: Receive,
    polling_ms: u64,
    questions: BTreeMap<usize, Question>,
    claim: Option<Claim>,
    /// Some shard refused for a reason that may not be hidden.
    refused: Option<Refusal>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Shards {
    random: Random,
    steps: u64,
    /// In the order in which they came.
    worlds: Vec<World>,
    /// Those that come later, and at which step.
    later: Vec<(u64, World)>,
    polls: Vec<Poll>,
    kill: u64,
    turn: usize,
}

impl Shards {
    /// As many shards as the plan says, before their first step.
    #[must_use]
    pub fn new(plan: &Plan, bug: Option<PlantedBug>, prints: bool) -> Self {
        let mut random = Random::new(plan.seed ^ 0x0005_4a2d_5eed_0000);
        let kill = plan.faults.kill;
        let mut own = plan.clone();
        // The process dies as a whole, and so it would of a disk that fails.
        own.faults = plan.faults.of_one_shard();
        let steps = plan.steps * plan.shards / 2;
        let (mut worlds, mut later) = (Vec::new(), Vec::new());
        for shard in 0..plan.shards {
            own.seed = plan.seed ^ (shard << 40);
            let world = World::new(&own, bug, prints);
            if shard > 0 && random.happens(300) {
                later.push((random.below(steps), world));
            } else {
                worlds.push(world);
            }
        }
        later.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
        Self { random, steps, worlds, later, polls: Vec::new(), kill, turn: 0 }
    }

    /// Plays the history.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn play(mut self) -> Result<Summary, String> {
        for world in &mut self.worlds {
            world.begin()?;
        }
        for step in 0..self.steps {
            while self.later.last().is_some_and(|(at, _)| *at <= step) {
                let Some((_, mut world)) = self.later.pop() else { break };
                world.begin()?;
                self.worlds.push(world);
            }
            self.step()?;
        }
        self.polls.iter().for_each(Poll::give_up);
        let mut sum: Option<Summary> = None;
        for mut world in self.worlds {
            audit::audit(&mut world)?;
            let summary = world.summary();
            sum = Some(sum.map_or(summary, |sum| sum.plus(&summary)));
        }
        sum.ok_or_else(|| "a history without shards".to_owned())
    }

    fn step(&mut self) -> Result<(), String> {
        if self.random.happens(self.kill) {
            for world in &mut self.worlds {
                world.kill()?;
            }
            // Whoever polled hears that the connection is gone.
            self.polls.clear();
        }
        match self.random.below(10) {
            0..2 => self.begin_poll(),
            2 => self.drop_poll(),
            _ => {
                let at = self.random.index(self.worlds.len());
                self.worlds[at].step()?;
            }
        }
        // The shards do not wait for each other's answers to arrive.
        if self.random.happens(200) { self.advance_polls() } else { Ok(()) }
    }

    fn begin_poll(&mut self) {
        if self.polls.len() >= POLLS_MAX {
            return;
        }
        let plan = &self.worlds[0].plan;
        let Some(group) = self.random.pick(&plan.groups) else { return };
        let group = group.clone();
        let Some(topic) = self.random.pick(&group.topics).filter(|topic| *topic != "lite") else {
            return;
        };
        let Some(client) = self.random.pick(&group.clients) else { return };
        let receive = Receive {
            group: group.settings.name.clone(),
            topic: topic_name(topic),
            filter: group.filter.clone(),
            messages_max: u32::try_from(self.random.between(1, 10)).unwrap_or(1),
            invisible_ms: self.random.between(100, plan.invisible_ms_max),
            poll_until_ms: 0,
            client_id: client.as_str().into(),
            attempt_id: String::new(),
            lite_topics: None,
        };
        self.turn += 1;
        let count = self.worlds.len();
        self.polls.push(Poll {
            machine: ShardPoll::new(count, self.turn % count),
            receive,
            polling_ms: self.random.below(20_000),
            questions: BTreeMap::new(),
            claim: None,
            refused: None,
        });
    }

    /// A client goes away.
    fn drop_poll(&mut self) {
        if !self.polls.is_empty() {
            let at = self.random.index(self.polls.len());
            let poll = self.polls.swap_remove(at);
            self.end(&poll);
        }
    }

    /// Nobody waits for the answers any more.
    fn end(&mut self, poll: &Poll) {
        poll.give_up();
        for (place, question) in &poll.questions {
            self.worlds[*place].checker.poll_given_up(question.ticket);
        }
    }

    /// Takes the answers that came, and asks on.
    fn advance_polls(&mut self) -> Result<(), String> {
        for mut poll in std::mem::take(&mut self.polls) {
            let mut is_over = self.take_answers(&mut poll)?;
            while !is_over && poll.questions.is_empty() {
                is_over = self.ask(&mut poll)?;
            }
            if is_over {
                self.end(&poll);
            } else {
                self.polls.push(poll);
            }
        }
        Ok(())
    }

    /// Whether the poll is over.
    fn take_answers(&mut self, poll: &mut Poll) -> Result<bool, String> {
        let mut messages_of = None;
        for place in 0..self.worlds.len() {
            let Some(question) = poll.questions.get(&place) else { continue };
            let Some(reply) = self.worlds[place].direct.remove(&question.ticket) else { continue };
            poll.questions.remove(&place);
            match reply {
                Ok(Outcome::Received(deliveries)) if !deliveries.is_empty() => {
                    if let Some(other) = messages_of.replace(place) {
                        return Err(format!("the shards {other} and {place} answered one poll"));
                    }
                    self.worlds[place].clients.was_given(&poll.receive, &deliveries);
                }
                Ok(Outcome::Received(_)) => {}
                Err(refusal) => {
                    if !matches!(refusal, Refusal::TooMany(_)) {
                        poll.refused = Some(refusal.clone());
                    }
                    poll.machine.refused(place, refusal);
                }
                other => return Err(format!("a receive was answered with {other:?}")),
            }
            let is_held = |claim: &Claim| claim.is_held_by(ShardId(place as u32));
            if messages_of.is_none() && poll.claim.as_ref().is_some_and(is_held) {
                // It had claimed the poll and has nothing after all.
                self.end(poll);
                poll.questions.clear();
                poll.machine.begin_waiting_again();
                return Ok(false);
            }
        }
        Ok(messages_of.is_some())
    }

    /// Asks what the choice says; whether the poll is over.
    fn ask(&mut self, poll: &mut Poll) -> Result<bool, String> {
        match poll.machine.ask() {
            Ask::AtOnce(place) => {
                let receive = Receive { poll_until_ms: 0, ..poll.receive.clone() };
                self.ask_one(poll, place, receive, None)?;
            }
            Ask::Together(places, claim) => {
                poll.claim = Some(claim.clone());
                for place in places {
                    let poll_until_ms = self.worlds[place].now_ms() + poll.polling_ms;
                    let receive = Receive { poll_until_ms, ..poll.receive.clone() };
                    self.ask_one(poll, place, receive, Some(claim.clone()))?;
                }
            }
            Ask::Nobody(Ok(())) if poll.refused.is_some() => {
                return Err(format!("{:?} of a shard was hidden by an empty one", poll.refused));
            }
            Ask::Nobody(_) => return Ok(true),
        }
        Ok(false)
    }

    fn ask_one(
        &mut self,
        poll: &mut Poll,
        place: usize,
        receive: Receive,
        claim: Option<Claim>,
    ) -> Result<(), String> {
        let world = &mut self.worlds[place];
        if world.process.is_none() {
            // It comes back before anybody can ask.
            world.start()?;
        }
        let gone: Rc<Cell<bool>> = Rc::default();
        let claim = claim.map(|claim| (claim, ShardId(place as u32)));
        let ticket = world.submit_claimed(Command::Receive(receive), gone.clone(), claim)?;
        poll.questions.insert(place, Question { ticket, gone });
        // Its answer to what does not wait is there with the next step.
        world.step_replica()
    }
}

impl Poll {
    fn give_up(&self) {
        self.questions.values().for_each(|question| question.gone.set(true));
    }
}
