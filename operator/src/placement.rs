//! Where the queues of a topic are: a pure function from shards and what is placed already to what is to be placed.
//! Queues never leave a shard, because their messages are there; new ones go where there are fewest.

use operator_api::limits::QUEUES_PER_TOPIC_MAX;
use xxhash_rust::xxh3::xxh3_64;

/// How the queues of a topic lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// As evenly as possible over all shards.
    Even,
    /// All on one shard: the queues of a PRIORITY topic are its levels, and only one owner can keep their order.
    Together,
}

/// How many queues one shard holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Number of the shard.
    pub shard: u32,
    /// Its queues of the topic.
    pub queues: u32,
}

/// Why no placement exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The cluster has no shard.
    #[error("the cluster has no shard yet")]
    NoShard,
    /// More queues exist than are asked for.
    #[error(
        "the topic has {existing} queues in the cluster and cannot shrink to {wanted}: messages in removed queues would be lost; ask for at least {existing}"
    )]
    Shrinks {
        /// Queues that exist.
        existing: u32,
        /// Queues asked for.
        wanted: u32,
    },
    /// Spreading them takes more queues than a topic may have.
    #[error(
        "with placement Spread the topic would need {wanted} queues over all shards, and {QUEUES_PER_TOPIC_MAX} is the most; set spec.placement to Keep"
    )]
    TooMany {
        /// Queues that it takes.
        wanted: u32,
    },
}

/// Places `queues` queues on `shards`. What `existing` says of known shards stays; the rest goes one by one to the shard
/// with the fewest, or all to the one that holds most when they are to be together. Ties start at a shard that depends on
/// the topic's name, so that small topics spread over all shards.
///
/// # Errors
/// [`PlacementError`] without shards or when queues would have to go.
pub fn place(
    topic: &str,
    queues: u32,
    shards: &[u32],
    spread: Spread,
    existing: &[Placed],
) -> Result<Vec<Placed>, PlacementError> {
    if shards.is_empty() {
        return Err(PlacementError::NoShard);
    }
    let mut shards = shards.to_vec();
    shards.sort_unstable();
    shards.dedup();
    let before = |shard| existing.iter().filter(|p| p.shard == shard).map(|p| p.queues).sum();
    let mut placed: Vec<Placed> =
        shards.iter().map(|&shard| Placed { shard, queues: before(shard) }).collect();
    let held: u32 = placed.iter().map(|p| p.queues).sum();
    if held > queues {
        return Err(PlacementError::Shrinks { existing: held, wanted: queues });
    }
    let count = placed.len();
    let start = (xxh3_64(topic.as_bytes()) % count as u64) as usize;
    let turn = |index: usize| (index + count - start) % count;
    for _ in held..queues {
        let next = match spread {
            Spread::Even => (0..count).min_by_key(|&index| (placed[index].queues, turn(index))),
            Spread::Together => {
                (0..count).max_by_key(|&index| (placed[index].queues, count - turn(index)))
            }
        };
        placed[next.expect("there is at least one shard")].queues += 1;
    }
    placed.retain(|p| p.queues > 0);
    Ok(placed)
}

