//! Who is closing this descriptor, why, and who still holds it: read from `/proc`.
//!
//! A FLUSH carries the thread id of its caller, and the kernel keeps the caller's entry in `/proc` until it
//! has the answer. Nothing here touches the mount itself: that would be a request to oneself.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::process::PidfdFlags;
use signal_hook::low_level::signal_name;

use crate::error::{Error, Result};
use crate::mountinfo;
use crate::sys;

/// How far up the family of a process is looked.
const ANCESTORS_MAX: usize = 64;

/// The process is on its way out: `PF_EXITING` of the kernel's `sched.h`.
const PF_EXITING: u64 = 0x4;

/// The number of a process (not of one of its threads).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pid(u32);

/// Why a descriptor is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The caller closes it and lives on.
    Close,
    /// The caller is ending with this exit status.
    Exit(u32),
    /// The caller is ending by this signal.
    Signal(i32),
    /// It can't be known: the caller is in another pid namespace, or not ours to look at.
    Unknown,
}

impl Ending {
    /// What a status of wait(2) says: the signal in the low seven bits, or the exit status above.
    fn of_code(code: u32) -> Self {
        match code & 0x7f {
            0 => Self::Exit((code >> 8) & 0xff),
            signal => Self::Signal(i32::try_from(signal).unwrap_or(0)),
        }
    }

    /// Why an upload of this caller has failed, if it has.
    pub(crate) fn failure(self) -> Option<String> {
        match self {
            Self::Close | Self::Unknown | Self::Exit(0) => None,
            Self::Exit(status) => Some(format!("its writer exited with status {status}")),
            Self::Signal(number) => {
                let name = signal_name(number);
                let name = name.map_or_else(|| format!("signal {number}"), str::to_owned);
                Some(format!("its writer was killed by {name}"))
            }
        }
    }
}

/// The process that a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    thread: u32,
    uid: u32,
}

/// Which mount this is, as `/proc/PID/fdinfo` and `mountinfo` name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountIdentity {
    path: PathBuf,
    mount_id: String,
    device: String,
}

/// What `/proc/PID/status` tells. Reading it never waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Family {
    process: Pid,
    parent: Pid,
    /// A process that is ending has given its memory back before it closes its files.
    has_memory: bool,
}

/// What `/proc/PID/stat` tells. Reading it waits while the process is in execve(2), which in turn waits
/// for the answer to each FLUSH of what it closes there: only of a process without memory is it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exit {
    is_zombie: bool,
    flags: u64,
    exit_code: u32,
}

impl Pid {
    /// A descriptor of the process, by which it can be watched.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0).ok()?)?;
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
    }

    /// Whether there is such a process, and it has not ended.
    pub(crate) fn is_alive(self) -> bool {
        Family::of(self).is_some_and(|family| family.has_memory)
    }

    /// How the process ended, which its descriptor says that it has.
    pub(crate) fn ending_of(self, descriptor: BorrowedFd<'_>) -> Ending {
        // As long as nobody has waited for it, it is a zombie in `/proc`; after that the descriptor
        // knows. It may be waited for between the two questions.
        let told = || sys::exit_code(descriptor).ok().flatten().map(i32::cast_unsigned);
        let code = told().or_else(|| {
            let zombie = Exit::of(self).filter(|exit| exit.is_zombie);
            told().or(zombie.map(|exit| exit.exit_code))
        });
        code.map_or(Ending::Unknown, Ending::of_code)
    }
}

impl Caller {
    /// The caller with this thread id and user id, as a request gives them.
    pub(crate) const fn new(thread: u32, uid: u32) -> Self {
        Self { thread, uid }
    }

    /// The thread id.
    pub(crate) const fn thread(self) -> u32 {
        self.thread
    }

    /// The process that the thread belongs to.
    pub(crate) fn process(self) -> Option<Pid> {
        Family::of(Pid(self.thread)).map(|family| family.process)
    }

    /// The supplementary groups of the caller, if they can be seen. He waits for his answer meanwhile.
    pub(crate) fn groups(self) -> Option<Vec<u32>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.thread)).ok()?;
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"))?;
        groups.split_ascii_whitespace().map(|gid| gid.parse().ok()).collect()
    }

    /// Why the caller closes a descriptor.
    ///
    /// # Errors
    /// This process has no descriptor left to look with: a writer that failed could not be told from one that did not.
    pub(crate) fn ending(self) -> Result<Ending> {
        match fs::File::open(format!("/proc/{}/status", self.thread)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("look at", "/proc", error))
            }
            Ok(_) | Err(_) => Ok(self.ending_seen()),
        }
    }

    fn ending_seen(self) -> Ending {
        match Family::of(Pid(self.thread)) {
            None => return Ending::Unknown,
            Some(family) if family.has_memory => return Ending::Close,
            Some(_) => {}
        }
        let Some(exit) = Exit::of(Pid(self.thread)) else {
            return Ending::Unknown;
        };
        if exit.flags & PF_EXITING == 0 {
            return Ending::Close;
        }
        let own = rustix::process::geteuid();
        // The exit code of a process that this one may not trace reads as 0.
        if !own.is_root() && own.as_raw() != self.uid {
            return Ending::Unknown;
        }
        Ending::of_code(exit.exit_code)
    }

    /// Whether the caller, or an ancestor who may have lent it the file, has the file open by another
    /// descriptor. The file was opened by `opener`: nobody above him can have it.
    pub(crate) fn still_holds(
        self,
        opener: Option<Pid>,
        inode: u64,
        mount: &MountIdentity,
    ) -> bool {
        let mut pid = self.process().unwrap_or(Pid(self.thread));
        for _ in 0..ANCESTORS_MAX {
            if mount.is_held_by(pid, inode) {
                return true;
            }
            if Some(pid) == opener {
                return false;
            }
            match Family::of(pid) {
                Some(family) if family.parent.0 > 0 => pid = family.parent,
                Some(_) | None => return false,
            }
        }
        false
    }
}

