//! `sps umount`: waits for what is open, takes the mount off, and waits for the daemon to finish.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::arguments::UmountArguments;
use super::mounts::{self, Unmount};
use super::{print, view};
use crate::error::{Error, Result};
use crate::sys;

/// How long open files, and then the daemon, are waited for, if nothing else is said.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);

/// How long an answer of the daemon is waited for at least.
const ANSWER_MIN: Duration = Duration::from_secs(1);

/// How often it is tried again while something is open.
const PAUSE: Duration = Duration::from_millis(50);

/// How many holders are named.
const HOLDERS_MAX: usize = 5;

/// The process that serves a mount, watched from before it is asked to end: its number may be another's after.
pub(super) struct Daemon {
    pid: Pid,
    process: OwnedFd,
}

/// Runs the command.
pub(super) fn run(arguments: &UmountArguments) -> Result<()> {
    if arguments.ask {
        return ask(&arguments.mountpoint);
    }
    let path = mounts::absolute(&arguments.mountpoint)?;
    let wait = Duration::from_secs(arguments.wait);
    let (is_dead, pid) = match asked(&path, wait) {
        // By force, it need not answer.
        Err(_) if arguments.force => (false, None),
        answered => answered?,
    };
    if is_dead {
        return detach(&path);
    }
    if !mounts::mount_points()?.contains(&path) {
        return Err(match mounts::mount_of(&path) {
            Ok(_) => mounts::no_mount(&path),
            Err(_) => Error::Store(format!("no store is mounted at {}", path.display())),
        });
    }
    let daemon = pid.and_then(|pid| pid.parse().ok());
    // One that can't be seen from here is not waited for.
    let daemon = daemon.and_then(Pid::from_raw).and_then(Daemon::watch);
    if arguments.force {
        // The connection is cut, and the daemon ends what is under way.
        mounts::cut_off(&path)?;
        detach(&path)?;
    } else {
        drain(&path, wait, daemon.as_ref())?;
    }
    daemon.map_or(Ok(()), |daemon| daemon.wait_for_end(wait))
}

/// Takes a mount off that nobody serves.
fn detach(path: &Path) -> Result<()> {
    match mounts::unmount(path, UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        Err(Unmount::Busy) => Err(Error::Busy(format!("{} is busy", path.display()))),
        Err(Unmount::Failed(error)) => Err(error),
    }
}

/// What a process that was sent to ask says of a mount whose daemon has died.
const DEAD: &str = "dead";

/// Asks a mount whether its daemon has died and, if not, which process that is. Another process does so: the kernel lets
/// none go that waits for a daemon which has taken its question and was stopped then.
///
/// # Errors
/// It gives no answer within a time.
fn asked(path: &Path, wait: Duration) -> Result<(bool, Option<String>)> {
    let failed = |error| Error::io("ask", path, error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(["umount", "--ask", "--"])
        .arg(path)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (answer, answered) = mpsc::channel();
    let output = child.stdout.take();
    std::thread::spawn(move || {
        let mut said = String::new();
        let heard = output.map(|mut output| output.read_to_string(&mut said));
        // Whoever asked may have given up.
        let _ = answer.send(heard.is_some_and(|heard| heard.is_ok()).then_some(said));
    });
    match answered.recv_timeout(wait.max(ANSWER_MIN)) {
        Ok(said) => {
            child.wait().map_err(failed)?;
            let said = said.unwrap_or_default();
            Ok((said.trim() == DEAD, Some(said.trim().to_owned())))
        }
        Err(_) => {
            // It ends when the daemon goes on or is killed.
            let _ = child.kill();
            let shown = path.display();
            Err(Error::Busy(format!(
                "{shown} stays mounted: its daemon gives no answer, it is stopped or hangs: let it go on, or end it \
                 and take the mount off with `sps umount --force {shown}`"
            )))
        }
    }
}

/// Asks, and says what the answer is.
fn ask(path: &Path) -> Result<()> {
    if mounts::is_dead(path) {
        return print(DEAD);
    }
    print(&view::attribute(path, "pid").unwrap_or_default())
}

/// Takes the mount off as soon as nothing is open on it.
///
/// # Errors
/// After that time it says who has what open, and the mount stays. The daemon died meanwhile.
pub(super) fn drain(path: &Path, wait: Duration, daemon: Option<&Daemon>) -> Result<()> {
    let deadline = Instant::now() + wait;
    loop {
        match mounts::unmount(path, UnmountFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Unmount::Failed(error)) => return Err(error),
            Err(Unmount::Busy)
                if daemon.is_some_and(Daemon::has_ended) && mounts::is_dead(path) =>
            {
                // Nothing is served any more: what is open fails, and is to be closed.
                let _ = mounts::unmount(path, UnmountFlags::DETACH);
                return daemon.map_or(Ok(()), |daemon| daemon.wait_for_end(wait));
            }
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

impl Daemon {
    fn watch(pid: Pid) -> Option<Self> {
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        Some(Self { pid, process })
    }

    /// Whether it ends within a time.
    fn ends_within(&self, wait: Duration) -> Result<bool> {
        let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
        let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let mut watched = [PollFd::new(&self.process, PollFlags::IN)];
        let ready = poll(&mut watched, Some(&timeout));
        ready.map(|ready| ready > 0).map_err(|error| Error::io("wait for", "the daemon", error))
    }

    fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO).unwrap_or(false)
    }

    /// Waits until it has closed the store, so that it can be mounted again at once.
    ///
    /// # Errors
    /// It takes longer, or it did not end by itself and well.
    fn wait_for_end(&self, wait: Duration) -> Result<()> {
        let pid = self.pid.as_raw_nonzero();
        if !self.ends_within(wait)? {
            return Err(Error::Busy(format!(
                "it is unmounted, but its daemon (process {pid}) still works: see sps.log in the store"
            )));
        }
        match self.status() {
            None | Some(0) => Ok(()),
            Some(status) => {
                let how = match status & 0x7f {
                    0 => format!("failed with status {}", status >> 8),
                    signal => format!("was killed by signal {signal}"),
                };
                Err(Error::Store(format!(
                    "it is unmounted, but its daemon (process {pid}) {how} before it was done: mount it \
                     again, and see killed/ for uploads that were cut off"
                )))
            }
        }
    }

    /// Its status as wait(2) has it, where the kernel tells.
    fn status(&self) -> Option<i32> {
        let told = || sys::exit_code(self.process.as_fd()).ok().flatten();
        // As long as its parent has not waited for it, it stands in `/proc`.
        told().or_else(|| {
            let line = std::fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_nonzero()));
            let (_, fields) = line.as_deref().unwrap_or_default().rsplit_once(") Z ")?;
            let last = fields.split_ascii_whitespace().last()?.parse().ok();
            told().or(last)
        })
    }
}
