//! What is around a broker: a log that cannot be written, other users of the machine, and hands on the data directory.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tests_broker::binary;
use tests_broker::broker::{Options, Place, serve_command};

/// A broker that ends by itself at its start has ended by then, on a busy machine too.
const END_MAX: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Nothing can be written there.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// Starts a broker whose log cannot be written, and waits until it is ready.
fn start_without_log(data: &Path) -> (Child, String) {
    let mut command = serve_command(data, &Options::shards(1));
    let mut process = command.stdout(Stdio::piped()).stderr(full()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (process, line)
}

/// How a broker ends by itself, and what it says; one that serves instead is killed.
fn end_of(mut command: Command) -> Output {
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while process.try_wait().unwrap().is_none() && begun.elapsed() < END_MAX {
        thread::sleep(LOOK_AGAIN);
    }
    // It may have ended by itself.
    let _ = process.kill();
    process.wait_with_output().unwrap()
}

/// Everything below a folder, and itself.
fn all_in(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(all_in(&path));
        } else {
            all.push(path);
        }
    }
    all
}

#[test]
fn a_log_that_cannot_be_written_ends_no_broker() {
    let place = Place::new();
    let (mut process, line) = start_without_log(&place.data());
    assert!(line.starts_with("pinnace is ready"), "{line:?} and {:?}", process.try_wait());
    let admin = line.trim_end().rsplit_once(' ').unwrap().1;
    let asked = Command::new(binary()).args(["topic", "list", "--admin", admin]).output().unwrap();
    assert!(asked.status.success(), "{asked:?}");
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_verb_that_cannot_tell_what_is_wrong_fails_as_if_it_had() {
    for (arguments, code) in [
        (&["lag", "--admin", "127.0.0.1:1"][..], 1),
        (&["nonsense"][..], 2),
        (&["group", "reset", "billing", "--to", "never"][..], 2),
    ] {
        let status = Command::new(binary()).args(arguments).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
        let status = Command::new(binary()).args(arguments).stderr(full()).stdout(full()).status();
        assert_eq!(status.unwrap().code(), Some(code), "{arguments:?}");
    }
}

#[tokio::test]
async fn nobody_else_reads_the_data_also_when_an_earlier_version_made_them_readable() {
    let place = Place::new();
    let is_private = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o077 == 0;
    let broker = place.start(&Options::shards(1));
    broker.create("orders", "billing").await;
    broker.kill();
    let all = all_in(&place.data());
    let open: Vec<_> = all.iter().filter(|path| !is_private(path)).collect();
    assert!(open.is_empty() && all.len() > 5, "{open:?}");
    for path in &all {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let broker = place.start(&Options::shards(1));
    let open: Vec<_> = all_in(&place.data()).into_iter().filter(|path| !is_private(path)).collect();
    assert!(open.is_empty(), "{open:?}");
    drop(broker);
}

#[test]
fn without_its_lock_file_a_directory_is_still_held_by_one() {
    let place = Place::new();
    let _first = place.start(&Options::shards(1));
    fs::remove_file(place.data().join("lock")).unwrap();
    let second = end_of(serve_command(&place.data(), &Options::shards(1)));
    let text = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(2), "{text}");
    assert!(text.contains("in use by another process"), "{text}");
}

#[test]
fn a_broker_whose_data_are_deleted_or_moved_ends() {
    for is_moved in [false, true] {
        let place = Place::new();
        let broker = place.start(&Options::shards(1));
        if is_moved {
            fs::rename(place.data(), place.path("elsewhere")).unwrap();
        } else {
            fs::remove_dir_all(place.data()).unwrap();
        }
        assert_eq!(broker.exit().code(), Some(1), "moved: {is_moved}");
        assert!(!place.data().exists(), "and makes no new one");
    }
}
