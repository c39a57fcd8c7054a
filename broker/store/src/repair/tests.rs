//! A repair ends the log at the damage, keeps all else aside, and can be killed at every step and run again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::faulty_disk::FaultyDisk;
use crate::recovery;
use crate::simulated_disk::SimulatedDisk;
use crate::snapshot;
use crate::walk::tests::{append, filled};

const FIRST: &str = "log/00000000000000000000.seg";
const SECOND: &str = "log/00000000000000065536.seg";
const THIRD: &str = "log/00000000000000131072.seg";

fn options() -> LogOptions {
    LogOptions { shard: 0, directory: "log".into(), segment_bytes: 64 * 1024 }
}

fn bytes_of(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    readable(&*file, file.length_bytes())
}

fn files(disk: &SimulatedDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = disk.files_ending(".seg").into_iter();
    paths.map(|path| (path.clone(), bytes_of(disk, &path))).collect()
}

fn repair(disk: &dyn Disk) -> Result<bool, RepairError> {
    let Some(plan) = plan(disk, &options(), snapshot::start(disk, &options())?)? else {
        return Ok(false);
    };
    carry_out(disk, &options(), &plan).map(|()| true)
}

fn entries(disk: &SimulatedDisk) -> u64 {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut payloads = 0;
    recovery::open(&disk, &options(), LogEnd::default(), &mut |_| {
        payloads += 1;
        Ok(())
    })
    .unwrap();
    payloads
}

/// Damage in the middle of the second of three segments: frame 151 of 250.
fn damaged() -> SimulatedDisk {
    let disk = filled(250);
    disk.flip_bit(Path::new(SECOND), (150 - 102) * 640 + 200, 1);
    disk
}

#[test]
fn the_log_ends_at_the_damage_and_everything_behind_it_is_kept_aside() {
    let disk = damaged();
    let before = files(&disk);
    let plan = plan(&disk, &options(), LogEnd::default()).unwrap().unwrap();
    assert_eq!(files(&disk), before, "a plan changes nothing");
    assert_eq!((plan.damage.first_index, plan.damage.highest_index), (151, 250));
    assert!(repair(&disk).unwrap());
    let aside = |position: u64| PathBuf::from(format!("log/damaged-{position:020}.seg"));
    assert_eq!(bytes_of(&disk, &aside(plan.damage.from)), before[Path::new(SECOND)]);
    assert_eq!(bytes_of(&disk, &aside(131_072)), before[Path::new(THIRD)]);
    assert_eq!(bytes_of(&disk, Path::new(FIRST)), before[Path::new(FIRST)]);
    assert_eq!(entries(&disk), 150);
    assert_eq!(append(&disk, 200), 350);
    assert_eq!(entries(&disk), 350);
    assert!(!repair(&disk).unwrap(), "there is nothing left to repair");
}

#[test]
fn a_log_that_is_not_damaged_is_left_alone() {
    let disk = filled(250);
    let before = files(&disk);
    assert!(!repair(&disk).unwrap());
    assert_eq!(files(&disk), before);
}

#[test]
fn a_repair_that_is_killed_at_any_step_can_be_run_again_and_loses_no_evidence() {
    let damages: [fn() -> SimulatedDisk; 5] = [
        damaged,
        || {
            // The last frame of the first segment; only later segments vouch for it.
            let disk = filled(250);
            disk.flip_bit(Path::new(FIRST), 101 * 640 + 200, 1);
            disk
        },
        || {
            // The first frame of a segment.
            let disk = filled(250);
            disk.flip_bit(Path::new(THIRD), 20, 1);
            disk
        },
        || {
            let disk = filled(250);
            disk.flip_bit(Path::new(FIRST), 20, 1);
            disk
        },
        || {
            let disk = filled(250);
            disk.remove(Path::new(SECOND)).unwrap();
            disk
        },
    ];
    for (case, damaged) in damages.into_iter().enumerate() {
        let whole = damaged();
        let before = files(&whole);
        repair(&whole).unwrap();
        let expected = entries(&whole);
        let mut steps = 0;
        loop {
            let disk = damaged();
            let killed = repair(&FaultyDisk::dying_after(&disk, steps)).is_err();
            // Twice killed at the same step, then run to its end.
            let _killed_again = repair(&FaultyDisk::dying_after(&disk, steps));
            repair(&disk).unwrap();
            let after = files(&disk);
            for (path, bytes) in &before {
                let is_kept = after.values().any(|kept| kept == bytes);
                assert!(is_kept, "case {case}, killed after {steps}: {path:?} is lost");
            }
            assert_eq!(entries(&disk), expected, "case {case}, killed after {steps}");
            assert_eq!(append(&disk, 300), expected + 300);
            assert_eq!(entries(&disk), expected + 300, "case {case}, killed after {steps}");
            if !killed {
                break;
            }
            steps += 1;
        }
        assert!(steps >= 4, "case {case} has {steps} steps");
    }
}

#[test]
fn a_broker_that_starts_between_two_attempts_finds_the_old_log_or_the_repaired_one() {
    let mut steps = 0;
    loop {
        let disk = damaged();
        let killed = repair(&FaultyDisk::dying_after(&disk, steps)).is_err();
        let opened: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut frames = 0;
        let outcome = recovery::open(&opened, &options(), LogEnd::default(), &mut |_| {
            frames += 1;
            Ok(())
        });
        match outcome {
            Ok(_) => assert_eq!(frames, 150),
            Err(error) => assert!(error.is_damage(), "{error}"),
        }
        if !killed {
            return;
        }
        steps += 1;
    }
}

#[test]
fn what_cannot_be_read_is_cut_as_well() {
    let medium = filled(250);
    let disk = FaultyDisk::unreadable(&medium, Path::new(SECOND), 40_960..40_961);
    let plan = plan(&disk, &options(), LogEnd::default()).unwrap().unwrap();
    carry_out(&disk, &options(), &plan).unwrap();
    assert_eq!(entries(&medium), plan.damage.first_index - 1);
}
