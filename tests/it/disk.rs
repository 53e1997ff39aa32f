//! A disk for tests, served through FUSE by the test itself below a store. It knows what was synced, and says what a
//! power cut leaves; it fails, fills up, becomes read-only and stands still when it is told to.
//!
//! Whoever waits for a filesystem that his own process serves can't be killed. So nothing here waits for ever: a disk that
//! is frozen thaws by itself, and one that is dropped, or is too old, is aborted and unmounted, whatever it is at. And the
//! tests map no file of a disk: while one is unmapped, whoever serves it gets no memory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fuser::{Errno, INodeNo, MountOption, SessionACL};
use parking_lot::{Condvar, Mutex};
use rustix::mount::UnmountFlags;
use tempfile::TempDir;

pub mod machine;
mod serve;
mod state;
mod trials;

pub use state::{Cut, State};

use state::{Effect, Inode, Kind, PAGE, ROOT};

/// How long a disk stands still at most.
const FROZEN_MAX: Duration = Duration::from_secs(60);

/// How long a disk lives at most.
const LIFE_MAX: Duration = Duration::from_secs(120);

/// How large a disk is that nobody made smaller.
const CAPACITY: u64 = 1 << 30;

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Read,
    Write,
    Fsync,
    Create,
    Link,
    Unlink,
    Rename,
    Truncate,
    Open,
    Attributes,
}

impl Op {
    /// Whether it changes what is on the disk, or makes a change durable.
    const fn is_change(self) -> bool {
        !matches!(self, Self::Read | Self::Open)
    }
}

/// Which of the operations that a fault is for fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The one of that number, from 1 on.
    Nth(u64),
    Always,
}

/// What becomes of a disk at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The power is cut before it.
    Cut,
    /// It waits, and all after it.
    Freeze,
}

struct Fault {
    op: Op,
    part: String,
    when: When,
    errno: i32,
    seen: u64,
    hits: u64,
}

/// What is done to the disk from outside.
#[derive(Default)]
struct Orders {
    faults: Vec<Fault>,
    is_read_only: bool,
    /// Nothing comes through any more: the power is off.
    is_off: bool,
    /// After how many changes the power is to be cut.
    cut_after: Option<u64>,
    /// At which operation it is, or all is to stand still.
    stop_at: Option<(Op, String, Stop)>,
    changes: u64,
    done: Vec<(Op, String)>,
}

/// What the thread that serves and the test both have.
struct Shared {
    state: Mutex<State>,
    orders: Mutex<Orders>,
    frozen: Mutex<Option<Instant>>,
    thawed: Condvar,
    capacity: AtomicU64,
    is_off: AtomicBool,
    /// The process that dies with the power.
    daemon: Mutex<Option<i32>>,
}

