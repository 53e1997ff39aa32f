//! `sps umount`: waits for what is open, takes the mount off, and waits for the daemon to finish.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::mounts::{self, Unmount};
use super::view;
use crate::error::{Error, Result};

/// How long open files, and then the daemon, are waited for.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How often it is tried again while something is open.
const PAUSE: Duration = Duration::from_millis(50);

/// How many holders are named.
const HOLDERS_MAX: usize = 5;

/// Runs the command.
pub(super) fn run(mount_point: &Path) -> Result<()> {
    let path = mounts::absolute(mount_point)?;
    if mounts::is_dead(&path) {
        return match mounts::unmount(&path, UnmountFlags::DETACH) {
            Ok(()) => Ok(()),
            Err(Unmount::Busy) => Err(Error::Busy(format!("{} is busy", path.display()))),
            Err(Unmount::Failed(error)) => Err(error),
        };
    }
    if !mounts::mount_points()?.contains(&path) {
        return Err(Error::Store(format!("no store is mounted at {}", path.display())));
    }
    let daemon = view::attribute(&path, "pid").and_then(|pid| pid.parse().ok());
    let daemon = daemon.and_then(Pid::from_raw);
    drain(&path)?;
    daemon.map_or(Ok(()), wait_for_end)
}

/// Takes the mount off as soon as nothing is open on it.
///
/// # Errors
/// After 30 seconds it says who has what open, and the mount stays.
pub(super) fn drain(path: &Path) -> Result<()> {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        match mounts::unmount(path, UnmountFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Unmount::Failed(error)) => return Err(error),
            Err(Unmount::Busy) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(Unmount::Busy) => {
                let mut holders = mounts::holders(path);
                let more = holders.len().saturating_sub(HOLDERS_MAX);
                holders.truncate(HOLDERS_MAX);
                if more > 0 {
                    holders.push(format!("and {more} more"));
                }
                if holders.is_empty() {
                    holders.push("who has it open can't be seen from here".into());
                }
                return Err(Error::Busy(format!(
                    "{} stays mounted, it is in use: {}",
                    path.display(),
                    holders.join("; ")
                )));
            }
        }
    }
}

/// Waits until the daemon has closed the store, so that it can be mounted again at once.
fn wait_for_end(daemon: Pid) -> Result<()> {
    // A daemon that has ended already can't be opened.
    let Ok(process) = pidfd_open(daemon, PidfdFlags::empty()) else {
        return Ok(());
    };
    let seconds = i64::try_from(WAIT_MAX.as_secs()).unwrap_or(i64::MAX);
    let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let mut watched = [PollFd::new(&process, PollFlags::IN)];
    match poll(&mut watched, Some(&timeout)) {
        Ok(0) => Err(Error::Busy(format!(
            "it is unmounted, but its daemon (process {}) still works: see sps.log in the store",
            daemon.as_raw_nonzero()
        ))),
        Ok(_) => Ok(()),
        Err(error) => Err(Error::io("wait for", "the daemon", error)),
    }
}