impl Family {
    fn of(pid: Pid) -> Option<Self> {
        Self::parse(&text(format!("/proc/{}/status", pid.0))?)
    }

    /// Parses the text of proc_pid_status(5).
    fn parse(text: &str) -> Option<Self> {
        let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        Some(Self {
            process: Pid(field("Tgid:")?.parse().ok()?),
            parent: Pid(field("PPid:")?.parse().ok()?),
            has_memory: field("VmSize:").is_some(),
        })
    }
}

impl Exit {
    fn of(pid: Pid) -> Option<Self> {
        Self::parse(&text(format!("/proc/{}/stat", pid.0))?)
    }

    /// Parses the line of proc_pid_stat(5). The name in it may have spaces and parentheses.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.rsplit_once(')')?;
        // The first field after the name is field 3.
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            is_zombie: field(3)? == "Z",
            flags: field(9)?.parse().ok()?,
            exit_code: field(52)?.parse().ok()?,
        })
    }
}

impl MountIdentity {
    /// The identity of what is mounted at `mount_point`, seen from this process.
    pub(crate) fn of(mount_point: &Path) -> Option<Self> {
        let table = fs::read("/proc/self/mountinfo").ok()?;
        Self::find(&table, mount_point)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Finds the last mount at a path in the text of proc_pid_mountinfo(5).
    fn find(table: &[u8], mount_point: &Path) -> Option<Self> {
        let found = mountinfo::parse(table).rfind(|entry| entry.path == mount_point)?;
        Some(Self { path: found.path, mount_id: found.mount_id, device: found.device })
    }

    fn is_held_by(&self, pid: Pid, inode: u64) -> bool {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fdinfo", pid.0)) else {
            return false;
        };
        entries.flatten().any(|entry| {
            let Some(info) = text(entry.path()) else {
                return false;
            };
            let value =
                |key: &str| info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
            let has_inode = value("ino:").and_then(|ino| ino.parse().ok()) == Some(inode);
            has_inode && value("mnt_id:").is_some_and(|id| self.is_mount_of(pid, id))
        })
    }

    /// Whether a mount id in the mount namespace of `pid` is this filesystem.
    fn is_mount_of(&self, pid: Pid, mount_id: &str) -> bool {
        if mount_id == self.mount_id {
            return true;
        }
        let table = fs::read(format!("/proc/{}/mountinfo", pid.0)).unwrap_or_default();
        mountinfo::parse(&table)
            .any(|entry| entry.mount_id == mount_id && entry.device == self.device)
    }
}

/// The text of a file of `/proc`. The name of a process in it may be no text: a name is cut to fifteen bytes.
fn text(path: impl AsRef<Path>) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_is() {
        // Field 3 is the state, 4 the parent, 9 the flags, 52 the exit code.
        let mut fields = vec!["0"; 50];
        fields[0] = "S";
        fields[1] = "77";
        fields[6] = "4194308";
        fields[49] = "768";
        let tail = fields.join(" ");
        for name in ["(cp)", "(a b)", "(x) S 1 (y)", "())"] {
            let exit = Exit::parse(&format!("42 {name} {tail}")).expect("a full line");
            assert_eq!(exit, Exit { is_zombie: false, flags: 4_194_308, exit_code: 768 });
        }
        assert_eq!(Exit::parse("42 (cp"), None);
        assert_eq!(Exit::parse("42 (cp) S 1"), None);
    }

    #[test]
    fn a_process_that_gave_its_memory_back_is_told_from_one_that_has_it() {
        let text = "Name:\tcp\nState:\tR (running)\nTgid:\t42\nPid:\t43\nPPid:\t7\n";
        let ending = Family::parse(text).expect("a status");
        let expected = Family { process: Pid(42), parent: Pid(7), has_memory: false };
        assert_eq!(ending, expected);
        let alive = Family::parse(&format!("{text}VmSize:\t  5000 kB\n")).expect("a status");
        assert!(alive.has_memory);
    }

    #[test]
    fn a_mount_is_found_by_its_path_with_spaces_and_the_upper_one_of_two() {
        let table = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                     30 22 0:40 / /mnt/a\\040b rw - fuse.sps sps rw\n\
                     31 22 0:41 / /mnt/a\\040b rw - fuse.sps sps rw\n";
        let found =
            MountIdentity::find(table.as_bytes(), Path::new("/mnt/a b")).expect("it is there");
        assert_eq!(found.path(), Path::new("/mnt/a b"));
        assert_eq!((found.mount_id, found.device), ("31".into(), "0:41".into()));
        assert_eq!(MountIdentity::find(table.as_bytes(), Path::new("/mnt/a")), None);
    }

    #[test]
    fn only_an_end_that_is_not_success_is_a_failure() {
        for fine in [Ending::Close, Ending::Exit(0), Ending::Unknown] {
            assert_eq!(fine.failure(), None);
        }
        assert_eq!(Ending::Exit(3).failure().as_deref(), Some("its writer exited with status 3"));
        let killed = Ending::Signal(9).failure();
        assert_eq!(killed.as_deref(), Some("its writer was killed by SIGKILL"));
    }
}
