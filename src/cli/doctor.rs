//! `sps doctor`: is all there that sps needs? What is not, and how to mend it.

use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;
use serde::Serialize;

use super::arguments::DoctorArguments;
use super::table::{render, words};
use super::{mount, mounts, print, print_json};
use crate::error::{Error, Result};
use crate::mountinfo::MountEntry;
use crate::store::LocalStore;
use crate::text::bytes;

/// Less room than this is told of.
const SPACE_MIN: u64 = 1 << 30;

/// Fewer open files than these are told of.
const FILES_MIN: u64 = 4096;

/// A clock that shows an earlier year than this is not set.
const YEAR_MIN: i16 = 2024;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Good,
    /// It works, and less well than it could.
    Warning,
    /// It does not work.
    Bad,
}

/// What was looked at, and what is to be done.
#[derive(Debug, Serialize)]
struct Finding {
    health: Health,
    what: &'static str,
    found: String,
    /// Nothing where it is good.
    advice: Option<&'static str>,
}

impl Finding {
    fn new(
        what: &'static str,
        found: impl Into<String>,
        health: Health,
        advice: &'static str,
    ) -> Self {
        let advice = (health != Health::Good).then_some(advice);
        Self { health, what, found: found.into(), advice }
    }
}

/// Runs the command.
///
/// # Errors
/// Something is bad.
pub(super) fn run(arguments: &DoctorArguments) -> Result<()> {
    let store = mount::store_path(arguments.store.as_deref())?;
    let mut findings = vec![
        kernel(),
        device(),
        helper(),
        passthrough(),
        processes(),
        files(),
        clock(),
        converter(),
    ];
    findings.extend(place(&store));
    findings.extend(mounted(&store)?);
    if arguments.json {
        print_json(&findings)?;
    } else {
        print(&told(&findings))?;
    }
    match findings.iter().filter(|finding| finding.health == Health::Bad).count() {
        0 => Ok(()),
        1 => Err(Error::Store("one thing must be mended: see above".into())),
        count => Err(Error::Store(format!("{count} things must be mended: see above"))),
    }
}

fn told(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let health = match finding.health {
            Health::Good => "good",
            Health::Warning => "warning",
            Health::Bad => "bad",
        };
        let advice = finding.advice.unwrap_or_default();
        [health.into(), finding.what.into(), finding.found.clone(), advice.into()]
    };
    let rows: Vec<[String; 4]> = findings.iter().map(row).collect();
    render([words("HEALTH"), words("WHAT"), words("FOUND"), words("WHAT TO DO")], &rows)
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (health, advice) = match version {
        (0..=5, _) if version < (5, 10) => (Health::Bad, "sps needs Linux 5.10 or newer"),
        _ if version < (6, 9) => {
            (Health::Warning, "from Linux 6.9 on, images are read at the speed of the disk")
        }
        _ if version < (6, 15) => (
            Health::Warning,
            "from Linux 6.15 on, an image whose writer failed after its close is withdrawn",
        ),
        _ if version < (6, 16) => {
            (Health::Warning, "from Linux 6.16 on, listings of many images are fast")
        }
        _ => (Health::Good, ""),
    };
    Finding::new("kernel", format!("Linux {release}"), health, advice)
}

fn device() -> Finding {
    let path = Path::new("/dev/fuse");
    match std::fs::File::options().read(true).write(true).open(path) {
        Ok(_) => Finding::new("/dev/fuse", "can be opened", Health::Good, ""),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::new("/dev/fuse", "is not there", Health::Bad, "modprobe fuse")
        }
        Err(error) => {
            Finding::new("/dev/fuse", error.to_string(), Health::Bad, "chmod 666 /dev/fuse")
        }
    }
}

fn helper() -> Finding {
    let found = on_path("fusermount3");
    let is_root = rustix::process::geteuid().is_root();
    match found {
        Some(path) => Finding::new("fusermount3", path.display().to_string(), Health::Good, ""),
        None if is_root => Finding::new(
            "fusermount3",
            "is not there",
            Health::Warning,
            "ordinary users need it: apt install fuse3",
        ),
        None => Finding::new("fusermount3", "is not there", Health::Bad, "apt install fuse3"),
    }
}

