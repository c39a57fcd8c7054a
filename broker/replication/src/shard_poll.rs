//! A poll over several shards: which of them is asked when, and which one may answer it. Each is asked once without
//! waiting, in turn; then all of them wait at one time with one claim, so that only one hands messages out.
//! Decides and knows no clock: whoever drives it asks the shards, a broker as well as a simulation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use broker_engine::{Receive, Refusal};
use broker_model::ShardId;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use crate::shard::{DeliveredMessage, ShardHandle};

/// Nobody has the poll.
const FREE: u64 = 0;
/// No shard may have it: the first that has messages rings.
const BELL: u64 = u64::MAX - 1;
const RUNG: u64 = u64::MAX;

/// Shared by the commands with which one poll waits on several shards: the shard that takes it answers the poll, and the
/// others leave their messages alone.
#[derive(Debug, Clone, Default)]
pub struct Claim(Arc<AtomicU64>);

impl Claim {
    /// A claim that no shard gets: who has messages leaves them alone, and rings.
    #[must_use]
    pub fn bell() -> Self {
        Self(Arc::new(AtomicU64::new(BELL)))
    }

    /// Whether a shard has messages for a poll with a [`Claim::bell`].
    #[must_use]
    pub fn has_rung(&self) -> bool {
        self.0.load(Ordering::Acquire) == RUNG
    }

    fn name(shard: ShardId) -> u64 {
        u64::from(shard.0) + 1
    }

    /// Takes the poll for a shard; false when another has it.
    #[must_use]
    pub fn take(&self, shard: ShardId) -> bool {
        let name = Self::name(shard);
        match self.0.compare_exchange(FREE, name, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_free) => true,
            Err(BELL) => {
                self.0.store(RUNG, Ordering::Release);
                false
            }
            Err(holder) => holder == name,
        }
    }

    /// Whether this shard has the poll.
    #[must_use]
    pub fn is_held_by(&self, shard: ShardId) -> bool {
        self.0.load(Ordering::Acquire) == Self::name(shard)
    }

    /// Whether another shard than this one has the poll.
    #[must_use]
    pub fn is_lost_to(&self, shard: ShardId) -> bool {
        let holder = self.0.load(Ordering::Acquire);
        ![FREE, BELL, Self::name(shard)].contains(&holder)
    }
}

/// What to ask next. Shards are named by their place in the list that the poll was made with.
#[derive(Debug)]
pub enum Ask {
    /// One shard, which is not to wait.
    AtOnce(usize),
    /// Several at one time, with a common claim, each of which waits until the poll ends.
    Together(Vec<usize>, Claim),
    /// Nobody: there are no messages, or there is a reason why they cannot be had.
    Nobody(Result<(), Refusal>),
}

/// One poll. It is over with the first answer that holds messages, or with [`Ask::Nobody`].
#[derive(Debug)]
pub struct ShardPoll {
    /// Places in the order of asking.
    turn: Vec<usize>,
    asked_at_once: usize,
    /// Whether all that waited have answered.
    has_waited: bool,
    refusals: Vec<Option<Refusal>>,
}

impl ShardPoll {
    /// A poll over so many shards, of which `first` is asked first.
    #[must_use]
    pub fn new(shards: usize, first: usize) -> Self {
        let turn: Vec<_> = (0..shards).map(|n| (first + n) % shards).collect();
        // One shard alone may as well wait at once.
        let asked_at_once = if shards == 1 { 1 } else { 0 };
        Self { turn, asked_at_once, has_waited: false, refusals: vec![None; shards] }
    }

    /// What to ask next. To be called when all that was asked before is answered.
    #[must_use]
    pub fn ask(&mut self) -> Ask {
        if let Some(&place) = self.turn.get(self.asked_at_once) {
            self.asked_at_once += 1;
            return Ask::AtOnce(place);
        }
        let open = self.turn.iter().copied().filter(|place| self.refusals[*place].is_none());
        let open: Vec<_> = open.collect();
        if self.has_waited || open.is_empty() {
            return Ask::Nobody(self.verdict(!open.is_empty()));
        }
        self.has_waited = true;
        Ask::Together(open, Claim::default())
    }

