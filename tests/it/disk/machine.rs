//! A machine whose power can be cut: a disk of the tests, a store on it, and the real daemon that has it mounted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::mount::UnmountFlags;
use sps::lifecycle::Status;
use tempfile::TempDir;

use super::{Disk, State};
use crate::support::{attribute, eventually, names_in, pattern, signal};

/// Where on the disk the store is: in directories that are new with it.
const STORE: &str = "var/lib/sps";

/// A disk, and what runs on it.
pub struct Machine {
    pub disk: Disk,
    daemon: Option<Child>,
    place: TempDir,
    options: Vec<String>,
}

impl Machine {
    /// A machine with that disk, on which nothing runs yet.
    pub fn with(state: State, options: &[&str]) -> Self {
        let place = tempfile::Builder::new().prefix("sps-machine-").tempdir().expect("a directory");
        std::fs::create_dir(place.path().join("mnt")).expect("a mount point");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { disk: Disk::of(state), daemon: None, place, options }
    }

    /// The same, with the store mounted.
    pub fn boot(state: State, options: &[&str]) -> Self {
        let mut machine = Self::with(state, options);
        machine.start().unwrap_or_else(|told| panic!("the daemon does not start: {told}"));
        machine
    }

    /// Where the store is.
    pub fn store(&self) -> PathBuf {
        self.disk.path().join(STORE)
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.place.path().join("mnt")
    }

    /// A path in the mount.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// The daemon's process number.
    pub fn pid(&self) -> i32 {
        self.daemon.as_ref().expect("a daemon").id() as i32
    }

    /// Starts the daemon, and waits until it is ready; says what it said if it is not.
    pub fn start(&mut self) -> Result<(), String> {
        let said = self.place.path().join("said");
        let errors = File::create(&said).expect("a file for what is said");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sps"));
        command.args(["mount", "--serve", "-o", "any_filesystem", "--store"]).arg(self.store());
        for option in &self.options {
            command.args(["-o", option]);
        }
        command.arg("--").arg(self.root()).env_remove("RUST_LOG").current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut daemon = command.spawn().expect("started");
        self.disk.feeds(daemon.id() as i32);
        let mut word = String::new();
        let output = daemon.stdout.take().map(|mut output| output.read_to_string(&mut word));
        output.expect("a pipe").expect("a word");
        self.daemon = Some(daemon);
        if word == "ready\n" {
            return Ok(());
        }
        self.kill();
        Err(std::fs::read_to_string(&said).unwrap_or_default())
    }

    /// Kills the daemon.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // It may have ended by itself.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let all = UnmountFlags::FORCE | UnmountFlags::DETACH;
        let _ = rustix::mount::unmount(self.root(), all);
    }

    /// Ends the daemon as `sps umount` does.
    pub fn stop(&mut self) {
        let daemon = self.daemon.take().expect("a daemon");
        signal(daemon.id() as i32, "TERM");
        let daemon = std::cell::RefCell::new(daemon);
        eventually("the daemon ends", || {
            daemon.borrow_mut().try_wait().expect("a child").is_some()
        });
    }

    /// Cuts the power, if it is not off yet.
    pub fn cut(&mut self) {
        self.disk.cut();
        self.kill();
    }

    /// What every folder of the mount holds, as `status/name`, with what can be read of it.
    pub fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        for status in Status::ALL {
            for name in names_in(&self.path(status.name())) {
                let path = format!("{status}/{name}");
                let is_read = matches!(status, Status::Active | Status::Uploading);
                let content = if is_read { known(&self.path(&path)) } else { String::new() };
                tree.insert(path, content);
            }
        }
        tree
    }

    /// Waits until nothing is on its way, and what no image has is given back.
    pub fn settle(&self) {
        eventually("nothing is on its way", || {
            ["importing", "saving"].iter().all(|folder| names_in(&self.path(folder)).is_empty())
        });
        eventually("what no image has is given back", || {
            let blobs = self.disk.files(&format!("{STORE}/blobs"));
            let mut held = BTreeSet::new();
            for folder in ["active", "deactivated", "pending_delete"] {
                let folder = self.path(folder);
                let names = names_in(&folder).into_iter();
                held.extend(names.filter_map(|name| attribute(&folder.join(name), "blake3")));
            }
            blobs.is_subset(&held)
        });
    }

    /// The end of the daemon's log.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.store().join("sps.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(25).collect();
        lines.join("\n")
    }

    /// Checks the store, which nobody has: a copy of it. SQLite maps a part of a database, and to unmap a file of a disk that
    /// one serves oneself is to wait for oneself.
    pub fn audit(&self) {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        // By that `scripts/test` finds what a test that was killed has left there.
        let owner =
            std::env::temp_dir().file_name().map(|name| name.to_string_lossy().into_owned());
        let prefix = format!("{}-audit-", owner.unwrap_or_default());
        let copy = tempfile::Builder::new().prefix(&prefix).tempdir_in(place).expect("a directory");
        self.disk.state().copy_out(STORE, copy.path()).expect("copied");
        crate::support::audit(copy.path());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.disk.is_off() {
            self.disk.thaw();
            eprintln!("--- end of the daemon's log, the latest first\n{}", self.log());
        }
        self.disk.cut();
        self.kill();
    }
}

