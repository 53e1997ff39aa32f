//! One daemon a store: a lock on a file of it, which the end of the process takes off.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::error::{Error, Result};

/// How long a daemon that was killed is given to let go.
const DYING_MAX: Duration = Duration::from_secs(1);

/// How often that is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// The lock, held as long as this lives.
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, and writes this process's number into the file for others to read.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| {
                Error::Store(format!("store lock {}: {error}: run as its owner", path.display()))
            })?;
        match flock_soon(&file) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let holder = match file.read_to_string(&mut holder) {
                    Ok(_) => holder.trim(),
                    Err(_) => "?",
                };
                let store = path.parent().unwrap_or(path).display();
                return Err(Error::Busy(format!(
                    "the store {store} is in use by process {holder}: unmount it there first"
                )));
            }
            Err(error) => return Err(Error::io("lock", path, error)),
        }
        file.set_len(0)
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
            .map_err(|error| Error::io("write", path, error))?;
        Ok(Self { file })
    }

    /// Writes what it says once more, and returns when the disk has it.
    pub(super) fn renew(&self) -> std::io::Result<()> {
        self.file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
        self.file.sync_data()
    }
}

/// Takes the lock, or says that it is held. Whoever was killed just now takes a moment to let go of it.
fn flock_soon(file: &File) -> rustix::io::Result<()> {
    let deadline = Instant::now() + DYING_MAX;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}