    /// A shard refused: it is not asked again.
    pub fn refused(&mut self, place: usize, refusal: Refusal) {
        if let Some(known) = self.refusals.get_mut(place) {
            *known = Some(refusal);
        }
    }

    /// The shard that had claimed the poll has nothing for it after all; the others did not wait to the end.
    pub fn begin_waiting_again(&mut self) {
        self.has_waited = false;
    }

    /// No messages. That one shard has none does not hide that something is wrong with another; that another has too much
    /// to do just now is no news as long as one could be waited for.
    fn verdict(&mut self, is_any_open: bool) -> Result<(), Refusal> {
        let mut refusals: Vec<_> = self.refusals.iter_mut().filter_map(Option::take).collect();
        let wrong = refusals.iter().position(|refusal| !matches!(refusal, Refusal::TooMany(_)));
        match wrong {
            Some(at) => Err(refusals.swap_remove(at)),
            None if is_any_open => Ok(()),
            None => refusals.pop().map_or(Ok(()), Err),
        }
    }
}

/// Receives from whichever of these shards has messages, waiting for them until the polling time ends; says which shard it
/// was. Dropping the future ends the wait.
///
/// # Errors
/// [`Refusal`] of a shard when no other had messages.
pub async fn receive_from_any(
    shards: &[&ShardHandle],
    first: usize,
    receive: &Receive,
) -> Result<(usize, Vec<DeliveredMessage>), Refusal> {
    let mut poll = ShardPoll::new(shards.len(), first);
    loop {
        match poll.ask() {
            Ask::AtOnce(place) => {
                let receive = Receive { poll_until_ms: 0, ..receive.clone() };
                match shards[place].receive(receive, None).await {
                    Ok(messages) if !messages.is_empty() => return Ok((place, messages)),
                    Ok(_nothing) => {}
                    Err(refusal) => poll.refused(place, refusal),
                }
            }
            Ask::Together(places, claim) => {
                let waiting = places.into_iter().map(|place| {
                    let answer = shards[place].receive(receive.clone(), Some(claim.clone()));
                    async move { (place, answer.await) }
                });
                let mut waiting: FuturesUnordered<_> = waiting.collect();
                while let Some((place, answer)) = waiting.next().await {
                    match answer {
                        Ok(messages) if !messages.is_empty() => return Ok((place, messages)),
                        Ok(_nothing) => {}
                        Err(refusal) => poll.refused(place, refusal),
                    }
                    if claim.is_held_by(shards[place].id()) {
                        poll.begin_waiting_again();
                        break;
                    }
                }
            }
            Ask::Nobody(verdict) => return verdict.map(|()| (first, Vec::new())),
        }
    }
}

/// Waits until one of these shards has messages for the poll, at the longest until the polling time ends, and says whether
/// one has. None is handed out, and none counted.
///
/// # Errors
/// [`Refusal`] of a shard when no other had messages.
pub async fn watch_any(shards: &[&ShardHandle], receive: &Receive) -> Result<bool, Refusal> {
    let bell = Claim::bell();
    let mut poll = ShardPoll::new(shards.len(), 0);
    let waiting = shards.iter().enumerate().map(|(place, shard)| {
        let answer = shard.receive(receive.clone(), Some(bell.clone()));
        async move { (place, answer.await) }
    });
    let mut waiting: FuturesUnordered<_> = waiting.collect();
    while let Some((place, answer)) = waiting.next().await {
        if bell.has_rung() {
            return Ok(true);
        }
        if let Err(refusal) = answer {
            poll.refused(place, refusal);
        }
    }
    let is_any_open = poll.refusals.iter().any(Option::is_none);
    poll.verdict(is_any_open).map(|()| false)
}

#[cfg(test)]
mod tests;