impl Shared {
    fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            orders: Mutex::default(),
            frozen: Mutex::default(),
            thawed: Condvar::new(),
            capacity: AtomicU64::new(CAPACITY),
            is_off: AtomicBool::new(false),
            daemon: Mutex::default(),
        }
    }

    /// Waits until the disk is not frozen.
    fn wait_until_thawed(&self) {
        let mut frozen = self.frozen.lock();
        while let Some(until) = *frozen {
            if self.thawed.wait_until(&mut frozen, until).timed_out() {
                *frozen = None;
            }
        }
    }

    /// Whether an operation may be done; counts it.
    fn admit(&self, op: Op, path: &str) -> Result<(), Errno> {
        // The index of the log is memory, and the daemon's own log is nobody's promise.
        if path.ends_with("-shm") {
            return if self.is_off.load(Ordering::Acquire) { Err(Errno::EIO) } else { Ok(()) };
        }
        let mut orders = self.orders.lock();
        if orders.is_off {
            return Err(Errno::EIO);
        }
        let stop = orders.stop_at.take_if(|(at, part, _)| *at == op && is_meant(part, path));
        match stop {
            Some((_, _, Stop::Cut)) => orders.cut_after = Some(orders.changes),
            Some((_, _, Stop::Freeze)) => {
                drop(orders);
                *self.frozen.lock() = Some(Instant::now() + FROZEN_MAX);
                self.wait_until_thawed();
                return self.admit(op, path);
            }
            None => {}
        }
        if op.is_change() && !path.ends_with("sps.log") {
            if orders.cut_after == Some(orders.changes) {
                orders.is_off = true;
                self.is_off.store(true, Ordering::Release);
                drop(orders);
                self.kill_daemon();
                return Err(Errno::EIO);
            }
            orders.changes += 1;
            orders.done.push((op, path.to_owned()));
        }
        for fault in &mut orders.faults {
            if fault.op == op && is_meant(&fault.part, path) {
                fault.seen += 1;
                if fault.when == When::Always || fault.when == When::Nth(fault.seen) {
                    fault.hits += 1;
                    return Err(Errno::from_i32(fault.errno));
                }
            }
        }
        if orders.is_read_only && op.is_change() && op != Op::Fsync {
            return Err(Errno::EROFS);
        }
        Ok(())
    }

    fn kill_daemon(&self) {
        if let Some(pid) = *self.daemon.lock() {
            crate::support::signal(pid, "KILL");
        }
    }

    fn cut_power(&self) {
        self.orders.lock().is_off = true;
        self.is_off.store(true, Ordering::Release);
        // What waits has failed.
        self.thaw();
    }

    fn thaw(&self) {
        *self.frozen.lock() = None;
        self.thawed.notify_all();
    }
}

/// What ends a disk when its time is over.
#[derive(Default)]
struct Watch {
    is_over: Mutex<bool>,
    changed: Condvar,
}

