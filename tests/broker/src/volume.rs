//! A small volume of its own for one broker: an ext4 in a file, mounted over a loop device. Needs root; whoever cannot mount
//! gets none. Unmounted when dropped, also after a panic.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const BALLAST: &str = "ballast";
/// Who used the volume may take a moment to be gone.
const UNMOUNT_MAX: Duration = Duration::from_secs(10);

/// A mounted volume.
#[derive(Debug)]
pub struct Volume {
    folder: TempDir,
}

impl Volume {
    /// Makes and mounts a volume of so many MiB; none where that is not allowed, which is said on stderr.
    ///
    /// # Panics
    /// When the system gives no folder.
    #[must_use]
    pub fn mount(mebibytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        match try_mount(folder.path(), mebibytes) {
            Ok(()) => Some(Self { folder }),
            Err(reason) => {
                eprintln!("NOT TESTED: no volume can be mounted here: {reason}");
                None
            }
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        mount_point(self.folder.path())
    }

    /// Fills it to the last byte, as others would.
    ///
    /// # Panics
    /// When that fails for another reason than that it is full.
    pub fn fill(&self) {
        let ballast = File::options().create(true).append(true).open(self.path().join(BALLAST));
        let mut ballast = ballast.expect("there is a place for a name");
        for piece_bytes in [1024 * 1024, 4096, 1] {
            let piece = vec![7; piece_bytes];
            let full = loop {
                if let Err(error) = ballast.write_all(&piece) {
                    break error;
                }
            };
            assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
        }
        ballast.sync_all().expect("the ballast is ours");
    }

    /// Takes the ballast away.
    ///
    /// # Panics
    /// When there is none.
    pub fn make_room(&self) {
        fs::remove_file(self.path().join(BALLAST)).expect("the ballast is there");
    }

    /// The volume fails under its users: from now on it can only be read, and what was not synced is lost.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn abort(&self) {
        let point = self.path();
        run(Command::new("mount").args(["-o", "remount,abort"]).arg(&point)).expect("it aborts");
    }

    /// The same volume as another machine would find it if the power went now: with what reached the medium, not with what
    /// the system still holds in memory.
    ///
    /// # Panics
    /// When the copy cannot be mounted.
    #[must_use]
    pub fn after_power_loss(&self) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (image, point) = (image(folder.path()), mount_point(folder.path()));
        fs::copy(self::image(self.folder.path()), &image).expect("there is room for a copy");
        fs::create_dir(&point).expect("the folder is ours");
        mount(&image, &point).expect("a journal survives it");
        Self { folder }
    }

    /// Mounts it again, whole and writable; nobody may use it.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn heal(&self) {
        unmount(&self.path()).expect("nobody uses it");
        let image = image(self.folder.path());
        // What the abort left in the journal is put in order, as an administrator would.
        let checked = Command::new("e2fsck").args(["-p", "-f"]).arg(&image).output();
        let code = checked.expect("e2fsck can be run").status.code();
        assert!(matches!(code, Some(0 | 1)), "e2fsck ended with {code:?}");
        mount(&image, &self.path()).expect("it can be mounted again");
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(reason) = unmount(&self.path()) {
            eprintln!("{} stays mounted: {reason}", self.path().display());
        }
    }
}

fn image(folder: &Path) -> PathBuf {
    folder.join("image")
}

fn mount_point(folder: &Path) -> PathBuf {
    folder.join("volume")
}

fn try_mount(folder: &Path, mebibytes: u64) -> Result<(), String> {
    let (image, point) = (image(folder), mount_point(folder));
    let file = File::create(&image).and_then(|file| file.set_len(mebibytes * 1024 * 1024));
    file.and_then(|()| fs::create_dir(&point)).map_err(|error| error.to_string())?;
    // No blocks that only root may take, so that full is full for everybody.
    run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
    mount(&image, &point)
}

fn mount(image: &Path, point: &Path) -> Result<(), String> {
    run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(point))
}

fn unmount(point: &Path) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match run(Command::new("umount").arg(point)) {
            Err(_) if begun.elapsed() < UNMOUNT_MAX => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
}
