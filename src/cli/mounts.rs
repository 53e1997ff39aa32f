//! What is mounted, as `/proc/self/mountinfo` tells, and how it is taken off.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::UnmountFlags;

use crate::error::{Error, Result};
use crate::mountinfo::{self, MountEntry};

/// The type under which the kernel lists a mount of sps.
const TYPE: &str = "fuse.sps";

/// The mounts of stores, in the order in which they were made.
pub(super) fn all() -> Result<Vec<MountEntry>> {
    let table = std::fs::read("/proc/self/mountinfo")
        .map_err(|error| Error::io("read", "/proc/self/mountinfo", error))?;
    Ok(mountinfo::parse(&table).filter(|entry| entry.kind == TYPE).collect())
}

/// The places where a store is mounted, in the order in which that was done.
pub(super) fn mount_points() -> Result<Vec<PathBuf>> {
    Ok(all()?.into_iter().map(|entry| entry.path).collect())
}

/// The absolute path of a place where a store is mounted.
///
/// # Errors
/// None is mounted there.
pub(super) fn mounted_at(path: &Path) -> Result<PathBuf> {
    let root = absolute(path)?;
    if mount_points()?.contains(&root) { Ok(root) } else { Err(no_mount(path)) }
}

/// What is said where no store is mounted.
pub(super) fn no_mount(path: &Path) -> Error {
    let shown = path.display();
    Error::Usage(match mount_of(path) {
        Ok(mount) => format!("{shown} is inside of a mount: say {}", mount.display()),
        Err(_) => format!("no store is mounted at {shown}: see `sps mount --help`"),
    })
}

/// The mount that was named, or the only one there is.
///
/// # Errors
/// No store is mounted there, or several are and none was named.
pub(super) fn chosen(named: Option<&Path>) -> Result<PathBuf> {
    let Some(path) = named else { return only_mount_point() };
    // It need not be mounted by sps itself: over a network it looks the same. What else is wrong shows when it is read.
    match std::fs::metadata(path.join(".sps")) {
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            Err(no_mount(path))
        }
        Ok(_) | Err(_) => Ok(path.to_owned()),
    }
}

/// The only mount there is, for commands that were not told which.
fn only_mount_point() -> Result<PathBuf> {
    let mounts = mount_points()?;
    match mounts.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Error::Usage("no store is mounted: see `sps mount --help`".into())),
        several => {
            let shown: Vec<String> =
                several.iter().map(|mount| mount.display().to_string()).collect();
            Err(Error::Usage(format!("say which mount point: {}", shown.join(", "))))
        }
    }
}

/// The mount that a path is in.
///
/// # Errors
/// It is in none.
pub(super) fn mount_of(path: &Path) -> Result<PathBuf> {
    let absolute = absolute(path)?;
    let around = mount_points()?.into_iter().filter(|mount| absolute.starts_with(mount));
    around.max_by_key(|mount| mount.as_os_str().len()).ok_or_else(|| {
        Error::Usage(format!("{} is not in a mount of sps: see `sps mount --help`", path.display()))
    })
}

/// The absolute path of a mount point, without asking what is mounted there: that may be dead.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    let missing = |error| match error {
        rustix::io::Errno::NOENT => Error::Store(format!("{shown} is not there: mkdir -p {shown}")),
        other => Error::io("find", path, other),
    };
    match path.file_name() {
        // A dead mount can't be resolved itself; the folder that it is in can.
        Some(name) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            let parent = parent.canonicalize().map_err(|error| {
                missing(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
            })?;
            let joined = parent.join(name);
            match joined.read_link() {
                Ok(_) => joined.canonicalize().map_err(|error| Error::io("find", path, error)),
                Err(_) => Ok(joined),
            }
        }
        None => path.canonicalize().map_err(|error| Error::io("find", path, error)),
    }
}

/// Whether what is mounted there has lost its daemon. Attributes would not tell: the kernel keeps them.
pub(super) fn is_dead(path: &Path) -> bool {
    // What was asked when the daemon died is given up by the kernel; what is asked later is refused.
    let gone = [rustix::io::Errno::NOTCONN, rustix::io::Errno::CONNABORTED];
    rustix::fs::statvfs(path).is_err_and(|error| gone.contains(&error))
}

/// Cuts the connection between the kernel and the daemon of a mount: all that is asked of it fails from then on.
pub(super) fn cut_off(path: &Path) -> Result<()> {
    let failed = |error| Error::io("cut off", path, error);
    match rustix::mount::unmount(path, UnmountFlags::FORCE) {
        Ok(()) | Err(rustix::io::Errno::BUSY) => return Ok(()),
        Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(failed(error.into())),
    }
    // Whoever mounted it may do so here.
    let table = std::fs::read("/proc/self/mountinfo")
        .map_err(|error| Error::io("read", "/proc/self/mountinfo", error))?;
    let entry = mountinfo::parse(&table).rfind(|entry| entry.path == path);
    let device = entry.map(|entry| entry.device).unwrap_or_default();
    let connection = device.rsplit(':').next().unwrap_or_default();
    std::fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1").map_err(failed)
}

/// Takes a mount off. Busy is an answer of its own.
pub(super) fn unmount(path: &Path, flags: UnmountFlags) -> std::result::Result<(), Unmount> {
    match rustix::mount::unmount(path, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(Unmount::Busy),
        Err(rustix::io::Errno::PERM) => by_helper(path, flags),
        Err(error) => Err(Unmount::Failed(Error::io("unmount", path, error))),
    }
}

/// Why a mount was not taken off.
pub(super) enum Unmount {
    /// Something is open on it.
    Busy,
    /// Anything else.
    Failed(Error),
}

/// An ordinary user's mounts are taken off by the helper that made them.
fn by_helper(path: &Path, flags: UnmountFlags) -> std::result::Result<(), Unmount> {
    let mut helper = Command::new("fusermount3");
    helper.arg("-u");
    if flags.contains(UnmountFlags::DETACH) {
        helper.arg("-z");
    }
    let failed = |what: String| Unmount::Failed(Error::Store(what));
    let output = helper
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("fusermount3: {error}: apt install fuse3")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else if said.contains("busy") {
        Err(Unmount::Busy)
    } else if said.contains("not found in") {
        let shown = path.display();
        Err(failed(format!("{shown} was mounted by another user, who alone may unmount it")))
    } else {
        Err(failed(said.trim().to_owned()))
    }
}

/// Who has something open below a path: process number, name, and what it has. Links in `/proc` are
/// read, never followed: that would ask the mount.
pub(super) fn holders(path: &Path) -> Vec<String> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter(|entry| {
            let number = entry.file_name().to_string_lossy().parse::<u32>();
            number.is_ok_and(|number| number != std::process::id())
        })
        .filter_map(|entry| {
            let process = entry.path();
            let held = held_by(&process, path)?;
            let name = std::fs::read(process.join("comm")).unwrap_or_default();
            let name = String::from_utf8_lossy(&name);
            let pid = entry.file_name();
            Some(format!("{} ({}) has {}", name.trim(), pid.display(), held.display()))
        })
        .collect()
}

fn held_by(process: &Path, path: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let links = files.map(|entry| entry.path()).chain([process.join("cwd"), process.join("root")]);
    links.filter_map(|link| link.read_link().ok()).find(|target| target.starts_with(path))
}
