//! The checker bites: each bug that is planted on purpose breaks a promise in seeds that hold without it.

use tests_simulation::{PlantedBug, run};

/// Seeds tried until one of them shows the bug.
const SEEDS: u64 = 300;

/// Whether some seed fails with the bug, in the way that it must, and holds without it.
fn is_caught(bug: PlantedBug, from: u64, how: &str) -> bool {
    (from..from + SEEDS).any(|seed| {
        let failure = run(seed, Some(bug)).err();
        failure.is_some_and(|failure| failure.what.contains(how)) && run(seed, None).is_ok()
    })
}

macro_rules! bites {
    ($($name:ident: $bug:ident $(from $from:literal)? => $text:literal,)*) => {$(
        #[test]
        fn $name() {
            let from = 0 $(+ $from)?;
            assert!(is_caught(PlantedBug::$bug, from, $text), "no history shows the bug");
        }
    )*};
}

bites! {
    an_answer_before_the_sync_is_caught: AnsweredBeforeSync => "",
    damage_that_is_cut_like_a_torn_tail_is_caught: CutCorruption => "",
    a_torn_frame_that_counts_as_whole_is_caught: TornFrames => "",
    a_second_holder_is_caught: TwoHolders => "somebody has it",
    an_early_timer_is_caught: EarlyTimer => "ms early",
    a_reordered_message_group_is_caught: ReorderedMessageGroup => "of its message group",
    a_forgotten_acknowledgement_is_caught: ForgottenAcknowledgement => "after its acknowledgement",
    a_half_message_that_is_shown_is_caught: HalfShown => "may be",
    a_rolled_back_message_that_is_shown_is_caught: RolledBackShown => "may be",
    a_recalled_message_that_is_shown_is_caught: ForgottenRecall => "may be",
    attempts_that_are_not_counted_are_caught: UncountedAttempts => "attempt 1, expected",
    an_attempt_too_many_is_caught: OneAttemptMore => "attempt",
    a_dropped_dead_letter_is_caught: DroppedDeadLetter => "among the dead letters",
    a_dead_letter_put_back_twice_is_caught: ForgottenRedrive => "",
    a_lost_reset_is_caught: LostReset => "",
    shared_progress_of_a_broadcasting_group_is_caught: SharedBroadcast => "reads with the progress",
    an_ignored_filter_is_caught: IgnoredFilter => "does not pass its filter",
    a_forgotten_renewal_is_caught: ForgottenRenewal => "somebody",
    a_changed_body_is_caught: ChangedBody => "other bytes",
    a_record_of_another_place_is_caught: AnyRecord from 700 => "was delivered from",
    leases_that_retention_forgets_are_caught: ForgottenLeases => "somebody",
    progress_that_retention_forgets_is_caught: ForgottenProgress => "after its acknowledgement",
    a_message_that_goes_too_early_is_caught: GreedyRetention => "too early",
    a_message_that_is_back_after_it_went_is_caught: UnloggedTrim => "after retention took it",
    a_hidden_message_that_is_not_condensed_is_caught: ForgottenLeftovers => "cannot be read",
    a_timed_message_that_comes_late_is_caught: LateTimer => "was there and was not handed out",
    a_delivery_that_ends_late_is_caught: LateExpiry => "was there and was not handed out",
    the_lowest_priority_first_is_caught: LowestPriorityFirst => "of a higher priority",
    a_lower_level_that_comes_once_more_first_is_caught: DueBeforeLevel => "of a higher priority",
    a_queue_that_starves_is_caught: NoRotation => "starves",
    a_time_that_lands_before_its_message_is_caught: TimeOfSegment => "time",
    a_delivery_to_nobody_that_counts_is_caught: CountedRelease => "",
    a_poll_that_two_shards_answer_is_caught: IgnoredClaim => "answered one poll",
    a_transaction_that_is_not_asked_about_often_enough_is_caught: OneQuestion => "questions",
}

#[test]
fn every_planted_bug_has_its_test() {
    assert_eq!(PlantedBug::ALL.len(), 34, "a new one needs a line above");
}