fn passthrough() -> Finding {
    let own = rustix::thread::capabilities(None);
    if own.is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_ADMIN)) {
        Finding::new("passthrough", "this user may", Health::Good, "")
    } else {
        Finding::new(
            "passthrough",
            "this user may not",
            Health::Warning,
            "mounted by root, images are read at the speed of the disk",
        )
    }
}

/// Whether the processes of others can be seen: how a writer ended is read there.
fn processes() -> Finding {
    match std::fs::read_to_string("/proc/1/status") {
        Ok(_) => Finding::new("/proc", "shows all processes", Health::Good, ""),
        Err(_) => Finding::new(
            "/proc",
            "hides processes of others",
            Health::Warning,
            "a writer of another user that fails is not known: mount /proc without hidepid",
        ),
    }
}

fn files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let found = limit.map_or_else(|| "no limit".into(), |limit| format!("{limit} at most"));
    let health =
        if limit.is_some_and(|limit| limit < FILES_MIN) { Health::Warning } else { Health::Good };
    Finding::new("open files", found, health, "raise it: ulimit -Hn, or LimitNOFILE= of the unit")
}

fn clock() -> Finding {
    let now = jiff::Timestamp::now();
    let year = now.to_zoned(jiff::tz::TimeZone::UTC).year();
    let health = if year < YEAR_MIN { Health::Bad } else { Health::Good };
    Finding::new("clock", now.to_string(), health, "set it: timedatectl set-ntp true")
}

fn converter() -> Finding {
    match on_path("qemu-img") {
        Some(path) => Finding::new("qemu-img", path.display().to_string(), Health::Good, ""),
        None => Finding::new(
            "qemu-img",
            "is not there",
            Health::Warning,
            "tasks of the type convert need it: apt install qemu-utils",
        ),
    }
}

/// What is said of the place of the store.
fn place(store: &Path) -> Vec<Finding> {
    let shown = store.display().to_string();
    let Some(there) = store.ancestors().find(|path| path.is_dir()) else {
        return vec![Finding::new("store", shown, Health::Bad, "choose another with --store")];
    };
    let mut findings = Vec::new();
    if rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() {
        let found = format!("{} can't be written", there.display());
        findings.push(Finding::new(
            "store",
            found,
            Health::Bad,
            "run as its owner, or choose another with --store",
        ));
    } else if there == store {
        findings.push(match LocalStore::inspect(store) {
            Ok(found) => Finding::new("store", format!("{shown}: {found}"), Health::Good, ""),
            Err(error) => {
                Finding::new("store", error.to_string(), Health::Bad, "name a store with --store")
            }
        });
    } else {
        findings.push(Finding::new("store", format!("{shown} is to be made"), Health::Good, ""));
    }
    match rustix::fs::statvfs(there) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let health = if free < SPACE_MIN { Health::Warning } else { Health::Good };
            let advice = "remove images and `sps scrub`, or move the store to a larger disk";
            findings.push(Finding::new("space", format!("{} free", bytes(free)), health, advice));
        }
        Err(error) => {
            findings.push(Finding::new(
                "space",
                error.to_string(),
                Health::Bad,
                "look after the disk",
            ));
        }
    }
    findings
}

/// What is said of the mounts there are. One of another store is not what was asked about.
fn mounted(store: &Path) -> Result<Vec<Finding>> {
    let look = |mount: MountEntry| {
        let shown = format!("{} on {}", mount.source.display(), mount.path.display());
        if !mounts::is_dead(&mount.path) {
            return Finding::new("mount", shown, Health::Good, "");
        }
        let health = if mount.source == store { Health::Bad } else { Health::Warning };
        let found = format!("{shown}: its daemon has died");
        let advice = "mount it again with `sps mount`, which clears what is left";
        Finding::new("mount", found, health, advice)
    };
    Ok(mounts::all()?.into_iter().map(look).collect())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