/// Places at least `queues` queues, and as many more as it takes for every shard to hold as many as the fullest, or one
/// less. What exists stays, also where it is more than is asked for.
///
/// # Errors
/// [`PlacementError`] without shards, or when it takes too many queues.
pub fn spread(
    topic: &str,
    queues: u32,
    shards: &[u32],
    existing: &[Placed],
) -> Result<Vec<Placed>, PlacementError> {
    let is_known = |placed: &&Placed| shards.contains(&placed.shard);
    let held: u32 = existing.iter().filter(is_known).map(|placed| placed.queues).sum();
    let mut placed = place(topic, queues.max(held), shards, Spread::Even, existing)?;
    let fullest = placed.iter().map(|placed| placed.queues).max().unwrap_or_default();
    let share = fullest.saturating_sub(1);
    for &shard in shards {
        match placed.iter_mut().find(|placed| placed.shard == shard) {
            Some(placed) => placed.queues = placed.queues.max(share),
            None => placed.push(Placed { shard, queues: share }),
        }
    }
    placed.retain(|placed| placed.queues > 0);
    placed.sort_unstable_by_key(|placed| placed.shard);
    let wanted = placed.iter().fold(0u32, |sum, placed| sum.saturating_add(placed.queues));
    if wanted > QUEUES_PER_TOPIC_MAX {
        return Err(PlacementError::TooMany { wanted });
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn total(placed: &[Placed]) -> u32 {
        placed.iter().map(|p| p.queues).sum()
    }

    fn on(placed: &[Placed], shard: u32) -> u32 {
        placed.iter().filter(|p| p.shard == shard).map(|p| p.queues).sum()
    }

    #[test]
    fn queues_that_would_have_to_go_are_refused() {
        let existing = [Placed { shard: 0, queues: 8 }];
        let wrong = place("t", 4, &[0, 1], Spread::Even, &existing);
        assert_eq!(wrong, Err(PlacementError::Shrinks { existing: 8, wanted: 4 }));
        assert_eq!(place("t", 4, &[], Spread::Even, &[]), Err(PlacementError::NoShard));
        let existing = [Placed { shard: 0, queues: 600 }];
        let wrong = spread("t", 4, &[0, 1], &existing);
        assert_eq!(wrong, Err(PlacementError::TooMany { wanted: 1199 }));
    }

    #[test]
    fn topics_of_one_queue_do_not_all_meet_on_one_shard() {
        let shards: Vec<u32> = (0..4).collect();
        let mut used = [0u32; 4];
        for index in 0..100 {
            let spread = if index % 2 == 0 { Spread::Even } else { Spread::Together };
            let placed = place(&format!("topic-{index}"), 1, &shards, spread, &[]).unwrap();
            used[placed[0].shard as usize] += 1;
        }
        assert!(used.iter().all(|&count| count > 10), "{used:?}");
    }

    proptest! {
        #[test]
        fn a_new_topic_is_spread_evenly(queues in 1u32..200, shards in 1u32..40, name in "[a-z]{1,12}") {
            let shards: Vec<u32> = (0..shards).collect();
            let placed = place(&name, queues, &shards, Spread::Even, &[]).unwrap();
            prop_assert_eq!(total(&placed), queues);
            let counts: Vec<u32> = shards.iter().map(|&shard| on(&placed, shard)).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", counts);
        }

        #[test]
        fn growing_moves_nothing_and_fills_the_emptiest(
            existing in proptest::collection::vec(0u32..12, 1..10),
            new_shards in 0u32..5,
            more in 0u32..60,
        ) {
            let existing: Vec<Placed> =
                (0u32..).zip(existing).map(|(shard, queues)| Placed { shard, queues }).collect();
            let shards: Vec<u32> = (0..existing.len() as u32 + new_shards).collect();
            let wanted = total(&existing) + more;
            let placed = place("orders", wanted, &shards, Spread::Even, &existing).unwrap();
            prop_assert_eq!(total(&placed), wanted);
            let least = shards.iter().map(|&shard| on(&placed, shard)).min().unwrap();
            for &shard in &shards {
                let (before, after) = (on(&existing, shard), on(&placed, shard));
                prop_assert!(after >= before);
                prop_assert!(after == before || after <= least + 1);
            }
        }

        #[test]
        fn queues_that_belong_together_share_one_shard_for_ever(
            name in "[a-z]{1,12}",
            queues in 1u32..100,
            shards in 1u32..20,
            more in 0u32..20,
            new_shards in 0u32..10,
        ) {
            let now: Vec<u32> = (0..shards).collect();
            let first = place(&name, queues, &now, Spread::Together, &[]).unwrap();
            prop_assert_eq!((first.len(), total(&first)), (1, queues));
            let later: Vec<u32> = (0..shards + new_shards).collect();
            let wanted = queues + more;
            let grown = place(&name, wanted, &later, Spread::Together, &first).unwrap();
            prop_assert_eq!(grown, vec![Placed { shard: first[0].shard, queues: wanted }]);
        }

        #[test]
        fn a_spread_topic_is_as_even_as_a_new_one_and_nothing_moves(
            existing in proptest::collection::vec(0u32..12, 1..10),
            new_shards in 0u32..5,
            queues in 1u32..60,
        ) {
            let existing: Vec<Placed> =
                (0u32..).zip(existing).map(|(shard, queues)| Placed { shard, queues }).collect();
            let shards: Vec<u32> = (0..existing.len() as u32 + new_shards).collect();
            let placed = spread("orders", queues, &shards, &existing).unwrap();
            let counts: Vec<u32> = shards.iter().map(|&shard| on(&placed, shard)).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", counts);
            prop_assert!(total(&placed) >= queues);
            for &shard in &shards {
                prop_assert!(on(&placed, shard) >= on(&existing, shard));
            }
            // No more than it takes: the fullest shard got nothing but what was asked for.
            let asked = queues.saturating_sub(total(&existing));
            let before = existing.iter().map(|placed| placed.queues).max().unwrap();
            prop_assert!(*most <= before.max(1) || asked > 0, "{:?}", counts);
            prop_assert_eq!(spread("orders", queues, &shards, &placed).unwrap(), placed);
        }

        #[test]
        fn placing_again_changes_nothing(queues in 1u32..100, shards in 1u32..20, even: bool) {
            let spread = if even { Spread::Even } else { Spread::Together };
            let shards: Vec<u32> = (0..shards).collect();
            let first = place("t", queues, &shards, spread, &[]).unwrap();
            prop_assert_eq!(place("t", queues, &shards, spread, &first).unwrap(), first);
        }
    }
}
