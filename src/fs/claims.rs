//! What a thread is to find when it looks a name up again.
//!
//! An open whose inode can't be opened any more, or is to be replaced, is answered with ESTALE: the kernel
//! looks the name up once more, from the same thread, and opens what it is given. What that is was made and
//! opened beforehand, and waits here; what nobody comes for is closed after a time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::content::Opened;
use super::gesture::Usage;
use crate::image::{ImageName, ImageNumber};

/// How long an opened file waits for the thread that it was opened for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a thread is expected to look again, which it does at once.
const LOOKED_FOR: Duration = Duration::from_secs(1);

struct Claim {
    thread: u32,
    name: ImageName,
    /// The inode that was opened at first.
    instead_of: ImageNumber,
    number: ImageNumber,
    opened: Opened,
    until: Instant,
}

/// A thread that was told to look again, and is told so no second time: the kernel would pass that on.
struct Told {
    thread: u32,
    usage: Usage,
    until: Instant,
}

/// All that waits. The mutexes guard the lists alone.
#[derive(Default)]
pub(crate) struct Claims {
    waiting: Mutex<Vec<Claim>>,
    told: Mutex<Vec<Told>>,
}

impl Claims {
    /// Keeps what was opened for a thread that is told to look `name` up again, instead of the image that
    /// it opened.
    pub(crate) fn offer(
        &self,
        thread: u32,
        name: ImageName,
        (instead_of, number): (ImageNumber, ImageNumber),
        opened: Opened,
    ) {
        let until = Instant::now() + PATIENCE;
        self.waiting.lock().push(Claim { thread, name, instead_of, number, opened, until });
    }

    /// Notes that a thread is told to look again, and what for.
    pub(crate) fn tell(&self, thread: u32, usage: Usage) {
        let mut told = self.told.lock();
        let now = Instant::now();
        told.retain(|told| told.thread != thread && told.until > now);
        told.push(Told { thread, usage, until: now + LOOKED_FOR });
    }

    /// What a thread was told to look again for; from now on it is as if it never was.
    pub(crate) fn looks_again(&self, thread: u32) -> Option<Usage> {
        let mut told = self.told.lock();
        let at = told.iter().position(|told| told.thread == thread)?;
        let told = told.swap_remove(at);
        (told.until > Instant::now()).then_some(told.usage)
    }

    /// The image that a thread is to find under a name in `active/`.
    pub(crate) fn named(&self, thread: u32, name: &ImageName) -> Option<ImageNumber> {
        let waiting = self.waiting.lock();
        let found = waiting.iter().find(|claim| claim.thread == thread && claim.name == *name);
        found.map(|claim| claim.number)
    }

    /// What waits for a thread that opens an image.
    pub(crate) fn take(&self, thread: u32, number: ImageNumber) -> Option<Opened> {
        self.remove(|claim| claim.thread == thread && claim.number == number)
    }

    /// What waits in vain for a thread: it came back with the inode that it had opened at first.
    pub(crate) fn refuse(&self, thread: u32, number: ImageNumber) -> Option<Opened> {
        self.remove(|claim| claim.thread == thread && claim.instead_of == number)
    }

    /// What waits for a thread that looks for something else.
    pub(crate) fn abandoned(&self, thread: u32) -> Option<Opened> {
        self.remove(|claim| claim.thread == thread)
    }

    /// What nobody came for.
    pub(crate) fn expired(&self) -> Option<Opened> {
        let now = Instant::now();
        self.remove(|claim| claim.until <= now)
    }

    /// Whether anything waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    fn remove(&self, is_it: impl Fn(&Claim) -> bool) -> Option<Opened> {
        let mut waiting = self.waiting.lock();
        let at = waiting.iter().position(is_it)?;
        Some(waiting.swap_remove(at).opened)
    }
}