/// Contents by name. Each is known again when it is read.
const SIZES: [(&str, usize); 8] = [
    ("kept", 64_000),
    ("old", 48_000),
    ("new", 200_000),
    ("trash", 32_000),
    ("staged", 150_000),
    ("big", 3_000_000),
    ("small", 700),
    ("reopened", 90_000),
];

/// How long the sparse content is, and where it has data.
const SPARSE: (u64, [u64; 2]) = (8 << 20, [1 << 20, 5 << 20]);

/// The bytes of a content.
pub fn content(name: &str) -> Vec<u8> {
    if name == "sparse" {
        let mut bytes = vec![0; SPARSE.0 as usize];
        for at in SPARSE.1 {
            bytes[at as usize..at as usize + 64_000].copy_from_slice(&content("kept"));
        }
        return bytes;
    }
    let size = SIZES.iter().find(|(known, _)| *known == name).expect("a content").1;
    pattern(name, size)
}

/// Which content a file has.
fn known(path: &Path) -> String {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return format!("unreadable: {error}"),
    };
    if bytes.is_empty() {
        return "empty".into();
    }
    let names = SIZES.iter().map(|(name, _)| *name).chain(["sparse"]);
    let size = |name: &str| match name {
        "sparse" => SPARSE.0 as usize,
        _ => SIZES.iter().find(|(known, _)| *known == name).expect("a content").1,
    };
    let mut names = names.filter(|name| size(name) == bytes.len());
    let found = names.find(|name| content(name) == bytes);
    found.map_or_else(|| format!("{} bytes of something else", bytes.len()), str::to_owned)
}

/// How a file is opened to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    New,
    Replace,
    Again,
}

/// Writes a content in pieces, and closes the file. What any of it answers is answered.
pub fn put(path: &Path, name: &str, door: Door, piece: usize) -> std::io::Result<()> {
    let mut options = File::options();
    options.write(true).mode(0o644);
    match door {
        Door::New => options.create_new(true),
        Door::Replace => options.create(true).truncate(true),
        Door::Again => options.read(true),
    };
    let mut file = options.open(path)?;
    let written = if name == "sparse" {
        fill_sparse(&file)
    } else {
        content(name).chunks(piece).try_for_each(|bytes| file.write_all(bytes))
    };
    let closed = close(file);
    written.and(closed)
}

/// Renames. Whoever is just starting a program has what the test has open, for a moment, so it may be busy.
pub fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    let answer = std::cell::RefCell::new(Ok(()));
    eventually("nobody has it open", || {
        let renamed = std::fs::rename(from, to);
        let is_busy =
            renamed.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY));
        *answer.borrow_mut() = renamed;
        !is_busy
    });
    answer.into_inner()
}

fn fill_sparse(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    file.set_len(SPARSE.0)?;
    SPARSE.1.iter().try_for_each(|at| file.write_all_at(&content("kept"), *at))
}

/// Closes a file, and says what close(2) says, which dropping it does not.
#[allow(unsafe_code, reason = "the descriptor is the file's own, which is given up")]
pub fn close(file: File) -> std::io::Result<()> {
    let closed = unsafe { libc::close(file.into_raw_fd()) };
    if closed == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
