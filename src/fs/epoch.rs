//! What the kernel may keep of names and attributes, and how it is told that they have changed.
//!
//! With each commit a new epoch begins: whatever name the kernel has looked up before, it looks up again.
//! That takes no lock of a folder, so it can be told from any request. Where the kernel knows no epochs it
//! keeps nothing, and where it reads sealed data by asking it does not either: with a name it would drop the
//! pages of the image.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier, Version};
use parking_lot::{Condvar, Mutex};

use super::tree::Node;
use crate::image::ImageNumber;
use crate::metrics;

/// The first version of the protocol that has epochs (Linux 6.16).
const FIRST: (u32, u32) = (7, 44);

/// How long the kernel may keep what only a commit changes.
const KEPT: Duration = Duration::from_secs(3600);

/// How long it may keep what a listing told: of that it notes the epoch only after the answer, so a commit
/// in between passes it by.
const LISTED: Duration = Duration::from_secs(1);

/// When whoever was listing then has noted the epoch: most likely, and for sure.
const NOTED: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(4), Duration::from_millis(20)];

/// `FUSE_NOTIFY_INC_EPOCH`: a `fuse_out_header` with the length, the code where an error would be, and no
/// request that it answers.
const NEXT: [u32; 4] = [16, 8, 0, 0];

/// By which way the kernel is told.
struct Line {
    device: OwnedFd,
    notifier: Notifier,
}

/// When a listing was answered last, and whether the epoch of then must end once more.
#[derive(Default)]
struct Listings {
    answered_at: Option<Instant>,
    is_due: bool,
    is_stopped: bool,
}

/// The epochs of a mount.
#[derive(Default)]
pub(crate) struct Epoch {
    /// Whether the kernel is to keep anything.
    is_kept: AtomicBool,
    line: OnceLock<Line>,
    count: AtomicU64,
    listings: Mutex<Listings>,
    due: Condvar,
}

impl Epoch {
    /// Whether a kernel of that version knows epochs.
    pub(super) fn is_known_to(version: Version) -> bool {
        (version.0, version.1) >= FIRST
    }

    /// Has the kernel keep what it is told, from the first epoch on.
    pub(super) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// Whether the kernel keeps what it is told.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    /// Ends the last epoch: the kernel is to keep nothing from now on.
    pub(crate) fn end(&self) {
        if self.is_kept.swap(false, Ordering::Relaxed) {
            self.tell();
        }
    }

    /// Begins the first epoch, if there are to be any.
    pub(super) fn begin(&self, device: BorrowedFd<'_>, notifier: Notifier) {
        if !self.is_kept() {
            return;
        }
        match device.try_clone_to_owned() {
            Ok(device) => {
                // Nobody else sets it.
                let _ = self.line.set(Line { device, notifier });
            }
            Err(error) => {
                log::warn!("op=epoch: {error}: the kernel is to keep no names");
                self.is_kept.store(false, Ordering::Relaxed);
            }
        }
    }

    /// What was looked up before this is looked up again.
    pub(crate) fn advance(&self) {
        metrics::epoch_ended();
        self.count.fetch_add(1, Ordering::AcqRel);
        if !self.is_kept() {
            return;
        }
        self.tell();
        let mut listings = self.listings.lock();
        let noted: Duration = NOTED.iter().sum();
        if listings.answered_at.is_some_and(|at| at.elapsed() < noted) {
            listings.is_due = true;
            self.due.notify_one();
        }
    }

    /// Records have changed: their attributes, and what has which name.
    pub(crate) fn changed(&self, images: &[ImageNumber]) {
        if let Some(line) = self.line.get() {
            for number in images {
                let inode = INodeNo(Node::Image(*number).inode());
                if let Err(error) = line.notifier.inval_inode(inode, -1, 0) {
                    log::debug!("op=inval_inode: {error}");
                }
            }
        }
        self.advance();
    }

    fn tell(&self) {
        if let Some(line) = self.line.get()
            && let Err(error) =
                rustix::io::write(line.device.as_fd(), &NEXT.map(u32::to_ne_bytes).concat())
        {
            log::debug!("op=epoch: {error}");
        }
    }

    /// How long the kernel may keep what was found by a look-up, or what a request answered; `is_settled`
    /// says that only a commit changes it.
    pub(crate) fn kept(&self, is_settled: bool) -> Duration {
        if is_settled && self.is_kept() { KEPT } else { Duration::ZERO }
    }

    /// Which epoch it is, for [`listed`](Self::listed).
    pub(crate) fn now(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// How long the kernel may keep a line of a listing that was begun in the epoch `since`.
    pub(crate) fn listed(&self, is_settled: bool, since: u64) -> Duration {
        self.kept(is_settled && self.now() == since).min(LISTED)
    }

    /// Notes that a listing is about to be answered that was begun in the epoch `since`.
    pub(crate) fn lists(&self, since: u64) {
        let mut listings = self.listings.lock();
        listings.answered_at = Some(Instant::now());
        if self.now() != since {
            listings.is_due = true;
            self.due.notify_one();
        }
    }

    /// Ends epochs once more that a listing may have missed the end of, until it is stopped.
    pub(crate) fn run(&self) {
        let mut listings = self.listings.lock();
        while !listings.is_stopped {
            if !listings.is_due {
                self.due.wait(&mut listings);
                continue;
            }
            listings.is_due = false;
            drop(listings);
            for pause in NOTED {
                std::thread::sleep(pause);
                self.tell();
            }
            listings = self.listings.lock();
        }
    }

    /// Ends [`run`](Self::run).
    pub(crate) fn stop(&self) {
        self.listings.lock().is_stopped = true;
        self.due.notify_one();
    }
}