/// A mounted disk. Dropping it ends it, whoever uses it.
pub struct Disk {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    watchdog: Option<std::thread::JoinHandle<()>>,
    session: Option<fuser::BackgroundSession>,
    directory: TempDir,
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::of(State::default())
    }

    /// A disk with what another one has, or had left.
    pub fn of(state: State) -> Self {
        let directory =
            tempfile::Builder::new().prefix("sps-disk-").tempdir().expect("a directory");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).expect("chmod");
        let shared = Arc::new(Shared::new(state));
        let mut config = fuser::Config::default();
        config.acl = SessionACL::All;
        config.mount_options = vec![
            // Not a word of what other tools may take for this one.
            MountOption::FSName("disk-of-tests".into()),
            MountOption::NoSuid,
            MountOption::NoDev,
        ];
        let served = serve::Served(Arc::clone(&shared));
        let session = fuser::Session::new(served, directory.path(), &config).expect("a mount");
        let session = session.spawn().expect("a thread");
        let watch = Arc::new(Watch::default());
        let watchdog = {
            let (shared, watch) = (Arc::clone(&shared), Arc::clone(&watch));
            let path = directory.path().to_owned();
            std::thread::spawn(move || {
                let until = Instant::now() + LIFE_MAX;
                let mut is_over = watch.is_over.lock();
                while !*is_over {
                    if watch.changed.wait_until(&mut is_over, until).timed_out() {
                        drop(is_over);
                        eprintln!("{} is too old and is aborted", path.display());
                        abort(&shared, &path);
                        return;
                    }
                }
            })
        };
        Self { shared, watch, watchdog: Some(watchdog), session: Some(session), directory }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Has the process killed at the moment when the power is cut.
    pub fn feeds(&self, daemon: i32) {
        *self.shared.daemon.lock() = Some(daemon);
    }

    /// Lets the power be cut after so many changes from now on.
    pub fn cut_after(&self, changes: u64) {
        let mut orders = self.shared.orders.lock();
        orders.changes = 0;
        orders.done.clear();
        orders.cut_after = Some(changes);
    }

    /// Lets the disk stop at the next such operation on a file whose path has `part` in it.
    pub fn stop_at(&self, op: Op, part: &str, stop: Stop) {
        self.shared.orders.lock().stop_at = Some((op, part.to_owned(), stop));
    }

    /// Whether it stands still.
    pub fn is_frozen(&self) -> bool {
        self.shared.frozen.lock().is_some()
    }

    /// What was changed or synced since that was last asked, in order.
    pub fn take_done(&self) -> Vec<(Op, String)> {
        let mut orders = self.shared.orders.lock();
        orders.changes = 0;
        std::mem::take(&mut orders.done)
    }

    /// How many changes there were since that was last asked.
    pub fn changes(&self) -> u64 {
        self.shared.orders.lock().changes
    }

    /// Cuts the power now.
    pub fn cut(&self) {
        self.shared.cut_power();
        self.shared.kill_daemon();
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.shared.is_off.load(Ordering::Acquire)
    }

    /// All that is on it, and what of that is not synced.
    pub fn state(&self) -> State {
        self.shared.state.lock().clone()
    }

    /// What is left after a power cut.
    pub fn left(&self, cut: Cut, seed: u64) -> State {
        self.shared.state.lock().left(cut, seed)
    }

    /// The names of all files below a path, as they are seen now.
    pub fn files(&self, path: &str) -> BTreeSet<String> {
        self.shared.state.lock().files(path)
    }

    /// Lets operations fail on files whose path has `part` in it, or ends with it where `part` ends with `$`.
    pub fn fail(&self, op: Op, part: &str, when: When, errno: i32) {
        let part = part.to_owned();
        let fault = Fault { op, part, when, errno, seen: 0, hits: 0 };
        self.shared.orders.lock().faults.push(fault);
    }

    /// How many operations have failed.
    pub fn hits(&self) -> u64 {
        self.shared.orders.lock().faults.iter().map(|fault| fault.hits).sum()
    }

    /// Ends all faults. Answers how many operations have failed.
    pub fn heal(&self) -> u64 {
        let hits = self.hits();
        self.shared.orders.lock().faults.clear();
        hits
    }

    /// How large the disk is, in bytes; what is on it stays.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.capacity.store(bytes, Ordering::Release);
    }

    /// Leaves so much room, in bytes.
    pub fn leave_room(&self, bytes: u64) {
        let used = self.shared.state.lock().used();
        self.set_capacity(used + bytes);
    }

    /// Makes the kernel forget what it has of the files whose path has `part` in it, so that it reads them again.
    pub fn forget_pages(&self, part: &str) {
        let numbers = self.shared.state.lock().numbers(|path| is_meant(part, path));
        let notifier = self.session.as_ref().map(fuser::BackgroundSession::notifier);
        for number in numbers {
            // What it has nothing of is not there.
            let _ = notifier.as_ref().map(|kernel| kernel.inval_inode(INodeNo(number), 0, 0));
        }
    }

    /// Whether changes are refused.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.shared.orders.lock().is_read_only = is_read_only;
    }

    /// Lets the disk stand still: whatever is asked of it waits. It thaws by itself after a minute.
    pub fn freeze(&self) {
        *self.shared.frozen.lock() = Some(Instant::now() + FROZEN_MAX);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.shared.thaw();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        abort(&self.shared, self.directory.path());
        *self.watch.is_over.lock() = true;
        self.watch.changed.notify_all();
        // The kernel has told the thread that serves of the end.
        self.session.take().map(fuser::BackgroundSession::join);
        self.watchdog.take().map(std::thread::JoinHandle::join);
    }
}

/// Ends the connection: whoever waits for the disk gets an error.
fn abort(shared: &Shared, path: &Path) {
    shared.cut_power();
    shared.thaw();
    shared.kill_daemon();
    // MNT_FORCE aborts the connection; it is not mounted any more if that was done before.
    let _ = rustix::mount::unmount(path, UnmountFlags::FORCE | UnmountFlags::DETACH);
}

fn is_meant(part: &str, path: &str) -> bool {
    part.strip_suffix('$').map_or_else(|| path.contains(part), |end| path.ends_with(end))
}
