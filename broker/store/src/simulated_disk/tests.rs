//! The simulated disk does what it says: each fault by itself, and nothing without being asked.

use super::*;

const PATH: &str = "log/file";

fn filled(byte: u8, length: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::with_capacity(length);
    buffer.extend(&vec![byte; length]);
    buffer
}

fn disk() -> (SimulatedDisk, Arc<dyn DiskFile>) {
    let disk = SimulatedDisk::default();
    disk.create_zeroed(Path::new(PATH), 8192).unwrap();
    let file = disk.open(Path::new(PATH)).unwrap();
    (disk, file)
}

fn read(file: &Arc<dyn DiskFile>) -> Result<Vec<u8>, DiskError> {
    let mut bytes = vec![0; 8192];
    file.read_at(0, &mut bytes).map(|()| bytes)
}

#[test]
fn an_open_file_goes_on_working_without_its_name() {
    let (disk, file) = disk();
    disk.rename(Path::new(PATH), Path::new("log/other")).unwrap();
    file.write_durable(0, &filled(7, 4096)).unwrap();
    assert_eq!(disk.contents(Path::new("log/other")).unwrap()[..4096], [7; 4096]);
    disk.remove(Path::new("log/other")).unwrap();
    file.write_durable(4096, &filled(8, 4096)).unwrap();
    assert_eq!(read(&file).unwrap()[4096], 8);
    assert!(disk.open(Path::new("log/other")).unwrap_err().is_missing);
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn a_torn_write_leaves_some_sectors_and_a_failed_sync_too() {
    for seed in 0..20 {
        let (disk, file) = disk();
        disk.tear_after(0, seed);
        assert!(file.write_durable(0, &filled(7, 8192)).is_err());
        assert!(file.write_durable(0, &filled(7, 8192)).is_err(), "the machine is off");
        disk.restart();
        let whole = read(&file).unwrap().chunks(SECTOR_BYTES).all(|s| s == [7; SECTOR_BYTES]);
        assert!(!whole, "seed {seed}");
        disk.set_faults(DiskFaults { failed_syncs: 1_000, ..DiskFaults::default() }, seed);
        assert!(file.write_durable(0, &filled(9, 8192)).is_err());
        let bytes = read(&file).unwrap();
        assert!(bytes.chunks(SECTOR_BYTES).any(|s| s == [9; SECTOR_BYTES]), "seed {seed}");
        assert!(bytes.chunks(SECTOR_BYTES).any(|s| s != [9; SECTOR_BYTES]), "seed {seed}");
        assert_eq!(disk.take_injected(), [DiskFault::FailedSync]);
    }
}

#[test]
fn a_failed_write_leaves_nothing_and_slow_operations_cost_time() {
    let (disk, file) = disk();
    disk.set_faults(
        DiskFaults {
            failed_writes: 1_000,
            slow_operations: 1_000,
            slow_ms_max: 9,
            ..DiskFaults::default()
        },
        1,
    );
    assert!(file.write_durable(0, &filled(7, 4096)).is_err());
    assert_eq!(read(&file).unwrap(), vec![0; 8192]);
    assert!((1..=9).contains(&disk.take_delay_ms()));
}

#[test]
fn reads_lie_only_below_their_bound() {
    let (disk, file) = disk();
    let bounds = LieBounds::from([(PathBuf::from(PATH), 1024)]);
    let stale = DiskFaults { stale_reads: 1_000, lie_bounds: bounds, ..DiskFaults::default() };
    disk.set_faults(stale.clone(), 3);
    file.write_durable(0, &filled(7, 8192)).unwrap();
    file.write_durable(0, &filled(8, 8192)).unwrap();
    let bytes = read(&file).unwrap();
    assert_eq!(bytes.iter().filter(|byte| **byte == 7).count(), SECTOR_BYTES);
    assert!(bytes[1024..].iter().all(|byte| *byte == 8));
    disk.set_faults(DiskFaults { stale_reads: 0, misdirected_reads: 1_000, ..stale }, 3);
    file.write_durable(4096, &filled(9, 4096)).unwrap();
    let lies = (0..20).filter(|_| read(&file).unwrap()[..1024].contains(&9)).count();
    assert!(lies > 0);
}

#[test]
fn a_misdirected_read_gets_all_that_another_should_have_got() {
    let (disk, file) = disk();
    for (at, byte) in [(0, 7), (4096, 9)] {
        file.write_durable(at, &filled(byte, 4096)).unwrap();
    }
    let lie_bounds = LieBounds::from([(PathBuf::from(PATH), 8192)]);
    disk.set_faults(
        DiskFaults { misdirected_reads: 1_000, lie_bounds, ..DiskFaults::default() },
        3,
    );
    let mut bytes = [0; 100];
    file.read_at(10, &mut bytes).unwrap();
    file.read_at(4100, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 100], "what the first read was for");
}

#[test]
fn broken_ranges_fail_until_they_are_healed() {
    let (disk, file) = disk();
    disk.break_range(Path::new(PATH), 5000, 5001);
    assert!(read(&file).is_err());
    assert!(file.read_at(0, &mut [0; 512]).is_ok());
    disk.heal();
    assert!(read(&file).is_ok());
}

#[test]
fn space_ends_and_comes_back() {
    let (disk, _file) = disk();
    disk.set_capacity(Some(10_000));
    let second = Path::new("log/second");
    assert!(disk.create_zeroed(second, 4096).unwrap_err().is_full);
    assert!(disk.create_filled(second, &[1; 4096]).unwrap_err().is_full);
    assert_eq!(disk.space(second).unwrap().free_bytes, 10_000 - 8192);
    disk.remove(Path::new(PATH)).unwrap();
    disk.create_filled(second, &[1; 4096]).unwrap();
    assert_eq!(disk.space(second).unwrap().free_bytes, 10_000 - 4096);
}

#[test]
fn a_file_under_way_at_a_power_loss_holds_any_part() {
    let lengths: std::collections::BTreeSet<_> = (0..20)
        .map(|seed| {
            let disk = SimulatedDisk::default();
            disk.tear_after(0, seed);
            assert!(disk.create_filled(Path::new(PATH), &[1; 4096]).is_err());
            disk.restart();
            disk.contents(Path::new(PATH)).unwrap().len()
        })
        .collect();
    assert!(lengths.len() > 3);
}
